"""Figures of one trained model beside those of the yardsticks, as plain JSON values."""

from __future__ import annotations

from typing import Any, Literal

import torch

from rsir.data.splits import Cases
from rsir.errors import ConfigError, DataError
from rsir.evaluate import BUCKETS, EvaluationConfig, Progress, by_bucket, evaluate
from rsir.models.base import Recommender
from rsir.models.item_knn import ItemKNN
from rsir.models.popular import popular_yardsticks
from rsir.run import Run

Part = Literal["valid", "test"]


def assess(
    run: Run,
    *,
    round_index: int | None = None,
    part: Part = "test",
    config: EvaluationConfig | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a model of a run; the run directory is not changed.

    Args:
        run: the run.
        round_index: which model; default the chosen round's.
        part: "test" or "valid"; the test split of a run that is not finished stays sealed.
        config: cutoffs and seen policy; default the run's.
        device: where to compute.
        progress: called with cases done and cases in all.

    Returns:
        `run`, `round`, `split`, `seen`, `metrics`, `warm_metrics`, `ceiling`, `counts`, `by_history_length`,
        `by_target_count` (lists of buckets) and `yardsticks` (metrics of most_popular, item_knn, and, where
        the log has times, recent_popular).

    Raises:
        ConfigError: for an unknown part.
        DataError: for a round that is not there, or the test split of an unfinished run.
    """
    cases, k = _cases(run, part), run.chosen_round() if round_index is None else round_index
    config = config or run.config.evaluation
    train = run.split().train
    counts = train.item_counts()
    model = run.model(k).to(device)
    found = evaluate(model, cases, counts, config, device=device, progress=progress)
    rivals: dict[str, Recommender] = {**popular_yardsticks(train), "item_knn": ItemKNN(train)}
    frame = found.per_user_frame()
    return {
        "run": str(run.folder),
        "round": k,
        "split": part,
        "seen": config.seen,
        "metrics": found.metrics,
        "warm_metrics": found.warm_metrics,
        "ceiling": found.ceiling,
        "counts": found.counts,
        **{f"by_{name}": by_bucket(frame, name).to_dicts() for name in BUCKETS},  # type: ignore[arg-type]
        "yardsticks": {
            name: evaluate(rival, cases, counts, config).metrics for name, rival in rivals.items()
        },
    }


def _cases(run: Run, part: Part) -> Cases:
    if part not in ("valid", "test"):
        raise ConfigError(f"split {part!r} is not known: choose valid or test")
    if part == "test" and run.store.result() is None:
        raise DataError(
            f"{run.folder} is not finished, its test split is read at the end: "
            "finish it with rsir run --resume, or evaluate --split valid"
        )
    cut = run.split()
    return cut.test if part == "test" else cut.valid
