"""Retain-all: every verified rollout that is long enough and new (RSIR, arXiv 2602.15659)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.acquire.admission import Admission, Scope
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.ragged import Ragged


@dataclass(frozen=True)
class RetainAll:
    """Every rollout that is long enough and new.

    Attributes:
        min_length: shortest admitted rollout.
        scope: "user" drops a rollout whose items, in order, are a sequence the data or an
            earlier rollout has for the *same user*; the same sequence from two users stays, being
            evidence of two. "global" keeps one of each sequence, whoever's it is.
    """

    min_length: int = 3
    scope: Scope = "user"

    def admit(self, rollouts: Rollouts, data: Sequences, *, seed: int, round_index: int) -> Admission:
        """See `AcquisitionRule.admit`; nothing here is random."""
        long_enough = rollouts.events.lengths >= self.min_length
        candidates = long_enough.nonzero().squeeze(1)
        known, duplicate = _repeats(rollouts, candidates, data, self.scope)
        rows = candidates[~known & ~duplicate]
        counts = {
            "admitted": rows.numel(),
            "too_short": len(rollouts) - candidates.numel(),
            "known": int(known.sum()),
            "duplicate": int(duplicate.sum()),
        }
        return Admission(rows, counts)


def _repeats(rollouts: Rollouts, candidates: Tensor, data: Sequences, scope: Scope) -> tuple[Tensor, Tensor]:
    """Which candidates repeat a sequence of the data, and which an earlier candidate; bool (C,)."""
    made = rollouts.events.select(candidates)
    old = (data.events.lengths <= made.max_length).nonzero().squeeze(1)
    rows = Ragged.concat([data.events.select(old), made])
    user = torch.cat([data.user[old], rollouts.user[candidates]])
    group = identities(rows, user if scope == "user" else torch.zeros_like(user), data.num_items)
    places = torch.arange(len(rows), device=group.device)
    first = places.new_full((len(rows),), len(rows)).scatter_reduce(0, group, places, "amin")[group]
    first, places = first[len(old) :], places[len(old) :]
    known = first < len(old)
    return known, (first < places) & ~known


def identities(rows: Ragged, label: Tensor, num_items: int) -> Tensor:
    """A number in [0, B) for each row: equal exactly if label and items, in order, are equal; int64 (B,).

    Rows are told apart position by position, so equality is exact and nothing is hashed.

    >>> rows = Ragged.from_lists([[1, 2], [1, 2], [2, 1], [1]])
    >>> identities(rows, torch.zeros(4, dtype=torch.int64), 3).tolist()
    [1, 1, 2, 0]
    """
    group = _renumber(label)
    for place in range(rows.max_length):
        reach = (rows.lengths > place).nonzero().squeeze(1)
        item = rows.values[rows.offsets[reach] + place]
        longer = _renumber(group[reach] * num_items + item)
        group = group.index_copy(0, reach, longer + len(rows))
        group = _renumber(group)
    return group


def _renumber(x: Tensor) -> Tensor:
    """The same groups numbered from 0."""
    return x.unique(return_inverse=True)[1]
