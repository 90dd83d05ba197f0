"""Trials: what they were, how the next is drawn, and what a setting was worth.

All that is known stands in a list of plain records; Optuna's study is made from it anew, and each draw is
keyed by the number of the trial, so that a search that was killed goes on as one that never was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rsir.errors import MissingExtraError
from rsir.rng import generator_seed
from rsir.tune.space import Axis

Record = dict[str, Any]
"""`number`, `state` ("completed", "pruned" or "failed"), `value`, `params`, `looks`, `seconds`."""

_STARTUP = 5
"""Trials before the sampler looks at earlier ones, and before any is pruned."""


def library() -> Any:
    """Optuna, with its own progress lines off.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("tuning needs Optuna: pip install 'rsir[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def study_of(records: Sequence[Record], axes: Sequence[Axis], seed: int) -> Any:
    """The study of these trials: a tree-structured Parzen estimator, pruning below the median of others."""
    optuna = library()
    sampler = optuna.samplers.TPESampler(
        seed=generator_seed(seed, "tune", len(records)) % 2**32, n_startup_trials=_STARTUP
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    for record in records:
        study.add_trial(_frozen(optuna, record, axes))
    return study


def _frozen(optuna: Any, record: Record, axes: Sequence[Axis]) -> Any:
    states = {"completed": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[states[record["state"]]],
        value=record["value"] if record["state"] == "completed" else None,
        params=record["params"],
        distributions={axis.key: axis.distribution() for axis in axes},
        intermediate_values=dict(enumerate(record["looks"], start=1)),
    )


def next_trial(study: Any, axes: Sequence[Axis], first: dict[str, Any]) -> Any:
    """A trial to make; the very first has the settings as they are, where they lie in the space."""
    if not study.trials and all(_holds(axis, first[axis.key]) for axis in axes):
        study.enqueue_trial(first)
    return study.ask({axis.key: axis.distribution() for axis in axes})


def _holds(axis: Axis, value: Any) -> bool:
    """Whether an axis holds a value."""
    if axis.choices:
        return value in axis.choices
    assert axis.low is not None and axis.high is not None
    return isinstance(value, int | float) and axis.low <= value <= axis.high


def looking(trial: Any) -> Callable[[int, float], None]:
    """Told of a look at validation (number from 1, figure), it ends a trial that is not worth going on.

    The exception it raises is Optuna's `TrialPruned`.
    """
    optuna = library()

    def look(period: int, value: float) -> None:
        trial.report(value, period)
        if trial.should_prune():
            raise optuna.TrialPruned

    return look


def best(records: Sequence[Record]) -> Record | None:
    """The completed trial of the highest value, the earliest of equals."""
    completed = [record for record in records if record["state"] == "completed"]
    return max(completed, key=lambda record: (record["value"], -record["number"]), default=None)


def importance(records: Sequence[Record], axes: Sequence[Axis], seed: int) -> dict[str, float] | None:
    """The share of each setting in what distinguishes the best trials (PED-ANOVA); sums to 1.

    Watanabe, Bansal & Hutter, IJCAI 2023. None for fewer than 8 completed trials, or where all are
    worth the same.
    """
    values = [record["value"] for record in records if record["state"] == "completed"]
    if len(values) < 8 or min(values) == max(values) or len(axes) < 2:
        return None
    evaluator = library().importance.PedAnovaImportanceEvaluator()
    shares = library().importance.get_param_importances(study_of(records, axes, seed), evaluator=evaluator)
    return {key: float(share) for key, share in shares.items()}
