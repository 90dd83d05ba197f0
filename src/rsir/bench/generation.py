"""Generation: rollouts a second, beside a loop over rows, a dense program and a plain matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rsir.bench.clock import Product, Timed, circumstances, figure, interleaved, peak_bytes, timed
from rsir.bench.profile import profile
from rsir.bench.rollouts import Made, Task, dense, exact_scores, plain_scores, row_loop
from rsir.bench.workload import Note, network, random_sources, sizes, train_for, untrained, workload
from rsir.config import Config
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.generate import generate
from rsir.models.base import SequenceModel

ROUND = 1
_BATCH, _TILE = 512, 16_384
"""Prefixes and items of the plain matrix product."""
_SCORES_AT_ONCE = 1 << 25
"""Rollouts × items that a rival holds at a time; 512 rollouts up to 65,536 items."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on a measurement.

    Attributes:
        passes: training passes before; rollouts of an untrained model end at once.
        repeats: of ours and the rivals in turn; the least time of each counts.
        oracle_sources: sources compared item for item with the exact loop.
        row_loop_sources: sources the loop over rows is timed on.
        dense_sources: sources the dense program is timed on.
        once: ours runs once only: no profile, no figure for four times the rollouts.
    """

    passes: int = 3
    repeats: int = 3
    oracle_sources: int = 40
    row_loop_sources: int = 600
    dense_sources: int = 3000
    once: bool = False


def measure_generation(
    log: Path | None, config: Config, effort: Effort, *, device: torch.device | str, note: Note
) -> dict[str, Any]:
    """Train a model for a few passes, generate a round, compare.

    Returns:
        One JSON object; see docs/benchmarks.md.

    Raises:
        DataError: if the log cannot be used.
    """
    work = workload(log, config)
    note(f"{work.name}: training for {effort.passes} passes")
    data = work.split.train
    model = untrained(config, data.num_items, device)
    train_for(model, data, config.training, effort.passes, seed=config.seed, device=device)
    found = compare(model.eval(), data, config, effort, device=device, note=note)
    return {**circumstances("generation", device), "data": work.facts(), **found}


def measure_large(
    num_items: int, num_sources: int, overrides: list[str], threads: int, device: str
) -> dict[str, Any]:
    """A catalogue of any size under an untrained model: for memory; call it in a process of its own."""
    from rsir.config import load_config

    torch.set_num_threads(threads)
    config = load_config(None, overrides)
    data = random_sources(num_items, num_sources, 8, config.seed)
    effort = Effort(0, 1, oracle_sources=3, row_loop_sources=20, dense_sources=20, once=True)
    model = untrained(config, num_items, device)
    found = compare(model, data, config, effort, device=device, note=lambda line: None)
    facts = {"name": "random sources, untrained model", **sizes(data)}
    return {**circumstances("generation", device), "data": facts, **found}


def compare(
    model: SequenceModel,
    data: Sequences,
    config: Config,
    effort: Effort,
    *,
    device: torch.device | str,
    note: Note,
) -> dict[str, Any]:
    """Our generation and its rivals in turn, on the same model and sources."""
    ours = partial(_generate, model, data, config, device)
    note(f"generating {config.generation.num_rollouts} rollouts of {len(data):,} sources")
    first = timed(ours)
    made, peak = first.result, peak_bytes()
    note("the profile")
    share, where = (None, {}) if effort.once else _profiled(ours)
    note(f"{effort.repeats} times in turn: ours, four times the rollouts, the rivals, a plain matrix product")
    tasks = _tasks(data, config, effort)
    product = Product(_BATCH, network(config).dim, min(_TILE, model.num_items), device=device)
    more = partial(_generate, model, data, _with_rollouts(config, 4), device)
    acts: dict[str, Callable[[], Any]] = {
        **({} if effort.once else {"ours": ours, "more": more}),
        "row_loop": partial(row_loop, plain_scores(model), tasks["row_loop"]),
        "dense": partial(dense, model, tasks["dense"]),
        "product": product,
    }
    took = {"ours": first, **interleaved(acts, effort.repeats)}
    rivals = {name: _rival(took[name], task, made) for name, task in tasks.items()}
    note("the oracle")
    return {
        "settings": _settings(config, effort),
        "equal_to_oracle": _equals_oracle(model, data, config, effort, made),
        "oracle_sources": min(effort.oracle_sources, len(data)),
        **_speed(took["ours"]),
        "peak_rss_bytes": peak,
        **{f"speedup_vs_{name}": _speedup(took["ours"], rival) for name, rival in rivals.items()},
        **{f"cpu_speedup_vs_{name}": _cpu_speedup(took["ours"], rival) for name, rival in rivals.items()},
        **_matrix(model, took["ours"], product, took["product"], share),
        "four_times_the_rollouts": None if effort.once else _growth(took["ours"], took["more"]),
        "rivals": rivals,
        "profile": where,
    }


def _tasks(data: Sequences, config: Config, effort: Effort) -> dict[str, Task]:
    """What each rival makes: the rollouts of so many sources as it can be waited for."""
    chunk = max(1, min(512, _SCORES_AT_ONCE // data.num_items))
    return {
        name: Task.evenly(data, count, config.generation, (config.seed, ROUND), chunk)
        for name, count in (("row_loop", effort.row_loop_sources), ("dense", effort.dense_sources))
    }


def _settings(config: Config, effort: Effort) -> dict[str, Any]:
    return {
        "dim": network(config).dim,
        "passes": effort.passes,
        "rollouts": config.generation.num_rollouts,
        "max_rank": config.generation.max_rank,
    }


def _generate(model: SequenceModel, data: Sequences, config: Config, device: torch.device | str) -> Rollouts:
    return generate(model, data, config.generation, seed=config.seed, round_index=ROUND, device=device)


def _profiled(act: Callable[[], object]) -> tuple[float | None, dict[str, float]]:
    """The share of scoring and where the time goes, with one thread: a profile sees the calling one alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return profile(act, "ask", "scorers")
    finally:
        torch.set_num_threads(threads)


def _with_rollouts(config: Config, times: int) -> Config:
    more = {"num_rollouts": times * config.generation.num_rollouts}
    return config.model_copy(update={"generation": config.generation.model_copy(update=more)})


def _speed(ours: Timed[Rollouts]) -> dict[str, Any]:
    made = ours.result
    return {
        "rollouts": len(made),
        "steps": made.steps,
        "distinct_prefixes": made.distinct_prefixes,
        "seconds": figure(ours.seconds),
        "cpu_seconds": figure(ours.cpu_seconds),
        "rollouts_per_second": figure(len(made) / ours.seconds),
        "steps_per_second": figure(made.steps / ours.seconds),
        "microseconds_per_step": figure(ours.seconds / made.steps * 1e6),
    }


def _speedup(ours: Timed[Rollouts], rival: dict[str, Any]) -> float:
    return figure(ours.result.steps / ours.seconds / rival["steps_per_second"])


def _growth(ours: Timed[Rollouts], more: Timed[Rollouts]) -> dict[str, Any]:
    return {
        **_speed(more),
        "time_ratio": figure(more.seconds / ours.seconds),
        "cpu_time_ratio": figure(more.cpu_seconds / ours.cpu_seconds),
    }


def _cpu_speedup(ours: Timed[Rollouts], rival: dict[str, Any]) -> float:
    """The same in processor seconds, which other work on the machine disturbs less."""
    return figure(rival["cpu_seconds"] / rival["steps"] / (ours.cpu_seconds / ours.result.steps))


def _rival(found: Timed[Made], task: Task, ours: Rollouts) -> dict[str, Any]:
    """Its speed, and the share of its rollouts equal to ours: float32 may settle near ties otherwise."""
    theirs, same = found.result.rollouts, _of(task, ours)
    return {
        "sources": len(task.rows),
        "steps": found.result.steps,
        "seconds": figure(found.seconds),
        "cpu_seconds": figure(found.cpu_seconds),
        "steps_per_second": figure(found.result.steps / found.seconds),
        "same_rollouts": figure(sum(a == b for a, b in zip(theirs, same, strict=True)) / len(same), 6),
    }


def _of(task: Task, ours: Rollouts) -> list[list[int]]:
    """Our rollouts of the task's sources, source by source and by number."""
    places = [torch.nonzero(ours.source == row).flatten() for row in task.rows]
    return ours.events.select(torch.cat(places).to(ours.events.values.device)).tolists()


def _equals_oracle(
    model: SequenceModel, data: Sequences, config: Config, effort: Effort, ours: Rollouts
) -> bool:
    """Whether our rollouts are those of the loop over rows with exact scores, item for item."""
    task = Task.evenly(data, effort.oracle_sources, config.generation, (config.seed, ROUND), chunk=16)
    return row_loop(exact_scores(model), task).rollouts == _of(task, ours)


def _matrix(
    model: SequenceModel,
    ours: Timed[Rollouts],
    product: Product,
    took: Timed[None],
    scoring_share: float | None,
) -> dict[str, Any]:
    """The time of one plain float32 product of all distinct prefixes with all items, over our time."""
    rows, dim, columns = *product.left.shape, len(product.right)
    parts = 2.0 * ours.result.distinct_prefixes * dim * model.num_items / product.operations
    fraction = parts * took.seconds / ours.seconds
    return {
        "matrix_rate_fraction": figure(fraction),
        "cpu_matrix_rate_fraction": figure(parts * took.cpu_seconds / ours.cpu_seconds),
        "matrix_rate_fraction_of_scoring": figure(fraction / scoring_share) if scoring_share else None,
        "scoring_share": scoring_share,
        "matrix_gflops": figure(product.rate(took) / 1e9),
        "matrix_shape": [rows, dim, columns],
    }
