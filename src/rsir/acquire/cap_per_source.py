"""A cap on the rollouts of a source: already better than retain-all, says DA-RSIR (arXiv 2610.04302)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rsir.acquire.admission import Admission, Scope
from rsir.acquire.retain_all import RetainAll
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.ragged import Ragged
from rsir.rng import uniform


@dataclass(frozen=True)
class CapPerSource:
    """At most `cap` rollouts of each source, drawn at random from those `RetainAll` admits."""

    cap: int = 1
    min_length: int = 3
    scope: Scope = "user"

    def admit(self, rollouts: Rollouts, data: Sequences, *, seed: int, round_index: int) -> Admission:
        """See `AcquisitionRule.admit`; draws are keyed by seed, round, source and rollout."""
        everything = RetainAll(self.min_length, self.scope)
        retained = everything.admit(rollouts, data, seed=seed, round_index=round_index)
        source, number = rollouts.source[retained.rows], rollouts.rollout[retained.rows]
        drawn = uniform(seed, "cap", round_index, source, number)
        rows = retained.rows[first_of_group(source, drawn, self.cap)]
        over = retained.rows.numel() - rows.numel()
        return Admission(rows, {**retained.counts, "admitted": rows.numel(), "over_cap": over})


def first_of_group(group: Tensor, key: Tensor, count: int) -> Tensor:
    """The `count` places of each group with the lowest keys; int64, ascending. Among equal keys the first.

    >>> import torch
    >>> first_of_group(torch.tensor([5, 5, 2]), torch.tensor([0.9, 0.1, 0.5]), 1).tolist()
    [1, 2]
    """
    ordered = key.argsort(stable=True)
    ordered = ordered[group[ordered].argsort(stable=True)]
    place = Ragged.from_lengths(ordered, group.unique(return_counts=True)[1]).position
    return ordered[place < count].sort().values
