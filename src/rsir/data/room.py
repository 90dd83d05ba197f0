"""One shape for all batches of a training run, and a batch that stays in one place: see `rsir.replay`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.data.batches import Batch
from rsir.ragged import Ragged

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
