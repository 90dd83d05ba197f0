"""From a log to a finished run; and on with a run that was stopped."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch

from rsir.compiled import tell_of_compiling
from rsir.config import Config, load_config
from rsir.data.describe import describe
from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame, read_log
from rsir.data.simulate import simulate
from rsir.data.splits import Split, split
from rsir.data.truth import Truth
from rsir.devices import environment, peak_rss_bytes, resolve_device, resolve_precision
from rsir.files import locked, write_json
from rsir.models import HSTUConfig, build_model
from rsir.models.base import SequenceModel
from rsir.recursion import recurse
from rsir.refusals import refuse_untrainable
from rsir.run import Run
from rsir.store import RunStore, refuse_used
from rsir.teaching import open_teachers
from rsir.train import MANY_ITEMS, touched_table
from rsir.watch import Watch


def run(
    log: Any = None,
    out: str | Path = "runs/latest",
    *,
    rounds: int | None = None,
    config: Config | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> Run:
    """From a raw log to a self-improved recommender.

    Args:
        log: a path, or a polars, pandas or Arrow table; None simulates users whose preferences are known.
        out: the run directory to make.
        rounds: K, in place of `config.recursion.rounds`.
        config: everything else; `load_config` makes one.
        device: "auto", "cpu" or "cuda".
        watch: is told of progress.

    Raises:
        RsirError: for a log, a setting or a folder that cannot be used; then nothing is left behind.

    >>> import rsir
    >>> done = rsir.run("events.parquet", "runs/first", rounds=2)  # doctest: +SKIP
    >>> done.recommend(users=["ann"], n=5)  # doctest: +SKIP
    """
    config = config or Config()
    if rounds is not None:
        values = {**config.model_dump(), "recursion": {**config.recursion.model_dump(), "rounds": rounds}}
        config = load_config(base=values)
    where, watch = resolve_device(device), watch or Watch()
    refuse_used(Path(out))
    interactions, truth = open_log(log, config)
    config = resolved(config, where, interactions)
    cut = split(interactions, config.split)
    teacher = open_teachers(config.recursion.teachers, interactions, config, where)
    refuse_untrainable(cut, config, teacher)
    facts = _facts(log, interactions, cut) | ({} if truth is None else {"simulated": True})
    store = RunStore.create(out, config, interactions, facts, environment(where), truth)
    for note in interactions.notes:
        watch.note(note)
    try:
        return _go(Run(store), cut, truth, where, watch, teacher)
    except Exception:
        if not any(path.is_file() for path in (store.folder / "rounds").rglob("*")):
            shutil.rmtree(store.folder, ignore_errors=True)
        raise


def _facts(log: Any, interactions: Interactions, cut: Split) -> dict[str, Any]:
    """What the log and its split are."""
    return {
        "users": len(interactions.users),
        "items": len(interactions.items),
        "events": len(interactions),
        "fingerprint": interactions.fingerprint,
        "source": str(log) if isinstance(log, str | Path) else "simulated users" if log is None else "table",
        "notes": list(interactions.notes),
        "split": cut.facts,
        "describe": describe(interactions, cut),
    }


def resume(folder: str | Path, *, device: str = "auto", watch: Watch | None = None) -> Run:
    """Go on with a run that was stopped; it ends with the numbers it would have had.

    A finished run is only opened.

    Raises:
        StoreError: if there is no run, it is damaged, or another process works in it.
    """
    where = resolve_device(device)
    opened = Run.open(folder)
    return _go(opened, opened.split(), opened.store.truth(), where, watch or Watch())


def open_log(log: Any, config: Config) -> tuple[Interactions, Truth | None]:
    """A log from a path or a table; without one, simulated users and the truth about them."""
    if log is None:
        world = simulate(config.simulation, config.seed)
        return from_frame(world.frame, ReadConfig()), world.truth
    if isinstance(log, str | Path):
        return read_log(log, config.data), None
    return from_frame(log, config.data), None


def resolved(config: Config, device: torch.device, log: Interactions) -> Config:
    """The configuration with "auto" replaced by what it means on this device and for this log."""
    precision, model = resolve_precision(config.training.score_precision, device), config.model
    training = config.training.model_copy(
        update={"score_precision": precision, "item_updates": _item_updates(config, len(log.items))}
    )
    if isinstance(model, HSTUConfig) and model.time_bias == "auto":
        model = model.model_copy(update={"time_bias": log.time is not None})
    config = config.model_copy(update={"training": training, "model": model})
    suited = {"start": config.successor_start, "dropout_share": config.successor_dropout_share}
    return config.model_copy(update={"recursion": config.recursion.model_copy(update=suited)})


def _item_updates(config: Config, num_items: int) -> str:
    """What `training.item_updates` "auto" is; the network is only made where it can be "touched"."""
    training = config.training
    if training.item_updates != "auto":
        return training.item_updates
    if not training.touches_few or num_items <= MANY_ITEMS:
        return "all"
    return "all" if touched_table(build_model(config.model, num_items), training) is None else "touched"


def _go(
    opened: Run,
    cut: Split,
    truth: Truth | None,
    device: torch.device,
    watch: Watch,
    teacher: SequenceModel | None = None,
) -> Run:
    """Do what is left of a run, keeping count of time and memory over stops."""
    store = opened.store
    with locked(store.folder):
        if store.result() is not None:
            return opened
        clock = _Clock(store, watch, device)
        store.log("started", device=str(device))
        clock.write("running")
        try:
            log, config = opened.interactions, opened.config
            teacher = teacher or open_teachers(config.recursion.teachers, log, config, device)
            recurse(cut, log, config, store, device=device, watch=clock, truth=truth, teacher=teacher)
        except BaseException as stop:
            clock.write("interrupted" if isinstance(stop, KeyboardInterrupt) else "failed")
            raise
        clock.write("completed")
    return opened


class _Clock(Watch):
    """Keeps status.json up to date while passing on what it hears: a kill loses little of the count."""

    def __init__(self, store: RunStore, watch: Watch, device: torch.device) -> None:
        self.path, self.watch, self.device = store.folder / "status.json", watch, device
        before = store.status()
        self.seconds, self.peak = before.get("seconds", 0.0), before.get("peak_rss_bytes", 0)
        self.started = self.written = time.perf_counter()

    def write(self, status: str) -> None:
        """Write the status, and time and memory so far."""
        self.written = time.perf_counter()
        seconds = round(self.seconds + self.written - self.started, 3)
        peak = max(self.peak, peak_rss_bytes())
        write_json(self.path, {"status": status, "seconds": seconds, "peak_rss_bytes": peak})

    def stage(self, name: str, arm: str, round_index: int) -> None:
        self.watch.stage(name, arm, round_index)
        if name == "generate":
            tell_of_compiling(self.watch, self.device)

    def advance(self, done: int, total: int | None) -> None:
        if time.perf_counter() - self.written > 1:
            self.write("running")
        self.watch.advance(done, total)

    def note(self, line: str) -> None:
        self.watch.note(line)
