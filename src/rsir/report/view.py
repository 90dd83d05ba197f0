"""A run directory as a report reads it: whatever is there, finished or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from rsir.config import Config
from rsir.data.interactions import Interactions
from rsir.data.splits import Split, split
from rsir.data.synthetic import with_earlier
from rsir.data.truth import Truth
from rsir.errors import StoreError
from rsir.files import read_json
from rsir.store import ArmFolder, RunStore


@dataclass(frozen=True)
class Arm:
    """A finished round of the run or of its control."""

    index: int
    record: dict[str, Any]
    test: dict[str, Any] | None
    looks: tuple[dict[str, Any], ...]
    folder: ArmFolder

    def valid(self, metric: str) -> float | None:
        """A figure on validation."""
        return self.record["valid"].get(metric)

    def tested(self, metric: str) -> float | None:
        """A figure on the test split; None where it was not read."""
        return self.test["metrics"].get(metric) if self.test else None


@dataclass(frozen=True)
class Contrast:
    """Two arms on the same cases: a is what b has to beat."""

    a: pl.DataFrame
    b: pl.DataFrame
    name_a: str
    name_b: str
    part: str
    controlled: bool


@dataclass(frozen=True)
class View:
    """Everything a report needs of a run.

    Attributes:
        store: the run directory.
        config: as resolved.
        data: data.json.
        environment: environment.json.
        status: status.json, empty before the start.
        result: result.json, None while the run is not finished.
        log: the lines of log.jsonl.
        rounds: finished rounds, the base first.
        bases: further bases of other seeds, which write beside.
        reversed: the model of reversed sequences, if there is one.
        control: finished controls by round.
        controls: further controls (duplicates, unverified, augmented) by name and round.
        generations: generation.json by round, also of a round that is not trained yet.
    """

    store: RunStore
    config: Config
    data: dict[str, Any]
    environment: dict[str, Any]
    status: dict[str, Any]
    result: dict[str, Any] | None
    log: tuple[dict[str, Any], ...]
    rounds: tuple[Arm, ...]
    bases: tuple[Arm, ...]
    reversed: tuple[Arm, ...]
    control: dict[int, Arm]
    controls: dict[str, dict[int, Arm]]
    generations: dict[int, dict[str, Any]]

    @classmethod
    def load(cls, store: RunStore) -> View:
        """Read what is there.

        Raises:
            StoreError: if a file that is there is damaged.
        """
        generations: dict[int, dict[str, Any]] = {}
        while (facts := store.arm("rounds", len(generations) + 1).generation()) is not None:
            generations[len(generations) + 1] = facts
        controls = [_arm(folder) for folder in store.arms("control")]
        return cls(
            store=store,
            config=store.config,
            data=store.data_facts,
            environment=dict(read_json(store.folder / "environment.json")),
            status=store.status(),
            result=store.result(),
            log=_lines(store.folder / "log.jsonl"),
            rounds=tuple(_arm(folder) for folder in store.arms("rounds")),
            bases=tuple(_arm(folder) for folder in store.arms("bases")),
            reversed=tuple(_arm(folder) for folder in store.arms("reversed")),
            control={arm.index: arm for arm in controls},
            controls={
                name.removeprefix("controls/"): {arm.index: arm for arm in map(_arm, store.arms(name))}
                for name in store.control_arms()
            },
            generations=generations,
        )

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.store.folder.resolve().name

    @property
    def subtitle(self) -> str:
        """When it ran, on what, and with which model."""
        days = [line["time"][:10] for line in self.log if "time" in line][:1]
        users, items, events = (f"{self.data[key]:,} {key}" for key in ("users", "items", "events"))
        return " · ".join([*days, str(self.data["source"]), users, items, events, self.config.model.name])

    @property
    def cutoff(self) -> int:
        """The list length of the monitored metric; the headline figures are taken there."""
        return int(self.config.monitor.partition("@")[2])

    @property
    def ndcg(self) -> str:
        """The metric of the verdict."""
        return f"ndcg@{self.cutoff}"

    @property
    def recall(self) -> str:
        """The metric beside it."""
        return f"recall@{self.cutoff}"

    @property
    def chosen(self) -> int | None:
        """The round that validation chose; None while the run is not finished."""
        return None if self.result is None else int(self.result["chosen_round"])

    @property
    def shown(self) -> int:
        """The round to look at: the chosen one, else the best after the base on validation, else 0."""
        if self.chosen:
            return self.chosen
        later = [arm for arm in self.rounds if arm.index > 0]
        return max(later, key=lambda arm: arm.record["valid"][self.config.monitor]).index if later else 0

    @property
    def contrast(self) -> Contrast | None:
        """The shown round against its control, else the base: on test where it was read, else validation."""
        k = self.shown
        if not k:
            return None
        rival = self.control.get(k)
        other, name = (rival, f"control {k}") if rival else (self.rounds[0], "base")
        part = "test" if self.rounds[k].test and other.test else "valid"
        a, b = other.folder.frame(part), self.rounds[k].folder.frame(part)
        if not a.select("user", "target").equals(b.select("user", "target")):
            raise StoreError(f"{part}.parquet of round {k} and of the {name} are not of the same cases")
        return Contrast(a, b, name, f"round {k}", part, rival is not None)

    @cached_property
    def interactions(self) -> Interactions:
        """The log."""
        return self.store.interactions()

    @cached_property
    def split(self) -> Split:
        """The split, cut again."""
        return split(self.interactions, self.config.split)

    @cached_property
    def truth(self) -> Truth | None:
        """What is known of simulated users."""
        return self.store.truth()

    @cached_property
    def synthetic(self) -> dict[int, pl.DataFrame]:
        """The admitted sequences of each generated round."""
        return {k: with_earlier(self.store.arm("rounds", k).frame("synthetic")) for k in self.generations}


def _arm(folder: ArmFolder) -> Arm:
    record = folder.record()
    looks = _lines(folder.folder / "training.jsonl")
    return Arm(int(record["round"]), record, folder.test(), looks, folder)


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    """The objects of a JSON lines file, without a last line cut off by a stop; none without file."""
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    try:
        return tuple(json.loads(line) for line in whole.splitlines())
    except ValueError:
        raise StoreError(f"{path} cannot be read: the run directory is damaged") from None
