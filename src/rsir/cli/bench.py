"""`rsir bench`: each stage beside its rivals, in one run on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

from rsir.cli import options as o
from rsir.cli.output import print_facts, print_json
from rsir.cli.progress import watching
from rsir.config import Config, load_config
from rsir.devices import resolve_device
from rsir.errors import ConfigError

app = typer.Typer(help="Measure a stage beside its rivals.", no_args_is_help=True)

Data = Annotated[
    Path | None, typer.Option("--data", metavar="LOG", help="log of events; without one, simulated")
]
Dim = Annotated[int, typer.Option(min=1, help="width of the network")]
Passes = Annotated[int, typer.Option(min=1, help="training passes")]
Quick = Annotated[bool, typer.Option("--quick", help="seconds on a tiny world: to try it out")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="threads of PyTorch; default: its own choice", show_default=False)
]
Items = Annotated[
    int | None, typer.Option(min=2, help="random sequences over so many items", show_default=False)
]
Sources = Annotated[int | None, typer.Option(min=2, help="so many random sequences", show_default=False)]


@app.command("generation")
def generation_verb(
    data: Data = None,
    dim: Dim = 64,
    rollouts: Annotated[int, typer.Option(min=1, help="m, of each source")] = 5,
    max_rank: Annotated[int, typer.Option(min=1, help="τ")] = 10,
    passes: Passes = 3,
    items: Items = None,
    sources: Sources = None,
    seed: o.Seed = None,
    threads: Threads = None,
    device: o.Device = "auto",
    quick: Quick = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Rollouts a second, against a loop over rows, a dense program and a plain matrix product."""
    from rsir.bench.generation import Effort, measure_generation

    flags = {
        "model.dim": dim,
        "generation.num_rollouts": rollouts,
        "generation.max_rank": max_rank,
        "seed": seed,
    }
    told = _Told(quick, threads, device, as_json, quiet)
    if items or sources:
        _large("generation", data, items or 1_000_000, sources or 100_000, flags, told)
        return
    effort = Effort(1, 1, 10, 20, 20) if quick else Effort(passes)
    _measure(
        lambda config, where, note: measure_generation(data, config, effort, device=where, note=note),
        flags,
        told,
    )


@app.command("training")
def training_verb(
    data: Data = None,
    dim: Dim = 128,
    passes: Passes = 2,
    items: Items = None,
    sources: Sources = None,
    rivals: Annotated[
        Path | None,
        typer.Option(help="the folder benchmarks/rivals: RecTools and RecBole, too", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="of RecTools and RecBole")] = 1,
    share: Annotated[
        float, typer.Option(min=0.001, max=1, help="of the batches of their epochs; times are divided by it")
    ] = 1.0,
    seed: o.Seed = None,
    threads: Threads = None,
    device: o.Device = "auto",
    quick: Quick = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Seconds a pass with the whole softmax, against plain PyTorch and other libraries."""
    from rsir.bench.training import Effort, measure_training

    flags = {"model.dim": dim, "seed": seed}
    told = _Told(quick, threads, device, as_json, quiet)
    if items or sources:
        _large("training", data, items or 1_000_000, sources or 512, flags, told)
        return
    effort = Effort(passes, 2 if quick else 20, epochs, share)
    _measure(
        lambda config, where, note: measure_training(
            data, config, effort, device=where, note=note, libraries=rivals
        ),
        flags,
        told,
    )


@app.command("evaluation")
def evaluation_verb(
    data: Data = None,
    dim: Dim = 64,
    passes: Passes = 2,
    seed: o.Seed = None,
    threads: Threads = None,
    device: o.Device = "auto",
    quick: Quick = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Ranks of all users in the whole catalogue, against sorting, a training pass and a matrix product."""
    from rsir.bench.evaluation import Effort, measure_evaluation

    effort = Effort(1, 1, 100) if quick else Effort(passes)
    _measure(
        lambda config, where, note: measure_evaluation(data, config, effort, device=where, note=note),
        {"model.dim": dim, "seed": seed},
        _Told(quick, threads, device, as_json, quiet),
    )


@app.command("ingest")
def ingest_verb(
    data: Data = None,
    events: Annotated[int, typer.Option(min=10, help="of the simulated log")] = 10_000_000,
    users: Annotated[int, typer.Option(min=2, help="of the simulated log")] = 100_000,
    items: Annotated[int, typer.Option(min=2, help="of the simulated log")] = 200_000,
    quick: Quick = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Seconds and memory of reading a long log, against pandas."""
    from rsir.bench.ingest import measure_ingest

    sizes = (20_000, 500, 300) if quick else (events, users, items)
    named = dict(zip(("events", "users", "items"), sizes, strict=True))
    _measure(
        lambda config, where, note: measure_ingest(data, config, note=note, **named),
        {},
        _Told(quick, None, "cpu", as_json, quiet),
    )


class _Told(NamedTuple):
    """What every verb is told of where and how."""

    quick: bool
    threads: int | None
    device: str
    as_json: bool
    quiet: bool


def _measure(
    act: Callable[[Config, torch.device, Callable[[str], None]], dict[str, Any]],
    flags: Mapping[str, object],
    told: _Told,
) -> None:
    """Compose the settings, measure, print."""
    from rsir.bench.workload import QUICK, SIMULATED

    where = resolve_device(told.device)
    config = load_config(None, o.overrides(flags, [*(QUICK if told.quick else SIMULATED)]))
    if told.threads is not None:
        torch.set_num_threads(told.threads)
    with watching(told.quiet) as watch:
        found = act(config, where, watch.note)
    print_json(found) if told.as_json else print_facts(found)


def _large(
    stage: str, data: Path | None, items: int, sources: int, flags: Mapping[str, object], told: _Told
) -> None:
    """Random sequences over a large catalogue, in a process of its own."""
    from rsir.bench.alone import alone

    if data is not None:
        raise ConfigError("--items and --sources make random sequences: leave them or --data out")
    overrides = o.overrides(flags)
    load_config(None, overrides)
    found = alone(
        f"rsir.bench.{stage}:measure_large",
        num_items=items,
        num_sources=sources,
        overrides=overrides,
        threads=told.threads or torch.get_num_threads(),
        device=str(resolve_device(told.device)),
    )
    print_json(found) if told.as_json else print_facts(found)
