"""What an acquisition rule is, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences

Scope = Literal["user", "global"]


@dataclass(frozen=True)
class Admission:
    """Which rollouts were admitted, and what became of the rest.

    Attributes:
        rows: int64 (A,), the admitted rollouts, ascending.
        counts: rollouts by outcome: admitted, too_short, known (already in the data), duplicate
            (of an earlier rollout), and what the rule adds; they sum to the number of rollouts.
    """

    rows: Tensor
    counts: dict[str, int]

    def sequences(self, rollouts: Rollouts, round_index: int) -> Sequences:
        """The admitted rollouts as data of round `round_index` ≥ 1, traceable to their sources."""
        return Sequences(
            events=rollouts.events.select(self.rows),
            num_items=rollouts.num_items,
            user=rollouts.user[self.rows],
            round_index=torch.full_like(self.rows, round_index),
            source=rollouts.source[self.rows],
        )


class AcquisitionRule(Protocol):
    """Chooses among the rollouts of a round."""

    def admit(self, rollouts: Rollouts, data: Sequences, *, seed: int, round_index: int) -> Admission:
        """Choose rollouts to add to `data`, the sequences they were generated from."""
        ...
