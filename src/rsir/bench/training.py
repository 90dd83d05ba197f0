"""Training: seconds a pass with the whole softmax, beside a plain PyTorch program and other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rsir.bench.clock import Product, Timed, circumstances, figure, interleaved, peak_bytes
from rsir.bench.libraries import LIBRARIES, check_environments, measure_library
from rsir.bench.plain import PlainSASRec, plain_pass
from rsir.bench.profile import profile
from rsir.bench.race import race
from rsir.bench.workload import Note, network, random_sources, sizes, train_for, untrained, workload
from rsir.config import Config
from rsir.data.batches import TrainingRows
from rsir.data.sequences import Sequences
from rsir.devices import resolve_precision
from rsir.train import Fit

_ROWS = 512
"""Of the plain matrix products."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on a measurement.

    Attributes:
        passes: of ours and of its rival in turn; the least time of each counts.
        plain_batches: of the plain rival in each turn; None for a whole pass, 0 leaves it out.
        epochs: of the other libraries.
        share: of the batches of their epochs; their times are divided by it.
        most_passes: at most so many of ours until their NDCG is reached and their time is over.
    """

    passes: int = 2
    plain_batches: int | None = 20
    epochs: int = 1
    share: float = 1.0
    most_passes: int = 100


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
        ConfigError: if an environment of a library is missing.
        DataError: if the log cannot be used.
        MeasurementError: if a library fails.
    """
    if libraries is not None:
        check_environments(libraries)
    work = workload(log, config)
    found = compare(work.split.train, config, effort, device=device, note=note)
    facts = {**circumstances("training", device), "data": work.facts(), **found}
    if libraries is None:
        return facts
    for name in LIBRARIES:
        note(f"{name}: {effort.epochs} epochs")
        rival = measure_library(name, libraries, work.split, config, effort.epochs, effort.share)
        _add(facts, name, rival)
    if effort.share == 1.0:
        note("ours until the libraries' validation NDCG@10 is reached and their time is over")
    return {**facts, **race(facts["rivals"], work.split, config, effort.most_passes, device)}


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
    """Ours, the plain rival and plain matrix products in turn."""
    note(f"{effort.passes} times in turn: a pass of ours over {len(data):,} sequences, the plain rival")
    predictions = TrainingRows.build(data, network(config).max_length).num_predictions
    fit, alone, where = lambda: _fit(data, config, device), dict[str, Timed[Any]](), dict[str, Any]()
    if effort.passes > 1:
        _, where = profile(fit, "fit", "train")
    else:  # for memory: nothing else may be there yet
        alone = interleaved({"ours": fit}, 1)
    peak = peak_bytes()
    products = {
        name: Product(_ROWS, network(config).dim, data.num_items, dtype=dtype, device=device)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    acts: dict[str, Callable[[], Any]] = {**({} if alone else {"ours": fit}), **products}
    if effort.plain_batches != 0:
        acts["plain"] = _plain(data, config, effort.plain_batches, device)
    took = {**interleaved(acts, effort.passes), **alone}
    ours = took["ours"]
    found: dict[str, Any] = {
        "settings": {
            "dim": network(config).dim,
            "blocks": network(config).num_blocks,
            "loss": config.training.loss,
            "batch_size": config.training.batch_size,
        },
        "seconds_per_pass": figure(ours.seconds),
        "cpu_seconds_per_pass": figure(ours.cpu_seconds),
        "predictions": predictions,
        "predictions_per_second": figure(predictions / ours.seconds),
        "peak_rss_bytes": peak,
        "loss": figure(ours.result.looks[-1].loss),
        **_matrix(config, data.num_items, predictions, ours, products, took),
        "rivals": {},
        "profile": where,
    }
    if "plain" in took:
        _add(found, "plain", _whole_pass(took["plain"], predictions))
    return found


def _add(found: dict[str, Any], name: str, rival: dict[str, Any]) -> None:
    """A rival and the ratios to it."""
    found["rivals"][name] = rival
    found[f"speedup_vs_{name}"] = figure(rival["seconds_per_pass"] / found["seconds_per_pass"])
    found[f"cpu_speedup_vs_{name}"] = figure(rival["cpu_seconds_per_pass"] / found["cpu_seconds_per_pass"])


def _fit(data: Sequences, config: Config, device: torch.device | str) -> Fit:
    """One pass of a fresh model."""
    model = untrained(config, data.num_items, device)
    return train_for(model, data, config.training, 1, seed=config.seed, device=device)


def _matrix(
    config: Config,
    num_items: int,
    predictions: int,
    ours: Timed[Fit],
    products: dict[str, Product],
    took: dict[str, Timed[Any]],
) -> dict[str, Any]:
    """The pass's arithmetic at the better rate of a plain product in float32 or bfloat16, over our time.

    The softmax takes three products of predictions × dim × items (scores, and two gradients), a block
    6 dim² multiplications an event and as many again for each of two gradients; 2 operations each.
    """
    dim = network(config).dim
    operations = 6.0 * predictions * dim * (num_items + network(config).num_blocks * 6 * dim)
    precision = resolve_precision(config.training.score_precision, products["float32"].left.device)
    share = {
        name: operations / product.operations * took[name].seconds / ours.seconds
        for name, product in products.items()
    }
    rates = {name: figure(product.rate(took[name]) / 1e9) for name, product in products.items()}
    return {
        "matrix_rate_fraction": figure(min(share.values())),
        "matrix_rate_fraction_float32": figure(share["float32"]),
        "precision": precision,
        "tflop_per_pass": figure(operations / 1e12),
        "matrix_gflops": rates,
    }


def _plain(
    data: Sequences, config: Config, batches: int | None, device: torch.device | str
) -> Callable[[], tuple[int, float]]:
    """Some batches of the plain rival; how many predictions they made, and their loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PlainSASRec(data.num_items, network(config)).to(device)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    plain_pass(model, adam, data, config.training.batch_size, 2)  # warms up
    return lambda: plain_pass(model, adam, data, config.training.batch_size, batches)


def _whole_pass(took: Timed[tuple[int, float]], predictions: int) -> dict[str, Any]:
    """The time of a pass, from that of some of its predictions."""
    made, loss = took.result
    return {
        "share_of_pass": figure(made / predictions),
        "seconds_per_pass": figure(took.seconds * predictions / made),
        "cpu_seconds_per_pass": figure(took.cpu_seconds * predictions / made),
        "loss": figure(loss),
    }
