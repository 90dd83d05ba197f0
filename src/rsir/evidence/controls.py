"""Data of the control arms: what any claim for synthetic data has to beat (besides the base).

Each gives as many sequences as a round admitted, made without the part whose worth is in question:

- `duplicates`: observed sequences once more: no new content, only more weight;
- `unverified`: rollouts of the same model from the same sources, without the fidelity check, at random;
- `augmented`: observed sequences cropped, reordered or with an item inserted, each a third of the time
  (CL4SRec, arXiv 2010.14395; CoSeRec, arXiv 2108.06479; an inserted item is one that followed its neighbour
  somewhere in the observed data).

Two arms add nothing: `updates`, and `plain`, which also goes without teachers. Every arm starts as its
round does and makes the same updates. One that has neither more data nor teachers keeps the base's dropout,
which is better for it; the others have that of the round.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rsir.acquire import RetainAll
from rsir.config import ControlArm
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import OBSERVED, Sequences
from rsir.errors import DataError
from rsir.ragged import Ragged
from rsir.rng import permutation, uniform

CROPPED, REORDERED = 0.6, 0.5
"""Share of a sequence that a crop keeps, and that a reordering shuffles (values of CL4SRec's range)."""


def folder_of(arm: ControlArm) -> str:
    """Where a control arm is kept in the run directory.

    >>> folder_of("updates"), folder_of("augmented")
    ('control', 'controls/augmented')
    """
    return "control" if arm == "updates" else f"controls/{arm}"


def origin_of(arm: str, data: Sequences) -> str:
    """Whether the data holds sequences that no user made; a duplicate is observed."""
    observed = bool((data.round_index == OBSERVED).all())
    return "observed" if observed or arm == folder_of("duplicates") else "synthetic"


def duplicates(train: Sequences, count: int, *, seed: int, round_index: int) -> Sequences:
    """`count` observed sequences of at least two events, once more, as data of a round.

    Drawn without replacement; where more are wanted than there are, all are taken as often as possible first.

    Raises:
        DataError: if no sequence has two events.
    """
    rows = _drawn(train, count, seed, "duplicates", round_index)
    return _as_made(train, train.events.select(rows), rows, round_index)


def unverified(rollouts: Rollouts, data: Sequences, count: int, *, seed: int, round_index: int) -> Sequences:
    """At most `count` rollouts at random, of those that retain-all admits, as data of a round.

    Args:
        rollouts: made without fidelity control.
        data: the sequences they were generated from.
        count: how many the round admitted.
        seed: fixes the draw, with the round, source and rollout.
        round_index: the round k.
    """
    rule = RetainAll(rollouts.min_length)
    rows = rule.admit(rollouts, data, seed=seed, round_index=round_index).rows
    keys = rollouts.source[rows], rollouts.rollout[rows]
    drawn = uniform(seed, "unverified", round_index, *keys).argsort(stable=True)[:count]
    rows = rows[drawn].sort().values
    return _as_made(data, rollouts.events.select(rows), rollouts.source[rows], round_index)


def augmented(train: Sequences, count: int, *, seed: int, round_index: int) -> Sequences:
    """`count` observed sequences, each cropped, reordered or with an item inserted, as data of a round."""
    rows = _drawn(train, count, seed, "augmented", round_index)
    events, number = train.events.select(rows), torch.arange(count)

    def draw(purpose: str, *keys: Tensor) -> Tensor:
        return uniform(seed, purpose, round_index, *keys)

    kind = (draw("augment", number) * 3).long()
    parts = [kind == which for which in range(3)]
    made = [crop, reorder, lambda rows, draw: insert(rows, draw, train)]
    changed = [
        act(events.select(part.nonzero().squeeze(1)), draw) for act, part in zip(made, parts, strict=True)
    ]
    order = torch.cat([part.nonzero().squeeze(1) for part in parts]).argsort()
    return _as_made(train, Ragged.concat(changed).select(order), rows, round_index)


Draw = Callable[..., Tensor]


def crop(rows: Ragged, draw: Draw) -> Ragged:
    """A stretch of each row at a random place; at least two events of those that have them."""
    number = torch.arange(len(rows))
    length = (rows.lengths * CROPPED).round().long().clamp(min=2).minimum(rows.lengths)
    start = (draw("crop", number) * (rows.lengths - length + 1)).long()
    return rows.slice_rows(start, start + length)


def reorder(rows: Ragged, draw: Draw) -> Ragged:
    """Each row with a stretch at a random place shuffled; at least two events of it."""
    number = torch.arange(len(rows))
    length = (rows.lengths * REORDERED).round().long().clamp(min=2).minimum(rows.lengths)
    start = (draw("reorder", number) * (rows.lengths - length + 1)).long()
    first, last = start[rows.row], (start + length)[rows.row]
    inside = (rows.position >= first) & (rows.position < last)
    key = rows.position.double()
    shuffled = first + draw("shuffle", rows.row, rows.position) * (last - first)
    return Ragged(rows.values[_within_rows(rows.row, torch.where(inside, shuffled, key))], rows.offsets)


def insert(rows: Ragged, draw: Draw, train: Sequences) -> Ragged:
    """Each row with one item more after a random event: an item that followed that event's somewhere."""
    number = torch.arange(len(rows))
    place = (draw("insert", number) * rows.lengths).long()
    before = rows.values[rows.offsets[:-1] + place]
    item = _follower(train, before, draw("follower", number))
    row = torch.cat([rows.row, number])
    key = torch.cat([rows.position.double(), place + 0.5])
    values = torch.cat([rows.values, item])[_within_rows(row, key)]
    return Ragged.from_lengths(values, rows.lengths + 1)


def _follower(train: Sequences, item: Tensor, share: Tensor) -> Tensor:
    """An item drawn from those that follow each item in the data; any event's item where none does."""
    follows = (train.events.from_end > 0).nonzero().squeeze(1)
    first, then = train.events.values[follows], train.events.values[follows + 1]
    order = first.argsort(stable=True)
    known = Ragged.from_lengths(then[order], torch.bincount(first, minlength=train.num_items))
    several = known.lengths[item] > 0
    place = known.offsets[item] + (share * known.lengths[item]).long()
    anywhere = train.events.values[(share * train.num_events).long()]
    return torch.where(several, known.values[place.clamp(max=len(then) - 1)], anywhere)


def _within_rows(row: Tensor, key: Tensor) -> Tensor:
    """The order by row, then by key."""
    order = key.argsort(stable=True)
    return order[row[order].argsort(stable=True)]


def _drawn(train: Sequences, count: int, seed: int, purpose: str, round_index: int) -> Tensor:
    """`count` rows of at least two events, in random order, as evenly as can be; int64."""
    rows = (train.events.lengths >= 2).nonzero().squeeze(1)
    if not len(rows):
        raise DataError("no training sequence has two events: nothing can be duplicated")
    shuffled = rows[permutation(len(rows), seed, purpose, round_index)]
    return shuffled.repeat(-(-count // len(rows)))[:count]


def _as_made(data: Sequences, events: Ragged, source: Tensor, round_index: int) -> Sequences:
    """Rows that stand where synthetic data stands, so that they weigh the same; traceable to their source."""
    return Sequences(
        events=events,
        num_items=data.num_items,
        user=data.user[source],
        round_index=torch.full_like(source, round_index),
        source=source,
    )
