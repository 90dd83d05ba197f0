"""One side of a comparison: for each seed the model that counts, and its stored value on every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import torch
from torch import Tensor

from rsir.errors import ConfigError, DataError, StoreError
from rsir.evidence.arms import Arm
from rsir.metrics import by_name
from rsir.store import ArmFolder, RunStore

Part = Literal["test", "valid"]


@dataclass(frozen=True)
class Side:
    """The models on one side, one a seed, judged on the same N cases.

    Attributes:
        name: what is shown.
        rounds: the round of each seed's model.
        frames: the stored cases of each, in one order of cases.
    """

    name: str
    rounds: tuple[int, ...]
    frames: tuple[pl.DataFrame, ...]

    def values(self, metric: str) -> Tensor:
        """The metric of each case under each seed; float64 (R, N)."""
        return torch.stack([by_name(metric, _ranks(frame)) for frame in self.frames])

    def mean(self, metric: str) -> float:
        """The mean over seeds and cases."""
        return float(self.values(metric).mean())


def side_of(arm: Arm, which: str, part: Part, of: str = "rounds", name: str | None = None) -> Side:
    """Load one side.

    Args:
        arm: the runs.
        which: "chosen" (by validation), "base", or the number of a round.
        part: whose cases.
        of: "rounds", or the arm of controls ("control", "controls/duplicates") that belongs to that round.
        name: what is shown; default the arm's name.

    Raises:
        DataError: if a run has no such model, or it was not read on the test split.
    """
    rounds = tuple(round_of(run, which) for run in arm.runs)
    frames = [_frame(run, of if k else "rounds", k, part) for run, k in zip(arm.runs, rounds, strict=True)]
    return Side(name or arm.name, rounds, tuple(frames))


def round_of(run: RunStore, which: str) -> int:
    """The number of the round that is meant.

    Raises:
        ConfigError: if `which` is no round.
        DataError: if the run has not chosen yet.
    """
    if which == "base":
        return 0
    if which != "chosen":
        if not which.isdecimal():
            raise ConfigError(f"round {which!r} is not known: say chosen, base or a number")
        return int(which)
    result = run.result()
    if result is None:
        raise DataError(f"{run.folder} is not finished, no round is chosen: finish it with rsir run --resume")
    return int(result["chosen_round"])


def _frame(run: RunStore, of: str, k: int, part: Part) -> pl.DataFrame:
    if part not in ("test", "valid"):
        raise ConfigError(f"split {part!r} is not known: choose test or valid")
    folder = run.arm(of, k)
    if not folder.done:
        raise DataError(f"{run.folder} has no finished round {k} of {of}")
    if part == "test" and (run.result() is None or not has_test(folder)):
        raise DataError(
            f"the test split was not read for round {k} of {of} in {run.folder} (only for the base, the "
            "chosen round and its controls, at the end): compare --split valid"
        )
    return folder.frame(part)


def has_test(folder: ArmFolder) -> bool:
    """Whether the test split was read for a model."""
    return (folder.folder / "test.parquet").is_file()


def refuse_other_cases(sides: Sequence[Side]) -> None:
    """Fail if the models were not judged on the same cases.

    Raises:
        StoreError: if users or targets differ.
    """
    frames = [frame.select("user", "target") for side in sides for frame in side.frames]
    for frame in frames[1:]:
        if not frame.equals(frames[0]):
            raise StoreError("the stored cases of the runs differ although their logs do not: one is damaged")


def _ranks(frame: pl.DataFrame) -> Tensor:
    return torch.from_numpy(frame["rank"].to_numpy().copy())
