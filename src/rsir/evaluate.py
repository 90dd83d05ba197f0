"""Evaluation to the letter: the whole catalogue, tie-aware ranks, misses counted, every case kept.

What becomes of items already in the history is a policy that is stated, with the ceiling it
sets (see `models/ranking.py`). A cold target (in no training sequence) is a miss, whatever
score it got; figures over warm targets alone may stand beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import polars as pl
import torch
from pydantic import Field
from torch import Tensor

from rsir.data.splits import Cases
from rsir.errors import ConfigError, DataError
from rsir.metrics import accuracy, beyond_accuracy, by_name
from rsir.models.base import Recommender
from rsir.models.ranking import Progress, SeenPolicy, ranks, ranks_and_lists, repeated
from rsir.settings import Settings

__all__ = [
    "BUCKETS",
    "Evaluation",
    "EvaluationConfig",
    "Progress",
    "SeenPolicy",
    "by_bucket",
    "evaluate",
    "ranks",
]

BUCKETS: dict[str, tuple[int, ...]] = {
    "history_length": (1, 4, 6, 11, 21),
    "target_count": (0, 1, 6, 11, 26, 101),
}
"""First value of each bucket of a breakdown; the last bucket is open."""


class EvaluationConfig(Settings):
    """What is measured, and what becomes of items already in the history."""

    cutoffs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (5, 10, 20), min_length=1, description="List lengths k at which each metric is taken."
    )
    seen: SeenPolicy = Field(
        "mask", description="Items already in the history: mask, mask_except_target or allow."
    )


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one evaluation, with the values of every case for paired tests.

    Attributes:
        config: what was asked for.
        user: int64 (N,), whose case it is.
        target: int64 (N,), the held-out item.
        rank: float64 (N,), from 1; +inf for a miss (cold, or masked since repeated).
        cold: bool (N,), the target is in no training sequence.
        repeated: bool (N,), the target is already in the history.
        history_length: int64 (N,), events in the history.
        target_count: int64 (N,), training events of the target.
        metrics: mean over all cases by name ("ndcg@10"); cold targets are misses.
        warm_metrics: mean over the cases whose target is not cold; accuracy only.
        ceiling: the highest recall any model can reach under the policy.
        lists: int64 (N, K), recommended items, best first, −1 where none is left; or None.
    """

    config: EvaluationConfig
    user: Tensor
    target: Tensor
    rank: Tensor
    cold: Tensor
    repeated: Tensor
    history_length: Tensor
    target_count: Tensor
    metrics: dict[str, float]
    warm_metrics: dict[str, float]
    ceiling: float
    lists: Tensor | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases, of cold and of repeated targets."""
        return {
            "cases": self.rank.numel(),
            "cold": int(self.cold.sum()),
            "repeated": int(self.repeated.sum()),
        }

    def values(self, name: str) -> Tensor:
        """The accuracy metric `name` ("ndcg@10") of each case; float64 (N,)."""
        return by_name(name, self.rank)

    def per_user_frame(self) -> pl.DataFrame:
        """One line a case: user, target, rank, history_length, target_count, cold, repeated."""
        names = ("user", "target", "rank", "history_length", "target_count", "cold", "repeated")
        return pl.DataFrame({name: getattr(self, name).numpy() for name in names})

    def summary(self) -> str:
        """One line on what was evaluated: the policy, cold and repeated targets, the ceiling."""
        counts = self.counts
        return (
            f"{counts['cases']:,} cases, seen items: {self.config.seen}; {counts['cold']:,} cold and "
            f"{counts['repeated']:,} repeated targets; highest reachable recall {self.ceiling:.4f}"
        )


def evaluate(
    model: Recommender,
    cases: Cases,
    train_counts: Tensor,
    config: EvaluationConfig | None = None,
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    with_lists: bool = True,
) -> Evaluation:
    """Rank the catalogue for every case and sum up.

    Args:
        model: the recommender; a network is put in evaluation mode for the while.
        cases: histories and held-out targets.
        train_counts: int64 (V,), training events of each item; 0 makes an item cold.
        config: cutoffs and seen policy.
        batch_size: cases scored at a time; at most two (batch_size, V) matrices are held. See `ranks`.
        device: where the model is; default the device of its parameters, else of the cases.
        progress: called with cases done and cases in all.
        with_lists: keep the recommended lists, and report coverage, Gini, popularity, novelty.

    Raises:
        DataError: if there are no cases, or `train_counts` is not of the model's catalogue.
        ModelError: if a score is not finite or the scores have a wrong shape.
    """
    config = config or EvaluationConfig()
    _refuse_other_catalogue(train_counts, model)
    rank, lists = ranks_and_lists(
        model,
        cases,
        config.seen,
        max(config.cutoffs) if with_lists else 0,
        train_counts=train_counts,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    return _summed_up(config, cases.to("cpu"), train_counts.cpu(), rank, lists if with_lists else None)


def _refuse_other_catalogue(train_counts: Tensor, model: Recommender) -> None:
    if train_counts.shape != (model.num_items,):
        shape = tuple(train_counts.shape)
        raise DataError(
            f"train_counts has shape {shape}; the model needs ({model.num_items},), a count an item"
        )


def _summed_up(
    config: EvaluationConfig, cases: Cases, train_counts: Tensor, rank: Tensor, lists: Tensor | None
) -> Evaluation:
    """What the ranks of all cases say; see `Evaluation` for shapes."""
    target_count, again = train_counts[cases.target], repeated(cases)
    cold = target_count == 0
    lost = cold | again if config.seen == "mask" else cold
    metrics = accuracy(rank, config.cutoffs)
    if lists is not None:
        for k in config.cutoffs:
            metrics |= beyond_accuracy(lists, train_counts, k)
    return Evaluation(
        config=config,
        user=cases.user,
        target=cases.target,
        rank=rank,
        cold=cold,
        repeated=again,
        history_length=cases.histories.lengths,
        target_count=target_count,
        metrics=metrics,
        warm_metrics=accuracy(rank[~cold], config.cutoffs),
        ceiling=1 - float(lost.double().mean()),
        lists=lists,
    )


def by_bucket(
    evaluation: Evaluation | pl.DataFrame,
    by: Literal["history_length", "target_count"] = "history_length",
    edges: tuple[int, ...] | None = None,
    names: tuple[str, ...] = ("recall@10", "ndcg@10", "mrr@10"),
) -> pl.DataFrame:
    """Metrics by history length, or by the training count of the target (0: cold).

    Args:
        evaluation: an evaluation, or its `per_user_frame()`.
        by: the column to cut.
        edges: first value of each bucket, rising; default `BUCKETS[by]`.
        names: accuracy metrics.

    Returns:
        A line for each bucket with cases: `bucket` ("4-5", "21+"), `cases`, one column a metric.

    Raises:
        ConfigError: if `by` is unknown, or the edges do not rise or leave out a case.
    """
    frame = evaluation.per_user_frame() if isinstance(evaluation, Evaluation) else evaluation
    if by not in BUCKETS:
        raise ConfigError(f"by is {by!r}; cut by one of {', '.join(BUCKETS)}")
    edges = BUCKETS[by] if edges is None else edges
    _check_edges(edges, lowest=int(frame[by].min() or 0))  # type: ignore[arg-type]
    rank = torch.from_numpy(frame["rank"].to_numpy().copy())
    ends = [*(f"-{high - 1}" if high - 1 > low else "" for low, high in pairwise(edges)), "+"]
    labels = pl.Series([f"{low}{end}" for low, end in zip(edges, ends, strict=True)])
    place = pl.Series(list(edges)).search_sorted(frame[by], side="right") - 1
    columns = {name: by_name(name, rank).numpy() for name in names}
    cut = pl.DataFrame({"place": place, **columns}).group_by("place")
    table = cut.agg(pl.len().alias("cases"), *(pl.col(name).mean() for name in names)).sort("place")
    return table.select(labels.gather(table["place"]).alias("bucket"), "cases", *names)


def _check_edges(edges: tuple[int, ...], lowest: int) -> None:
    if not edges or any(a >= b for a, b in pairwise(edges)):
        raise ConfigError(f"bucket edges {edges} must rise; give the first value of each bucket")
    if lowest < edges[0]:
        raise ConfigError(f"bucket edges start at {edges[0]} but a case has {lowest}; start there or lower")
