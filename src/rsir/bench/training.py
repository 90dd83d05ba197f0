"""Training: seconds a pass with the whole softmax, beside a plain PyTorch program and other libraries."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rsir.bench.clock import Timed, circumstances, figure, matrix_rate, peak_bytes, timed
from rsir.bench.libraries import measure_library
from rsir.bench.plain import PlainSASRec, plain_pass
from rsir.bench.workload import Note, Workload, random_sources, sizes, train_for, untrained, workload
from rsir.config import Config
from rsir.data.batches import TrainingRows
from rsir.data.sequences import Sequences
from rsir.devices import resolve_precision
from rsir.evaluate import evaluate
from rsir.models.base import SequenceModel
from rsir.models.sasrec import SASRecConfig
from rsir.train import Fit, Look

_TILE_ROWS = 512


@dataclass(frozen=True)
class Effort:
    """How much is spent on a measurement.

    Attributes:
        passes: of ours; the fastest counts.
        plain_batches: of the plain rival, timed after as many to warm up; None for a whole pass.
        epochs: of the other libraries.
        share: of the batches of their epochs; their times are divided by it.
        most_passes: at most so many of ours until their NDCG is reached.
    """

    passes: int = 2
    plain_batches: int | None = 20
    epochs: int = 1
    share: float = 1.0
    most_passes: int = 30


def measure_training(
    log: Path | None,
    config: Config,
    effort: Effort,
    *,
    device: torch.device | str,
    note: Note,
    libraries: Path | None = None,
) -> dict[str, Any]:
    """Time passes of ours and of its rivals over the same training sequences.

    Args:
        log: None for simulated users.
        config: network, loss and seed.
        effort: how much of each.
        device: where ours and the plain rival train; the libraries train on the CPU.
        note: told what is being measured.
        libraries: the folder `benchmarks/rivals` with its environments; None leaves them out.

    Raises:
        DataError: if the log cannot be used.
        MeasurementError: if a library fails.
    """
    work = workload(log, config)
    found = compare(work.split.train, config, effort, device=device, note=note)
    facts = {**circumstances("training", device), "data": work.facts(), **found}
    return (
        facts if libraries is None else _with_libraries(facts, work, config, effort, libraries, device, note)
    )


def measure_large(
    num_items: int, num_sources: int, overrides: list[str], threads: int, device: str
) -> dict[str, Any]:
    """The whole softmax over a catalogue of any size: for memory; call it in a process of its own."""
    from rsir.config import load_config

    torch.set_num_threads(threads)
    config = load_config(None, overrides)
    data = random_sources(num_items, num_sources, 8, config.seed)
    found = compare(data, config, Effort(1, 0), device=device, note=lambda line: None)
    return {**circumstances("training", device), "data": {"name": "random sequences", **sizes(data)}, **found}


def compare(
    data: Sequences, config: Config, effort: Effort, *, device: torch.device | str, note: Note
) -> dict[str, Any]:
    """Ours, the plain rival, and the rate of a plain matrix product."""
    note(f"ours: {effort.passes} passes over {len(data):,} sequences")
    ours, loss = _our_pass(data, config, effort.passes, device)
    peak = peak_bytes()
    predictions = TrainingRows.build(data, config.model.max_length).num_predictions
    found: dict[str, Any] = {
        "settings": {
            "dim": config.model.dim,
            "blocks": config.model.num_blocks,
            "loss": config.training.loss,
            "batch_size": config.training.batch_size,
        },
        "seconds_per_pass": figure(ours.seconds),
        "cpu_seconds_per_pass": figure(ours.cpu_seconds),
        "predictions": predictions,
        "predictions_per_second": figure(predictions / ours.seconds),
        "peak_rss_bytes": peak,
        "loss": figure(loss),
        **_matrix(data, config, predictions, ours.seconds, device),
        "rivals": {},
    }
    if effort.plain_batches != 0:
        note("the plain PyTorch rival")
        _add(found, "plain", _plain(data, config, effort.plain_batches, predictions, device))
    return found


def _add(found: dict[str, Any], name: str, rival: dict[str, Any]) -> None:
    """A rival and the ratios to it."""
    found["rivals"][name] = rival
    found[f"speedup_vs_{name}"] = figure(rival["seconds_per_pass"] / found["seconds_per_pass"])
    found[f"cpu_speedup_vs_{name}"] = figure(rival["cpu_seconds_per_pass"] / found["cpu_seconds_per_pass"])


def _our_pass(
    data: Sequences, config: Config, passes: int, device: torch.device | str
) -> tuple[Timed[None], float]:
    """The fastest pass, and the loss of the last."""
    marks = [(time.perf_counter(), time.process_time())]
    done = _fit(data, config, passes, device, progress=lambda _: _mark(marks))
    gone = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(marks, marks[1:], strict=False)]
    seconds, processor = min(gone)
    return Timed(None, seconds, processor), done.looks[-1].loss


def _mark(marks: list[tuple[float, float]]) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    marks.append((time.perf_counter(), time.process_time()))


def _fit(
    data: Sequences,
    config: Config,
    passes: int,
    device: torch.device | str,
    *,
    validate: Callable[[SequenceModel], dict[str, float]] | None = None,
    progress: Callable[[Look], None] | None = None,
) -> Fit:
    model = untrained(config, data.num_items, device)
    return train_for(
        model,
        data,
        config.training,
        passes,
        seed=config.seed,
        device=device,
        validate=validate,
        progress=progress,
    )


def _matrix(
    data: Sequences, config: Config, predictions: int, seconds: float, device: torch.device | str
) -> dict[str, Any]:
    """The pass's arithmetic at the rate of a plain product, over our time.

    The softmax takes three products of predictions × dim × items (scores, and two gradients), a block
    6 dim² multiplications an event and as many again for each of two gradients; 2 operations each.
    """
    dim, items = config.model.dim, data.num_items
    blocks = config.model.num_blocks * 6 * dim**2
    operations = 6.0 * predictions * (dim * items + blocks)
    precision = resolve_precision(config.training.score_precision, device)
    rates = {
        name: matrix_rate(_TILE_ROWS, dim, items, dtype=getattr(torch, name), device=device)
        for name in ("float32", "bfloat16")
    }
    return {
        "matrix_rate_fraction": figure(operations / rates[precision] / seconds),
        "matrix_rate_fraction_float32": figure(operations / rates["float32"] / seconds),
        "precision": precision,
        "tflop_per_pass": figure(operations / 1e12),
        "matrix_gflops": {name: figure(rate / 1e9) for name, rate in rates.items()},
    }


def _plain(
    data: Sequences, config: Config, batches: int | None, predictions: int, device: torch.device | str
) -> dict[str, Any]:
    """Some batches of the plain rival, its time taken for each prediction."""
    assert isinstance(config.model, SASRecConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PlainSASRec(data.num_items, config.model).to(device)
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        size = config.training.batch_size
        plain_pass(model, adam, data, size, 2)  # warms up
        found = timed(lambda: plain_pass(model, adam, data, size, batches))
    made, loss = found.result
    return {
        "share_of_pass": figure(made / predictions),
        "seconds_per_pass": figure(found.seconds * predictions / made),
        "cpu_seconds_per_pass": figure(found.cpu_seconds * predictions / made),
        "loss": figure(loss),
    }


def _with_libraries(
    found: dict[str, Any],
    work: Workload,
    config: Config,
    effort: Effort,
    libraries: Path,
    device: torch.device | str,
    note: Note,
) -> dict[str, Any]:
    """The other libraries, one after another, and when ours reaches the NDCG that they end with."""
    for name in ("rectools", "recbole"):
        note(f"{name}: {effort.epochs} epochs")
        rival = measure_library(name, libraries, work.split, config, effort.epochs, effort.share)
        _add(found, name, rival)
    goals = {name: rival.get("ndcg@10") for name, rival in found["rivals"].items()}
    best = max((goal for goal in goals.values() if goal is not None), default=None)
    if best is None:
        return found
    note("ours until their validation NDCG@10 is reached")
    looks = _until(best, work, config, effort.most_passes, device)
    curve = [{"seconds": figure(look.seconds), "ndcg@10": figure(look.value)} for look in looks]
    for name, goal in goals.items():
        if goal is not None:
            reached = [look.seconds for look in looks if look.value >= goal]
            spent = found["rivals"][name]["seconds_to_ndcg"]
            ours = figure(reached[0]) if reached else None
            found["rivals"][name] |= {"our_seconds_to_ndcg": ours}
            found[f"ndcg_speedup_vs_{name}"] = figure(spent / ours) if ours else None
    return {**found, "curve": curve}


class _Reached(Exception):
    """The figure is reached: no further pass."""


def _until(goal: float, work: Workload, config: Config, most: int, device: torch.device | str) -> list[Look]:
    """Our passes with validation until NDCG@10 reaches `goal`."""
    counts, looks = work.split.train.item_counts(), list[Look]()

    def validate(model: SequenceModel) -> dict[str, float]:
        return evaluate(model, work.split.valid, counts, config.evaluation, with_lists=False).metrics

    def watch(look: Look) -> None:
        looks.append(look)
        if look.value >= goal:
            raise _Reached

    with suppress(_Reached):
        _fit(work.split.train, config, most, device, validate=validate, progress=watch)
    return looks
