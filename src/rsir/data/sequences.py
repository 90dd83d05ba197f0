"""Item sequences with their origin: what training, generation and acquisition work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rsir.ragged import Ragged

OBSERVED = 0
"""The `round_index` of observed data; a sequence of round k ≥ 1 is synthetic."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of item indices, oldest event first, each traceable to a user.

    Attributes:
        events: the items, `Ragged` of S rows; item indices in [0, num_items).
        num_items: size of the catalogue V.
        user: int64 (S,), the user a sequence belongs to, or was generated for.
        round_index: int64 (S,), 0 for observed data, k for data generated in round k.
        source: int64 (S,), the row of the sequence it was generated from in the data of its
            round (observed rows come first and never move), −1 for observed data.
    """

    events: Ragged
    num_items: int
    user: Tensor
    round_index: Tensor
    source: Tensor

    @classmethod
    def observed(cls, events: Ragged, num_items: int, user: Tensor | None = None) -> Sequences:
        """Sequences that really happened; `user` defaults to the row number."""
        rows = len(events)
        device = events.values.device
        return cls(
            events=events,
            num_items=num_items,
            user=torch.arange(rows, device=device) if user is None else user,
            round_index=torch.zeros(rows, dtype=torch.int64, device=device),
            source=torch.full((rows,), -1, dtype=torch.int64, device=device),
        )

    @classmethod
    def concat(cls, parts: Sequence[Sequences]) -> Sequences:
        """The union D_k ∪ D'_{k+1}: all rows of all parts, in order."""
        return cls(
            events=Ragged.concat([part.events for part in parts]),
            num_items=parts[0].num_items,
            user=torch.cat([part.user for part in parts]),
            round_index=torch.cat([part.round_index for part in parts]),
            source=torch.cat([part.source for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.events)

    @property
    def num_events(self) -> int:
        """Number of events E."""
        return self.events.values.numel()

    def select(self, rows: Tensor) -> Sequences:
        """The given rows, in the given order."""
        return replace(
            self,
            events=self.events.select(rows),
            user=self.user[rows],
            round_index=self.round_index[rows],
            source=self.source[rows],
        )

    def to(self, device: torch.device | str) -> Sequences:
        """The same sequences on another device."""
        return replace(
            self,
            events=self.events.to(device),
            user=self.user.to(device),
            round_index=self.round_index.to(device),
            source=self.source.to(device),
        )

    def item_counts(self) -> Tensor:
        """How often each item occurs; int64 (V,)."""
        return torch.bincount(self.events.values, minlength=self.num_items)
