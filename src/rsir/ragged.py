"""Ragged rows as flat values and offsets: how sequences are held everywhere.

Shape suffixes used across the package:

    N  events of a batch, flat      B  sequences of a batch    L  longest sequence of the batch
    S  sequences of a data set      E  events of a data set    V  items of the catalogue
    D  width of the hidden state    K  items kept by a top-K

Padding happens here (`pad`, `spread`) and nowhere else; padded places stand *after* the real
events, so that a causal model never sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_BLOCK_ROWS = 32


@dataclass(frozen=True)
class Ragged:
    """Rows of different length, stored flat.

    Attributes:
        values: int64 (N,), the rows one after another.
        offsets: int64 (B + 1,), row b is `values[offsets[b]:offsets[b + 1]]`.
        time: float64 (N,), when each value happened, in the unit of its log, NaN where that is not
            known; None where nothing is. It goes wherever its value goes; rows made anew have none.

    >>> rows = Ragged.from_lists([[4, 5, 6], [7]])
    >>> rows.lengths.tolist(), rows.position.tolist(), rows.from_end.tolist()
    ([3, 1], [0, 1, 2, 0], [2, 1, 0, 0])
    >>> rows.pad(rows.values, fill=-1).tolist()
    [[4, 5, 6], [7, -1, -1]]
    """

    values: Tensor
    offsets: Tensor
    time: Tensor | None = None

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Build from Python lists (tests, small inputs)."""
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        values = torch.tensor([value for row in rows for value in row], dtype=torch.int64)
        return cls.from_lengths(values, lengths)

    @classmethod
    def from_lengths(cls, values: Tensor, lengths: Tensor, time: Tensor | None = None) -> Ragged:
        """Build from flat values, the length of each row and, where known, the times of the values."""
        offsets = torch.zeros(lengths.numel() + 1, dtype=torch.int64, device=lengths.device)
        torch.cumsum(lengths, 0, out=offsets[1:])
        return cls(values, offsets, time)

    @classmethod
    def concat(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, one after another; beside a timed part, one without has unknown times.

        >>> timed = Ragged(torch.tensor([4]), torch.tensor([0, 1]), torch.tensor([9.0]).double())
        >>> Ragged.concat([timed, Ragged.from_lists([[5, 6]])]).time.tolist()
        [9.0, nan, nan]
        """
        values = torch.cat([part.values for part in parts])
        timed = any(part.time is not None for part in parts)
        time = torch.cat([part._time_or_unknown() for part in parts]) if timed else None
        return cls.from_lengths(values, torch.cat([part.lengths for part in parts]), time)

    def _time_or_unknown(self) -> Tensor:
        if self.time is not None:
            return self.time
        return torch.full_like(self.values, torch.nan, dtype=torch.float64)

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @cached_property
    def host_offsets(self) -> Tensor:
        """The offsets on the CPU; rows that were moved from there know them, and no GPU is waited for."""
        return self.offsets.cpu()

    @cached_property
    def lengths(self) -> Tensor:
        """Length of each row; int64 (B,)."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def row(self) -> Tensor:
        """The row each value stands in; int64 (N,)."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(rows, self.lengths, output_size=self.values.numel())

    @cached_property
    def position(self) -> Tensor:
        """Place of each value counted from the start of its row, 0 first; int64 (N,)."""
        return torch.arange(self.values.numel(), device=self.offsets.device) - self.offsets[self.row]

    @cached_property
    def from_end(self) -> Tensor:
        """Place of each value counted from the end of its row, 0 last; int64 (N,)."""
        return self.lengths[self.row] - 1 - self.position

    @cached_property
    def max_length(self) -> int:
        """Length of the longest row; 0 if there is none."""
        return int(self.host_offsets.diff().max()) if len(self) else 0

    @cached_property
    def reaching(self) -> list[int]:
        """How many rows have a value at each position; falls.

        >>> Ragged.from_lists([[4, 5, 6], [7]]).reaching
        [2, 1, 1]
        """
        ending = torch.bincount(self.host_offsets.diff(), minlength=self.max_length + 1)
        return (len(self) - ending.cumsum(0))[:-1].tolist()

    @cached_property
    def last(self) -> Tensor:
        """Flat place of each row's last value; int64 (B,). Rows must not be empty."""
        return self.offsets[1:] - 1

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and places of the blocks that the rows are padded in, one block after another.

        Padding costs little where the rows of a block are of like length, so batches come sorted by length.
        A GPU gets one block if nothing else is said (`in_blocks`): there a launch costs more than padding.

        >>> Ragged.from_lists([[4, 5, 6], [7]]).shapes
        ((2, 3),)
        """
        if not self.offsets.is_cpu:
            return ((len(self), self.max_length),)
        parts = self.lengths.split(_BLOCK_ROWS)
        return tuple((len(part), int(part.max())) for part in parts) if len(self) else ((0, 0),)

    @cached_property
    def _places(self) -> Tensor:
        """Where each value stands in the blocks, laid out one after another; int64 (N,)."""
        starts, first = list[Tensor](), 0
        for rows, places in self.shapes:
            starts.append(first + places * torch.arange(rows, device=self.offsets.device))
            first += rows * places
        return torch.cat(starts)[self.row] + self.position

    def pad(self, x: Tensor, fill: float = 0) -> Tensor:
        """Spread flat `x` (N, ...) to (B, L, ...), `fill` after the end of each row."""
        out = x.new_full((len(self) * self.max_length, *x.shape[1:]), fill)
        out = out.index_copy(0, self._padded_place, x)
        return out.view(len(self), self.max_length, *x.shape[1:])

    def flatten(self, padded: Tensor) -> Tensor:
        """Undo `pad`: take the real places of (B, L, ...) as (N, ...)."""
        return padded.reshape(-1, *padded.shape[2:]).index_select(0, self._padded_place)

    @cached_property
    def _padded_place(self) -> Tensor:
        return self.row * self.max_length + self.position

    def spread(self, x: Tensor) -> list[Tensor]:
        """Flat `x` (N, ...) in blocks (rows, places, ...), zeros after the end of each row; see `shapes`."""
        sizes = [rows * places for rows, places in self.shapes]
        out = x.new_zeros((sum(sizes), *x.shape[1:])).index_copy(0, self._places, x)
        parts = zip(out.split(sizes), self.shapes, strict=True)
        return [part.unflatten(0, shape) for part, shape in parts]

    def collect(self, blocks: Sequence[Tensor]) -> Tensor:
        """Undo `spread`: the real places of all blocks as (N, ...).

        >>> rows = Ragged.from_lists([[4, 5, 6], [7]])
        >>> rows.collect(rows.spread(rows.values)).tolist()
        [4, 5, 6, 7]
        """
        flat = [block.flatten(0, 1) for block in blocks]
        return (flat[0] if len(flat) == 1 else torch.cat(flat)).index_select(0, self._places)

    def at(self, places: Tensor | slice, offsets: Tensor) -> Ragged:
        """The values at some flat places, with their times, cut into rows by `offsets`."""
        return Ragged(self.values[places], offsets, None if self.time is None else self.time[places])

    def in_blocks(self, *shapes: tuple[int, int]) -> Ragged:
        """The same rows, to be padded in blocks of these shapes, whatever their lengths: none is asked for.

        >>> Ragged.from_lists([[4]]).in_blocks((1, 2)).spread(torch.tensor([4]))[0].tolist()
        [[4, 0]]
        """
        other = Ragged(self.values, self.offsets, self.time)
        other.__dict__.update(shapes=shapes, max_length=max(places for _, places in shapes))
        return other

    def with_time(self, time: Tensor) -> Ragged:
        """The same rows at other times, float64 (N,); what was found of the rows stays known."""
        other = Ragged(self.values, self.offsets, time)
        known = {key: fact for key, fact in self.__dict__.items() if key != "time"}
        other.__dict__.update(known)
        return other

    def select(self, rows: Tensor) -> Ragged:
        """The given rows, in the given order; `rows` is int64 (R,)."""
        lengths = self.lengths[rows]
        return self._pieces(self.offsets[rows], lengths, int(lengths.sum()))

    def permuted(self, order: Tensor) -> Ragged:
        """All rows in another order, int64 (B,); nothing is asked for.

        >>> Ragged.from_lists([[4, 5], [6]]).permuted(torch.tensor([1, 0])).tolists()
        [[6], [4, 5]]
        """
        return self._pieces(self.offsets[order], self.lengths[order], self.values.numel())

    def _pieces(self, start: Tensor, length: Tensor, total: int) -> Ragged:
        """Rows of the values from flat places `start` on, `length` of each, int64 (R,), `total` in all."""
        offsets = Ragged.from_lengths(self.values[:0], length).offsets
        shift = torch.repeat_interleave(start - offsets[:-1], length, output_size=total)
        return self.at(torch.arange(total, device=self.values.device) + shift, offsets)

    def between(self, rows: slice) -> Ragged:
        """Rows `start` to `stop` of a slice, without copying them.

        >>> Ragged.from_lists([[1], [2, 3], [4]]).between(slice(1, 3)).tolists()
        [[2, 3], [4]]
        """
        offsets = self.offsets[rows.start : rows.stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return Ragged(self.values[first:last], offsets - first)

    def tail(self, max_length: int) -> Ragged:
        """The last `max_length` values of each row."""
        if self.max_length <= max_length:
            return self
        length, ends = self.lengths.clamp(max=max_length), self.host_offsets.diff().clamp(max=max_length)
        kept = self._pieces(self.offsets[1:] - length, length, int(ends.sum()))
        return kept._knowing(torch.cat([ends.new_zeros(1), ends.cumsum(0)]))

    def slice_rows(self, start: Tensor, stop: Tensor) -> Ragged:
        """Row b becomes its values `start[b]:stop[b]`; both int64 (B,), 0 ≤ start ≤ stop ≤ length."""
        keep = (self.position >= start[self.row]) & (self.position < stop[self.row])
        time = None if self.time is None else self.time[keep]
        return Ragged.from_lengths(self.values[keep], stop - start, time)

    def reversed(self) -> Ragged:
        """Each row from its end to its start, without times: they would run backwards.

        >>> Ragged.from_lists([[4, 5, 6], [7]]).reversed().tolists()
        [[6, 5, 4], [7]]
        """
        return Ragged(self.values[self.offsets[self.row] + self.from_end], self.offsets)

    def to(self, device: torch.device | str) -> Ragged:
        """The same rows on another device."""
        time = None if self.time is None else self.time.to(device)
        moved = Ragged(self.values.to(device), self.offsets.to(device), time)
        return moved if self.offsets.is_cuda else moved._knowing(self.offsets)

    def span(self, start: int, stop: int) -> Ragged:
        """The rows start … stop − 1, which are not copied.

        >>> Ragged.from_lists([[4], [5, 6], [7]]).span(1, 3).tolists()
        [[5, 6], [7]]
        """
        ends = self.host_offsets[start : stop + 1]
        first, last = int(ends[0]), int(ends[-1])
        rows = self.at(slice(first, last), self.offsets[start : stop + 1] - first)
        return rows._knowing(ends - first)

    def _knowing(self, host_offsets: Tensor) -> Ragged:
        self.__dict__["host_offsets"] = host_offsets
        return self

    def tolists(self) -> list[list[int]]:
        """Python lists, for printing and tests."""
        flat, offsets = self.values.tolist(), self.offsets.tolist()
        return [flat[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
