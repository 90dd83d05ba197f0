"""Training batches: sequences as (prefix, next item) pairs, assembled from flat arrays."""

from __future__ import annotations

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
