"""Proof by construction that no held-out event reached generation or training, from a run directory.

The log is read and cut again. Then every admitted sequence has to lead to its source, and every model's
training data has to be the training split and what was admitted before it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.data.synthetic import enriched, from_frame, with_earlier
from rsir.earlier import backwards
from rsir.errors import DataError
from rsir.evidence.controls import folder_of
from rsir.evidence.fingerprint import data_fingerprint
from rsir.run import Run
from rsir.store import ArmFolder


@dataclass(frozen=True)
class Provenance:
    """What was proved.

    Attributes:
        synthetic: the admitted sequences of all rounds, in order.
        ahead: int64 (S,), the earlier items that each begins with; 0 for rollouts.
        checks: by name: how many things were looked at, all of them in order.
    """

    synthetic: Sequences
    ahead: Tensor
    checks: dict[str, int]


def prove(run: Run) -> Provenance:
    """Check where all training data of a run comes from.

    Raises:
        DataError: names the first file, row and rule that fails: a leak, or a damaged run.
    """
    train = run.split().train
    if run.interactions.fingerprint != run.store.data_facts["fingerprint"]:
        raise DataError(_failed(run, "data", "the log kept there is not the one the run was made from"))
    data, made, aheads = train, list[Sequences](), list[Tensor]()
    checks = {"sequences": 0, "generated_items": 0, "training_data": 0}
    keep = run.config.recursion.synthetic
    for folder in (run.store.arm("rounds", 0), *run.store.arms("bases")):
        checks["training_data"] += _same_data(run, folder, train) if folder.done else 0
    for folder in run.store.arms("reversed"):
        checks["training_data"] += _same_data(run, folder, backwards(train))
    for k in _generated(run):
        frame = run.store.arm("rounds", k).frame("synthetic")
        synthetic = from_frame(frame, run.interactions, data)
        _refuse_strangers(run, k, synthetic, frame, data)
        checks["sequences"] += len(synthetic)
        ahead = _ahead(frame)
        checks["generated_items"] += int(torch.where(ahead > 0, ahead, synthetic.events.lengths - 1).sum())
        made.append(synthetic)
        aheads.append(ahead)
        data = enriched(train, data, synthetic, keep)
        for arm, expected in (("rounds", data), ("control", train), (folder_of("plain"), train)):
            if run.store.arm(arm, k).done:
                checks["training_data"] += _same_data(run, run.store.arm(arm, k), expected)
    for arm in run.store.control_arms():
        checks["training_data"] += _prove_control(run, arm, train)
    nothing = torch.empty(0, dtype=torch.int64)
    return Provenance(Sequences.concat([train.select(nothing), *made]), torch.cat([nothing, *aheads]), checks)


def _prove_control(run: Run, arm: str, train: Sequences) -> int:
    """A further control's data: the training split, and sequences whose users are their sources'."""
    data, models, k = train, 0, 1
    while (folder := run.store.arm(arm, k)).generation() is not None:
        frame = folder.frame("synthetic")
        made = from_frame(frame, run.interactions, data)
        _refuse_strangers(run, k, made, frame, data, arm)
        data, k = enriched(train, data, made, run.config.recursion.synthetic), k + 1
        models += _same_data(run, folder, data) if folder.done else 0
    return models


def _generated(run: Run) -> Iterator[int]:
    k = 1
    while run.store.arm("rounds", k).generation() is not None:
        yield k
        k += 1


def _same_data(run: Run, folder: ArmFolder, expected: Sequences) -> int:
    """The recorded training data must be the expected one; 1 if it was recorded, for the count."""
    told: dict[str, Any] = folder.record()["data"]
    found: dict[str, int | str] = {"sequences": len(expected), "events": expected.num_events}
    if "fingerprint" in told:
        found["fingerprint"] = data_fingerprint(expected)
    for name, value in found.items():
        if told[name] != value:
            where = folder.folder.relative_to(run.folder)
            raise DataError(
                _failed(
                    run, f"{where}/round.json", f"trained on {name} {told[name]}, the split gives {value}"
                )
            )
    return 1


def _refuse_strangers(
    run: Run, k: int, made: Sequences, frame: pl.DataFrame, data: Sequences, arm: str = "rounds"
) -> None:
    """Every sequence is of round k, of its source's user, starts in its source, and owns what it says."""
    for name, wrong in _strangers(run, k, made, frame, data):
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise DataError(_failed(run, f"{arm}/{k}/synthetic.parquet, row {row}", name))


def _strangers(
    run: Run, k: int, made: Sequences, frame: pl.DataFrame, data: Sequences
) -> Iterator[tuple[str, Tensor]]:
    """Each rule with the rows that break it; later rules rely on earlier ones."""
    yield f"the sequence is not of round {k}", made.round_index != k
    yield "its source is no row of the data before", (made.source < 0) | (made.source >= len(data))
    yield "its user is not its source's user", made.user != data.user[made.source]
    if "own" not in frame.columns:
        return  # a control's: an augmented sequence may begin anywhere in its source
    ahead = _ahead(frame)
    yield "all of its source does not stand behind the earlier items", ~_whole(made, data, ahead)
    place = made.events.offsets[:-1] + ahead
    first = made.events.values[place]
    if run.config.generation.starts == "first":
        start = data.events.values[data.events.offsets[made.source]]
        yield "it does not begin with its source's first item", first != start
    source = made.source[made.events.row]
    owned = _contains(data, source, made.events.values)
    yield "it does not begin with an item of its source", ~owned[place]
    own = torch.from_numpy(frame["own"].explode().to_numpy().copy()) if len(frame) else owned
    false = torch.bincount(made.events.row[own & ~owned], minlength=len(made))
    yield "an item marked as the source's own is not in the source", false > 0


def _ahead(frame: pl.DataFrame) -> Tensor:
    """How many earlier items each sequence begins with."""
    return torch.from_numpy(with_earlier(frame)["earlier"].to_numpy().copy())


def _whole(made: Sequences, data: Sequences, ahead: Tensor) -> Tensor:
    """Whether its source, item for item, stands behind a sequence's earlier items; true for rollouts."""
    source = data.events.select(made.source)
    same = (ahead == 0) | (made.events.lengths == source.lengths + ahead)
    rows = (same & (ahead > 0)).nonzero().squeeze(1)
    behind, there = made.events.select(rows), source.select(rows)
    behind = behind.slice_rows(ahead[rows], behind.lengths)
    wrong = behind.row[behind.values != there.values]
    return same.index_fill(0, rows[wrong], False)


def _contains(data: Sequences, row: Tensor, item: Tensor) -> Tensor:
    """Whether each row of the data holds the item; bool, of the shape of `item`."""
    held = (data.events.row * data.num_items + data.events.values).unique()
    asked = row * data.num_items + item
    place = torch.searchsorted(held, asked).clamp(max=max(0, held.numel() - 1))
    return held[place] == asked


def _failed(run: Run, where: str, rule: str) -> str:
    return f"leak audit of {run.folder} failed at {where}: {rule}"
