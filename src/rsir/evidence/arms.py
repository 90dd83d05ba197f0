"""Runs sorted into arms, and why some cannot be compared.

An arm is one configuration under several seeds. Two arms can be compared if they were judged by one
protocol (split, evaluation policy, cutoffs) on one log, so that every case of one is a case of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from rsir.config import describe_config
from rsir.errors import ConfigError, DataError
from rsir.store import RunStore

PROTOCOL = ("split", "evaluation")
"""Sections of the configuration that say what is asked and what is measured."""
LOG = ("simulation", "data")
"""Sections that say where the log came from: its fingerprint is compared instead."""


@dataclass(frozen=True)
class Arm:
    """One configuration under one or more seeds.

    Attributes:
        name: the folder's name, or what the names of its folders have in common.
        runs: one for each seed, in the order of the seeds.
    """

    name: str
    runs: tuple[RunStore, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(run.config.seed for run in self.runs)

    def settings(self) -> dict[str, Any]:
        """What makes the arm: every setting but the seed and those of the log."""
        rows = describe_config(self.runs[0].config)
        return {name: value for name, value, *_ in rows if name.split(".")[0] not in ("seed", *LOG)}


def sort_into_arms(folders: Sequence[str | Path]) -> list[Arm]:
    """Group runs by their settings without the seed, in the order of their first run.

    Exactly two runs are two arms, whatever they differ in.

    Raises:
        DataError: if a run is given twice, or two runs of an arm have one seed.
        StoreError: if a folder is no run.
    """
    stores = [RunStore.open(folder) for folder in folders]
    _refuse_repeated(stores)
    if len(stores) == 2:
        groups = [[store] for store in stores]
    else:
        found: list[tuple[dict[str, Any], list[RunStore]]] = []
        for store in stores:
            settings = Arm("", (store,)).settings()
            same = next((runs for known, runs in found if known == settings), None)
            if same is None:
                found.append((settings, [store]))
            else:
                same.append(store)
        groups = [runs for _, runs in found]
    return _named([arm_of(runs) for runs in groups])


def arm_of(runs: Sequence[RunStore]) -> Arm:
    """Runs of one configuration as an arm.

    Raises:
        DataError: if two have the same seed.
    """
    runs = sorted(runs, key=lambda store: store.config.seed)
    for one, two in zip(runs, runs[1:], strict=False):
        if one.config.seed == two.config.seed:
            raise DataError(
                f"{one.folder} and {two.folder} have the same settings and seed "
                f"{one.config.seed}: leave one out"
            )
    names = [run.folder.resolve().name for run in runs]
    return Arm(names[0] if len(names) == 1 else _common_start(names), tuple(runs))


def _common_start(names: list[str]) -> str:
    """The letters all names begin with, without a dash at the end."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same).rstrip("-_. =")


def _named(arms: list[Arm]) -> list[Arm]:
    """Arms with names that tell them apart."""
    names = [arm.name for arm in arms]
    if all(names) and len(set(names)) == len(names):
        return arms
    if all(len(arm.runs) == 1 for arm in arms):
        return [Arm(str(arm.runs[0].folder), arm.runs) for arm in arms]
    return [Arm(f"arm {number}", arm.runs) for number, arm in enumerate(arms, start=1)]


def _refuse_repeated(stores: list[RunStore]) -> None:
    known: set[Path] = set()
    for store in stores:
        place = store.folder.resolve()
        if place in known:
            raise DataError(f"{store.folder} is given twice: compare different runs")
        known.add(place)


def refuse_different(runs: Sequence[RunStore]) -> None:
    """Fail if runs were not judged by one protocol on one log.

    Raises:
        DataError: names the first field that differs, its values, and the runs.
    """
    first = runs[0]
    asked = _protocol(first)
    for other in runs[1:]:
        for name, value in _protocol(other).items():
            if value != asked[name]:
                raise DataError(
                    f"{name} is {_short(asked[name])} in {first.folder} and {_short(value)} in "
                    f"{other.folder}: figures of {_why(name)} cannot be compared"
                )


def _protocol(run: RunStore) -> dict[str, Any]:
    rows = describe_config(run.config)
    return {
        "fingerprint": run.data_facts["fingerprint"],
        **{name: value for name, value, *_ in rows if name.split(".")[0] in PROTOCOL},
    }


def _why(name: str) -> str:
    if name != "fingerprint":
        return "different protocols"
    return "different logs (simulated users change with the seed: write one log with rsir data simulate)"


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


def differing_settings(one: Arm, other: Arm) -> dict[str, list[Any]]:
    """Settings in which two arms differ, by name: the two values; None where a backbone has none."""
    mine, theirs = one.settings(), other.settings()
    pairs = {name: [mine.get(name), theirs.get(name)] for name in [*mine, *theirs]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def refuse_unpaired(reference: Arm, other: Arm) -> None:
    """Fail if two arms of several seeds have not the same ones; single runs are paired by users alone.

    Raises:
        ConfigError: names the seeds.
    """
    if reference.seeds != other.seeds and (len(reference.seeds) > 1 or len(other.seeds) > 1):
        raise ConfigError(
            f"{reference.name} has seeds {list(reference.seeds)} and {other.name} has {list(other.seeds)}: "
            "pairs need the same seeds, so give those that both have"
        )
