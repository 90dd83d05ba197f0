"""Training batches: sequences as (prefix, next item) pairs, assembled from flat arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.errors import DataError
from rsir.ragged import Ragged
from rsir.rng import permutation

Targets = Literal["every", "last"]


@dataclass(frozen=True)
class Batch:
    """Histories and what to predict from them.

    Attributes:
        histories: `Ragged` of B rows, N events.
        place: int64 (M,), flat places in `histories` that predict.
        target: int64 (M,), the item to predict at each place.
        weight: float32 (M,), weight of each prediction.
        share: float32 (M,), the teacher's share of each target; None without a teacher.
    """

    histories: Ragged
    place: Tensor
    target: Tensor
    weight: Tensor
    share: Tensor | None = None


_TOO_LONG = 0.01
"""Rows of a batch, on average, that are longer than there is room for."""


@dataclass(frozen=True)
class Room:
    """One shape that batches are filled up to, so that the work on each of them is the same.

    Attributes:
        events: N, events of a filled batch, and the most of one that fits.
        rows: most rows of a batch that fits.
        tall: so many rows, the first ones, may have more events than the others.
        longest: what these are padded to.
        short: what the others are padded to.
    """

    events: int
    rows: int
    tall: int
    longest: int
    short: int

    @classmethod
    def of(cls, lengths: Tensor, batch_size: int) -> Room:
        """Room for random batches of rows of these lengths, int64 (rows,): for nearly all of them.

        The number of events of a batch, and of rows among them that are longer than some length, is spread
        like a normal distribution, which passes four deviations above its mean once in 30,000 times. An
        eighth of the rows may be tall; the others are then padded to far less than the longest. One batch in
        a hundred may have a row that is longer still.

        >>> Room.of(torch.full((1000,), 4), 256)
        Room(events=1024, rows=256, tall=32, longest=4, short=4)
        """
        each, rows = lengths.double(), min(batch_size, len(lengths))
        events = math.ceil(float(each.mean()) * rows + 4 * float(each.std(correction=0)) * rows**0.5)
        tall = max(1, rows // 8)
        usually_tall = ((4 + tall) ** 0.5 - 2) ** 2  # the mean of a count that with four deviations is `tall`
        falling = lengths.sort(descending=True).values
        longest, short = (int(falling[int(n / rows * len(lengths))]) for n in (_TOO_LONG, usually_tall))
        return cls(-(-events // 128) * 128, rows, tall, longest, short)

    def holds(self, batch: Batch) -> bool:
        """Whether a batch, longest rows first, fits; each of its places must predict."""
        lengths, events = batch.histories.host_offsets.diff().tolist(), batch.histories.values.numel()
        low = max(lengths[: self.tall], default=0) <= self.longest
        low = low and max(lengths[self.tall :], default=0) <= self.short
        return low and len(lengths) <= self.rows and events <= self.events and batch.place.numel() == events

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and places of the two blocks that a filled batch is padded in, as `Ragged.shapes`."""
        others = self.rows - self.tall + -(-self.events // self.short)
        return (self.tall, self.longest), (others, self.short)


class Slot:
    """A filled batch that stays where it is: what is put into it takes the place of what was there.

    Behind the rows of a batch stand further ones, of whatever was there before; they weigh nothing.

    Args:
        room: its shape.
        like: a batch that fits; it is not put into it yet.
    """

    def __init__(self, room: Room, like: Batch) -> None:
        rows, all_rows = like.histories, sum(count for count, _ in room.shapes)
        self._room = room
        self._along = [x.new_zeros(room.events) for x in _along(like)]
        self._offsets = rows.offsets.new_zeros(all_rows + 1)
        self._place = torch.arange(room.events, device=rows.offsets.device)
        self._further = room.short * torch.arange(1, all_rows + 1, device=rows.offsets.device)

    def put(self, batch: Batch) -> None:
        """Put a batch that fits in."""
        rows, events = len(batch.histories), batch.target.numel()
        for kept, now in zip(self._along, _along(batch), strict=True):
            kept[:events].copy_(now)
        self._along[0][events:].zero_()
        self._offsets[: rows + 1].copy_(batch.histories.offsets)
        ends = self._further[: len(self._further) - rows] + events
        torch.clamp(ends, max=self._room.events, out=self._offsets[rows + 1 :])

    def batch(self) -> Batch:
        """The filled batch; of what follows from it nothing is known yet."""
        weight, target, values, *time = self._along
        rows = Ragged(values, self._offsets, *time).in_blocks(*self._room.shapes)
        return Batch(rows, self._place, target, weight)


def _along(batch: Batch) -> tuple[Tensor, ...]:
    """What a batch that predicts everywhere has along its events: weight, target, item and perhaps time."""
    rows = batch.histories
    return batch.weight, batch.target, rows.values, *(() if rows.time is None else (rows.time,))


@dataclass(frozen=True)
class TrainingRows:
    """Training data laid out so that any set of rows is a batch without a loop.

    Attributes:
        histories: the input events of each row.
        target: int64 (E,), the next item at each input event.
        weight: float32 (rows,).
        targets: "every": each position predicts; "last": only the last of a row.
        share: float32 (rows,), the teacher's share of the row's targets; None without a teacher.
    """

    histories: Ragged
    target: Tensor
    weight: Tensor
    targets: Targets
    share: Tensor | None = None

    @classmethod
    def build(
        cls,
        data: Sequences,
        max_length: int,
        targets: Targets = "every",
        weight: Tensor | None = None,
        share: Tensor | None = None,
    ) -> TrainingRows:
        """Lay out sequences for training.

        Args:
            data: sequences; those shorter than two events predict nothing and are left out.
            max_length: the most recent events kept as input.
            targets: "every" predicts after each event in one pass over the sequence (causal models);
                "last" makes every prefix a row of its own that predicts once, as at evaluation.
            weight: float (S,), weight of each sequence; None: all 1.
            share: float (S,), a teacher's share of the targets of each sequence.

        Raises:
            DataError: if no sequence has two events.
        """
        weight = torch.ones(len(data)) if weight is None else weight.float()
        rows = torch.nonzero(data.events.lengths >= 2).squeeze(1)
        if rows.numel() == 0:
            raise DataError("no training sequence has two events: there is nothing to predict from")
        events = data.events.select(rows).tail(max_length + 1)
        inputs = events.slice_rows(torch.zeros_like(events.lengths), events.lengths - 1)
        target = events.slice_rows(torch.ones_like(events.lengths), events.lengths).values
        if targets == "last":
            rows = rows[inputs.row]
            inputs, target = _every_prefix(inputs, target)
        return cls(inputs, target, weight[rows], targets, None if share is None else share.float()[rows])

    def __len__(self) -> int:
        return len(self.histories)

    def to(self, device: torch.device | str) -> TrainingRows:
        """The same rows on another device."""
        share = None if self.share is None else self.share.to(device)
        target, weight = self.target.to(device), self.weight.to(device)
        return TrainingRows(self.histories.to(device), target, weight, self.targets, share)

    @property
    def num_predictions(self) -> int:
        """Predictions in one pass over the data."""
        return len(self) if self.targets == "last" else self.target.numel()

    def _order(self, seed: int, epoch: int, batch_size: int) -> Tensor:
        """A random order of rows; within a batch, where order means nothing, longest first."""
        home = self.target.device
        order = permutation(len(self), seed, "epoch", epoch, device=home)
        batch = torch.arange(len(self), device=home) // batch_size
        length = self.histories.lengths[order]
        return order[torch.argsort(batch * (self.histories.max_length + 1) - length, stable=True)]

    def epoch(self, seed: int, epoch: int, batch_size: int, device: torch.device | str) -> Iterator[Batch]:
        """One pass in an order fixed by `seed` and `epoch`, on `device`.

        The whole pass is permuted and moved at once; batches are slices of it, and their sizes are
        known on the host, so that a GPU never waits.
        """
        order = self._order(seed, epoch, batch_size)
        all_histories = self.histories.permuted(order).to(device)
        all_targets = Ragged(self.target, self.histories.offsets).permuted(order).values.to(device)
        given = [x[order].to(device) for x in (self.weight, self.share) if x is not None]
        if self.targets == "every":
            given = [x[all_histories.row] for x in given]
        for start in range(0, len(self), batch_size):
            stop = min(start + batch_size, len(self))
            histories = all_histories.span(start, stop)
            events = slice(*all_histories.host_offsets[[start, stop]].tolist())
            target = all_targets[events]
            if self.targets == "every":
                place, part = torch.arange(len(target), device=device), events
            else:
                place, part = histories.last, slice(start, stop)
                target = target[place]
            yield Batch(histories, place, target, *(x[part] for x in given))


def _every_prefix(inputs: Ragged, target: Tensor) -> tuple[Ragged, Tensor]:
    """Each prefix of each row as a row; its target repeated on all its places (only the last is read)."""
    repeats = inputs.select(inputs.row)  # event e stands for the prefix that ends with it
    stop = inputs.position + 1
    prefixes = repeats.slice_rows(torch.zeros_like(stop), stop)
    return prefixes, torch.repeat_interleave(target, stop)
