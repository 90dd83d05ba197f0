"""The settings of acquisition, and the rule they name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rsir.acquire.admission import AcquisitionRule, Scope
from rsir.acquire.balanced import Balanced
from rsir.acquire.cap_per_source import CapPerSource
from rsir.acquire.disagreement import Disagreement, KeptBins
from rsir.acquire.retain_all import RetainAll
from rsir.acquire.uncertainty import refuse_no_dropout
from rsir.errors import ConfigError
from rsir.models.base import Recommender, SequenceModel
from rsir.settings import Settings


class AcquisitionConfig(Settings):
    """Which verified rollouts are admitted."""

    rule: Literal["retain_all", "cap_per_source", "disagreement", "balanced"] = Field(
        "retain_all",
        description="admit all verified rollouts; at most `cap` of each source; one of each bin of model "
        "disagreement (DA-RSIR); balanced over source length and item popularity",
    )
    cap: int | None = Field(None, ge=1, description="rollouts of a source under cap_per_source, balanced")
    scope: Scope = Field(
        "user", description="a duplicate repeats a sequence of the same user, or of anyone (global)"
    )
    passes: int = Field(10, ge=2, description="T: dropout passes of disagreement")
    bins: int = Field(
        3, ge=1, description="bins of a source under disagreement; one rollout of each is taken"
    )
    keep: KeptBins = Field("each", description="bins that disagreement takes from: each, lowest or highest")


def acquisition_rule(
    config: AcquisitionConfig, min_length: int = 3, model: Recommender | None = None
) -> AcquisitionRule:
    """The rule a configuration names.

    Args:
        config: the settings.
        min_length: shortest admitted rollout.
        model: the model that generated; `disagreement` asks it, and cannot admit without.

    Raises:
        ConfigError: if `cap` is missing, or given to a rule that has none, or the model has no dropout.
    """
    if config.rule in ("retain_all", "disagreement") and config.cap is not None:
        use = "acquisition.bins" if config.rule == "disagreement" else "'cap_per_source'"
        raise ConfigError(f"cap={config.cap} means nothing to rule='{config.rule}'; use {use}")
    if config.rule == "retain_all":
        return RetainAll(min_length, config.scope)
    if config.rule == "balanced":
        return Balanced(config.cap, min_length, config.scope)
    if config.rule == "disagreement":
        asked = _network(model)
        return Disagreement(asked, config.passes, config.bins, config.keep, min_length, config.scope)
    if config.cap is None:
        raise ConfigError("rule='cap_per_source' needs a cap; set acquisition.cap to 1 or more")
    return CapPerSource(config.cap, min_length, config.scope)


def _network(model: Recommender | None) -> SequenceModel | None:
    """The model as one with dropout; None passes, for a check of the settings alone."""
    if model is None:
        return None
    if not isinstance(model, SequenceModel):
        raise ConfigError(
            f"rule='disagreement' asks a network with dropout; {type(model).__name__} is none: "
            "choose another acquisition.rule"
        )
    refuse_no_dropout(model)
    return model
