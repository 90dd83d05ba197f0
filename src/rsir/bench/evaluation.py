"""Evaluation: every user's rank in the whole catalogue, beside a program that sorts and a matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsir.bench.clock import Product, circumstances, figure, interleaved, peak_bytes
from rsir.bench.profile import profile
from rsir.bench.workload import Note, Workload, network, train_for, untrained, workload
from rsir.config import Config
from rsir.data.splits import Cases
from rsir.evaluate import Evaluation, evaluate
from rsir.models.base import SequenceModel

_BATCH = 256


@dataclass(frozen=True)
class Effort:
    """How much is spent on a measurement.

    Attributes:
        passes: training passes before; the last is the epoch that evaluation is compared with.
        repeats: of ours and its rival in turn; the least time of each counts.
        sorted_cases: cases that the rival is timed on.
    """

    passes: int = 2
    repeats: int = 3
    sorted_cases: int = 2000


def measure_evaluation(
    log: Path | None, config: Config, effort: Effort, *, device: torch.device | str, note: Note
) -> dict[str, Any]:
    """Train for a few passes, evaluate all test cases, compare.

    Raises:
        DataError: if the log cannot be used.
    """
    work = workload(log, config)
    note(f"{work.name}: training for {effort.passes} passes")
    model, epoch = _trained(work, config, effort.passes, device)
    cases, train = work.split.test.to(str(device)), work.split.train
    note(f"ranks of {len(cases):,} cases among {train.num_items:,} items")
    product = Product(_BATCH, network(config).dim, train.num_items, device=device)
    found = _compared(model, cases, train.item_counts(), product, config, effort, epoch)
    return {
        **circumstances("evaluation", device),
        "data": work.facts(),
        "settings": {"dim": network(config).dim, "passes": effort.passes, "seen": config.evaluation.seen},
        **found,
    }


def _trained(
    work: Workload, config: Config, passes: int, device: torch.device | str
) -> tuple[SequenceModel, float]:
    """A model after a few passes, and the seconds of the shortest."""
    model = untrained(config, work.split.train.num_items, device)
    done = train_for(model, work.split.train, config.training, passes, seed=config.seed, device=device)
    ends = [0.0, *(look.seconds for look in done.looks)]
    return model, min(b - a for a, b in zip(ends, ends[1:], strict=False))


def _compared(
    model: SequenceModel,
    cases: Cases,
    counts: Tensor,
    product: Product,
    config: Config,
    effort: Effort,
    epoch: float,
) -> dict[str, Any]:
    """Our evaluation in turn with its rival and a matrix product, and beside `epoch` seconds of training."""
    some = _first(cases, effort.sorted_cases)

    def ranked() -> Evaluation:
        return evaluate(model, cases, counts, config.evaluation, with_lists=False)

    _, where = profile(ranked, "evaluate", "evaluate")
    peak = peak_bytes()
    acts: dict[str, Callable[[], Any]] = {
        "ours": ranked,
        "lists": lambda: evaluate(model, cases, counts, config.evaluation),
        "sorting": lambda: ranks_by_sorting(model, some, config.evaluation.seen == "allow"),
        "product": product,
    }
    took = interleaved(acts, effort.repeats)
    ours, rival = took["ours"], took["sorting"]
    each = rival.seconds / len(some)
    parts = 2.0 * len(cases) * network(config).dim * model.num_items / product.operations
    same = _same(rival.result, ours.result.rank[: len(some)], some, counts)
    return {
        "cases": len(cases),
        "seconds": figure(ours.seconds),
        "cpu_seconds": figure(ours.cpu_seconds),
        "cases_per_second": figure(len(cases) / ours.seconds),
        "seconds_with_lists": figure(took["lists"].seconds),
        "seconds_per_epoch": figure(epoch),
        "share_of_epoch": figure(ours.seconds / epoch),
        "matrix_rate_fraction": figure(parts * took["product"].seconds / ours.seconds),
        "matrix_gflops": figure(product.rate(took["product"]) / 1e9),
        "peak_rss_bytes": peak,
        "rivals": {
            "sorting": {
                "cases": len(some),
                "cases_per_second": figure(1 / each),
                "same_ranks": figure(same, 6),
            }
        },
        "speedup_vs_sorting": figure(each * len(cases) / ours.seconds),
        "profile": where,
    }


def _first(cases: Cases, count: int) -> Cases:
    rows = torch.arange(min(count, len(cases)), device=cases.target.device)
    return Cases(cases.histories.select(rows), cases.target[rows], cases.user[rows])


def _same(theirs: Tensor, ours: Tensor, cases: Cases, counts: Tensor) -> float:
    """The share of equal ranks, cold and masked targets aside."""
    asked = ours.isfinite() & (counts[cases.target.cpu()] > 0)
    return float((theirs[asked] == ours[asked]).double().mean().nan_to_num())


@torch.no_grad()
def ranks_by_sorting(model: SequenceModel, cases: Cases, repeats: bool) -> Tensor:
    """As programs do it that need the list anyway: mask the history, sort the catalogue, find the target."""
    found = []
    for rows in torch.arange(len(cases), device=cases.target.device).split(_BATCH):
        histories, target = cases.histories.select(rows), cases.target[rows]
        scores = model.score(histories)
        if not repeats:
            scores[histories.row, histories.values] = float("-inf")
        order = scores.argsort(dim=1, descending=True)
        found.append((order == target[:, None]).nonzero()[:, 1] + 1)
    return torch.cat(found).double().cpu()
