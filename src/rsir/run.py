"""A run from a log to its outcome, and what one does with it afterwards."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rsir.acquire import acquisition_rule
from rsir.config import Config, load_config
from rsir.data.describe import describe
from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame, read_log
from rsir.data.simulate import simulate
from rsir.data.splits import Split, split
from rsir.data.truth import Truth
from rsir.devices import environment, peak_rss_bytes, resolve_device, resolve_precision
from rsir.errors import ConfigError, DataError
from rsir.files import write_json
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.models.ranking import top_items
from rsir.ragged import Ragged
from rsir.recursion import recurse
from rsir.store import RunStore, refuse_used
from rsir.train import period_of
from rsir.watch import Watch


class Run:
    """A run directory, opened.

    >>> run = Run.open("runs/quickstart")  # doctest: +SKIP
    >>> run.recommend(users=["u0017"], n=5)  # doctest: +SKIP
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.config = store.config
        self.interactions = store.interactions()

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run directory.

        Raises:
            StoreError: if it is none, or incomplete.
        """
        return cls(RunStore.open(folder))

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.store.folder

    def split(self) -> Split:
        """The split, cut again from the log; the same cut as when the run was made."""
        return split(self.interactions, self.config.split)

    def chosen_round(self) -> int:
        """The round that validation chose; the last finished one while the run is not."""
        result = self.store.result()
        if result is not None:
            return int(result["chosen_round"])
        finished = self.store.arms("rounds")
        if not finished:
            raise DataError(f"{self.folder} has no trained model yet: go on with rsir run --resume")
        return int(finished[-1].folder.name)

    def model(self, round_index: int | None = None, arm: str = "rounds") -> SequenceModel:
        """A trained network, in evaluation mode; default the chosen round's."""
        k = self.chosen_round() if round_index is None else round_index
        folder = self.store.arm(arm, k)
        if not folder.done:
            raise DataError(f"{self.folder} has no finished round {k} of {arm}")
        model = build_model(self.config.model, len(self.interactions.items))
        folder.load_weights(model)
        return model.eval()

    def recommend(
        self,
        users: Sequence[str | int] | None = None,
        histories: Sequence[Sequence[str | int]] | None = None,
        *,
        n: int = 10,
        repeats: bool = False,
        batch_size: int = 1024,
    ) -> pl.DataFrame:
        """The n best next items for known users, or after histories given on the spot.

        Args:
            users: external ids of users in the log; their whole history counts.
            histories: external item ids, oldest first.
            n: items for each.
            repeats: also recommend items already in the history.
            batch_size: histories scored at once.

        Returns:
            Columns `user` (or `history`, its number), `rank`, `item`, `score`.

        Raises:
            UnknownIdError: for an id that never occurred.
        """
        if (users is None) == (histories is None):
            raise ConfigError("give either users or histories")
        rows, label, names = self._histories(users, histories)
        if n < 1 or n > len(self.interactions.items):
            raise ConfigError(f"n = {n} must be from 1 to the {len(self.interactions.items)} items there are")
        model, parts = self.model(), []
        with torch.inference_mode():
            for block in torch.arange(len(rows)).split(batch_size):
                part = rows.select(block)
                scores = model.score(part)
                if not repeats:
                    scores[part.row, part.values] = -torch.inf
                items = top_items(scores, n)
                parts.append((block.repeat_interleave(n), items.flatten(), scores.gather(1, items).flatten()))
        row, item, score = (torch.cat(part) for part in zip(*parts, strict=True))
        frame = pl.DataFrame(
            {
                label: names.gather(row.numpy()),
                "rank": (torch.arange(len(row)) % n + 1).numpy(),
                "item": self.interactions.items.ids_of(item),
                "score": score.numpy(),
            }
        )
        return frame.filter(pl.col("score").is_finite())

    def _histories(
        self, users: Sequence[str | int] | None, histories: Sequence[Sequence[str | int]] | None
    ) -> tuple[Ragged, str, pl.Series]:
        if users is not None:
            index = self.interactions.users.index_of(list(users))
            rows, label = self.interactions.ragged.select(index), "user"
            names = self.interactions.users.ids_of(index)
        else:
            given = [list(history) for history in histories or ()]
            if not given or not all(given):
                raise DataError("a history needs at least one item")
            lengths = torch.tensor([len(history) for history in given])
            flat = self.interactions.items.index_of([item for history in given for item in history])
            rows, label = Ragged.from_lengths(flat, lengths), "history"
            names = pl.Series(range(1, len(given) + 1), dtype=pl.Int64)
        if not len(rows):
            raise DataError("no user was given")
        return rows, label, names

    def summary(self) -> dict[str, Any]:
        """The run in one JSON object; the contract of `rsir run --json` (docs/formats.md)."""
        facts, result = self.store.data_facts, self.store.result() or {}
        state = self.store.status()
        return {
            "status": "completed" if result else state.get("status", "interrupted"),
            "run": str(self.folder),
            "data": {key: facts[key] for key in ("users", "items", "events", "fingerprint")},
            "rounds": [self._round("rounds", k) for k in range(len(self.store.arms("rounds")))],
            "control": [self._round("control", k + 1) for k in range(len(self.store.arms("control")))],
            "chosen_round": result.get("chosen_round"),
            "stop_reason": result.get("stop_reason"),
            "advice": result.get("advice"),
            "comparison": result.get("comparison", {}),
            "seconds": state.get("seconds"),
            "peak_rss_bytes": state.get("peak_rss_bytes"),
        }

    def _round(self, arm: str, k: int) -> dict[str, Any]:
        folder = self.store.arm(arm, k)
        record, test = folder.record(), folder.test()
        generation = folder.generation() or {}
        return {
            "round": record["round"],
            "origin": record["origin"],
            "sequences": record["sequences"],
            "admitted": record["admitted"],
            "updates": record["updates"],
            "seconds": round(record["seconds"]["train"] + generation.get("seconds", 0.0), 3),
            "valid": record["valid"],
            "test": test["metrics"] if test else None,
        }


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
    config = _resolved(config, where)
    refuse_used(Path(out))
    interactions, truth = open_log(log, config)
    cut = split(interactions, config.split)
    refuse_untrainable(cut, config)
    facts = {
        "users": len(interactions.users),
        "items": len(interactions.items),
        "events": len(interactions),
        "fingerprint": interactions.fingerprint,
        "source": str(log) if isinstance(log, str | Path) else "simulated users" if log is None else "table",
        "notes": list(interactions.notes),
        "split": cut.facts,
        "describe": describe(interactions, cut),
    }
    if truth is not None:
        facts["simulated"] = True
    store = RunStore.create(out, config, interactions, facts, environment(where), truth)
    for note in interactions.notes:
        watch.note(note)
    try:
        return _go(Run(store), cut, truth, where, watch)
    except Exception:
        if not any(path.is_file() for path in (store.folder / "rounds").rglob("*")):
            shutil.rmtree(store.folder, ignore_errors=True)
        raise


def resume(folder: str | Path, *, device: str = "auto", watch: Watch | None = None) -> Run:
    """Go on with a run that was stopped; it ends with the numbers it would have had.

    A finished run is only opened.

    Raises:
        StoreError: if there is no run, it is damaged, or another process works in it.
    """
    where = resolve_device(device)
    opened = Run.open(folder)
    return _go(opened, opened.split(), opened.store.truth(), where, watch or Watch())


def refuse_untrainable(cut: Split, config: Config) -> None:
    """Fail before anything is made where training or admission would fail later.

    Raises:
        DataError: if no training sequence has two events.
        ConfigError: if the acquisition rule and its cap do not fit.
    """
    period_of(cut.train, config.training, config.model.max_length)
    acquisition_rule(config.acquisition)


def open_log(log: Any, config: Config) -> tuple[Interactions, Truth | None]:
    """A log from a path or a table; without one, simulated users and the truth about them."""
    if log is None:
        world = simulate(config.simulation, config.seed)
        return from_frame(world.frame, ReadConfig()), world.truth
    if isinstance(log, str | Path):
        return read_log(log, config.data), None
    return from_frame(log, config.data), None


def _resolved(config: Config, device: torch.device) -> Config:
    """The configuration with "auto" replaced by what it means on this device."""
    precision = resolve_precision(config.training.score_precision, device)
    training = config.training.model_copy(update={"score_precision": precision})
    return config.model_copy(update={"training": training})


def _go(opened: Run, cut: Split, truth: Truth | None, device: torch.device, watch: Watch) -> Run:
    """Do what is left of a run, keeping count of time and memory over stops."""
    store = opened.store
    with store.locked():
        if store.result() is not None:
            return opened
        clock = _Clock(store, watch)
        store.log("started", device=str(device))
        clock.write("running")
        try:
            recurse(cut, opened.interactions, opened.config, store, device=device, watch=clock, truth=truth)
        except BaseException as stop:
            clock.write("interrupted" if isinstance(stop, KeyboardInterrupt) else "failed")
            raise
        clock.write("completed")
    return opened


class _Clock(Watch):
    """Keeps status.json up to date while passing on what it hears: a kill loses little of the count."""

    def __init__(self, store: RunStore, watch: Watch) -> None:
        self.path, self.watch = store.folder / "status.json", watch
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

    def advance(self, done: int, total: int | None) -> None:
        if time.perf_counter() - self.written > 1:
            self.write("running")
        self.watch.advance(done, total)

    def note(self, line: str) -> None:
        self.watch.note(line)
