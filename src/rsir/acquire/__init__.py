"""Acquisition: which verified rollouts enter the data.

RSIR (arXiv 2602.15659) admits all of them "without duplicates, of length ≥ 3" (`RetainAll`).
DA-RSIR (arXiv 2610.04302) takes one from each bin of model disagreement (`Disagreement`), and finds that a
cap for each source is already better than retain-all (`CapPerSource`). `Balanced` evens out source length and
item popularity.
A rule is any object with `admit`; one that needs a model or scores is built with them.
"""

from __future__ import annotations

from rsir.acquire.admission import AcquisitionRule, Admission
from rsir.acquire.balanced import Balanced
from rsir.acquire.cap_per_source import CapPerSource
from rsir.acquire.disagreement import Disagreement
from rsir.acquire.retain_all import RetainAll, identities
from rsir.acquire.settings import AcquisitionConfig, acquisition_rule

__all__ = [
    "AcquisitionConfig",
    "AcquisitionRule",
    "Admission",
    "Balanced",
    "CapPerSource",
    "Disagreement",
    "RetainAll",
    "acquisition_rule",
    "identities",
]
