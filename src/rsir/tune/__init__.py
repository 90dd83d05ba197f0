"""Budgeted search for settings on the validation split; the extra `tune`."""

from rsir.tune.search import Tuning, tune

__all__ = ["Tuning", "tune"]
