"""Acquisition: which verified rollouts enter the data.

RSIR (arXiv 2602.15659) admits all of them "without duplicates, of length ≥ 3" (`RetainAll`).
DA-RSIR (arXiv 2610.04302) finds that a cap for each source is already better (`CapPerSource`).
A rule is any object with `admit`; one that needs a model or scores is built with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.errors import ConfigError
from rsir.ragged import Ragged
from rsir.rng import uniform
from rsir.settings import Settings

Scope = Literal["user", "global"]


class AcquisitionConfig(Settings):
    """Which verified rollouts are admitted."""

    rule: Literal["retain_all", "cap_per_source"] = Field(
        "retain_all", description="admit all verified rollouts, or at most `cap` of each source"
    )
    cap: int | None = Field(None, ge=1, description="rollouts of a source under cap_per_source")
    scope: Scope = Field(
        "user", description="a duplicate repeats a sequence of the same user, or of anyone (global)"
    )


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
        drawn = uniform(seed, "cap", round_index, source, number).argsort(stable=True)
        drawn = drawn[source[drawn].argsort(stable=True)]
        place = Ragged.from_lengths(drawn, source.unique(return_counts=True)[1]).position
        rows = retained.rows[drawn[place < self.cap]].sort().values
        over = retained.rows.numel() - rows.numel()
        return Admission(rows, {**retained.counts, "admitted": rows.numel(), "over_cap": over})


def acquisition_rule(config: AcquisitionConfig, min_length: int = 3) -> AcquisitionRule:
    """The rule a configuration names.

    Raises:
        ConfigError: if `cap` is missing, or given to a rule that has none.
    """
    if config.rule == "retain_all":
        if config.cap is not None:
            raise ConfigError(f"cap={config.cap} means nothing to rule='retain_all'; use 'cap_per_source'")
        return RetainAll(min_length, config.scope)
    if config.cap is None:
        raise ConfigError("rule='cap_per_source' needs a cap; set acquisition.cap to 1 or more")
    return CapPerSource(config.cap, min_length, config.scope)


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
