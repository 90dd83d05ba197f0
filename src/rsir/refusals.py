"""Settings that cannot work together, or not with this log: refused before anything is made."""

from __future__ import annotations

import torch

from rsir.acquire import acquisition_rule
from rsir.acquire.uncertainty import has_dropout
from rsir.config import Config
from rsir.data.splits import Split
from rsir.errors import ConfigError
from rsir.models import ModelConfig, build_model
from rsir.models.base import SequenceModel
from rsir.train import period_of


def refuse_untrainable(cut: Split, config: Config, teacher: SequenceModel | None = None) -> None:
    """Fail before anything is made where training, generation or admission would fail later.

    Args:
        cut: of the log.
        config: as resolved.
        teacher: another run's model that generates and judges, if one does.

    Raises:
        DataError: if no training sequence has two events.
        ConfigError: if the acquisition rule and its cap do not fit, or it needs dropout and the writer has
            none, or the model is to read times that the log does not have, or more than the teacher, or a
            sampled loss is to have soft targets, or no rollout can be long enough.
    """
    if getattr(config.model, "time_bias", False) is True and cut.train.events.time is None:
        raise ConfigError(
            "model.time_bias = true needs times, the log has none: name --time-column, or leave it at auto"
        )
    period_of(cut.train, config.training, config.model.max_length)
    acquisition_rule(config.acquisition)
    if config.recursion.rounds:
        config.successor_model()
        _refuse_soft_targets(config)
        _refuse_no_rollout(config)
        _refuse_short_sighted(teacher, config)
        _refuse_no_dropout(config, cut.train.num_items, teacher)


def _refuse_soft_targets(config: Config) -> None:
    rules, loss = config.recursion, config.training.loss
    if (rules.soft_observed or rules.soft_synthetic) and loss != "softmax":
        raise ConfigError(
            f"training.loss is {loss!r}; recursion.soft_observed and soft_synthetic need 'softmax': "
            "set it, or both to 0"
        )


def _refuse_no_rollout(config: Config) -> None:
    """Rollouts end at their maximal length; none is accepted if the least is above it.

    Histories behind earlier items may be longer.
    """
    least, most = config.generation.min_length, config.generation.max_length
    if least > most and not config.recursion.earlier_items:
        raise ConfigError(
            f"generation.min_length = {least} is above generation.max_length = {most}, so no rollout can be "
            "accepted: lower it"
        )


def _refuse_short_sighted(teacher: SequenceModel | None, config: Config) -> None:
    wanted = config.model.max_length
    if teacher is not None and teacher.max_length < wanted:
        raise ConfigError(
            f"the teacher reads {teacher.max_length} events, the model {wanted}: "
            f"set model.max_length={teacher.max_length}"
        )


def _refuse_no_dropout(config: Config, num_items: int, teacher: SequenceModel | None) -> None:
    """Whoever writes is asked for its disagreement, a successor only where no base writes beside it."""
    rules = config.recursion
    if config.acquisition.rule != "disagreement":
        return
    acquisition_rule(config.acquisition, model=teacher or _unmade(config.model, num_items))
    alone = teacher is None and rules.writers == "newest" and rules.rounds > 1 and rules.bases_of(2) == 1
    if alone and not has_dropout(_unmade(config.successor_model(), num_items)):
        raise ConfigError(
            "acquisition.rule='disagreement' needs dropout, and with recursion.dropout_share = "
            f"{config.successor_dropout_share:g} the model of round 1, which alone writes round 2, has none: "
            "raise it, or choose another rule"
        )


def _unmade(shape: ModelConfig, num_items: int) -> SequenceModel:
    """A network without memory or numbers, to look at its layers."""
    with torch.device("meta"):
        return build_model(shape, num_items)
