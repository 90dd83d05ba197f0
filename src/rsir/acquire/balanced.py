"""Balanced acquisition: no kind of source and no kind of item fills the synthetic data.

Retaining everything gives long histories, which have more and longer rollouts, and popular items, which
models like, more weight than they have in the observed data. Here every rollout that `RetainAll` admits (at
most `cap` of a source) falls into one of nine strata,

    (third of the sources by length) × (third of the training events by popularity of the item),

a rollout by the mean popularity percentile of its generated items. Thirds are those of the *observed*
data, so that a stratum is too full only where generation prefers it. With n_g rollouts in stratum g and n̄
their mean over the strata that have any, a rollout stays with probability min(1, n̄ / n_g), drawn on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.acquire.admission import Admission, Scope
from rsir.acquire.cap_per_source import CapPerSource
from rsir.acquire.retain_all import RetainAll
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import OBSERVED, Sequences
from rsir.ragged import Ragged
from rsir.rng import uniform

THIRDS = 3


@dataclass(frozen=True)
class Balanced:
    """Rollouts thinned until no stratum of source length and item popularity is above the mean.

    Attributes:
        cap: rollouts of a source at most, drawn at random; None for all.
        min_length: shortest admitted rollout.
        scope: see `RetainAll`.
    """

    cap: int | None = None
    min_length: int = 3
    scope: Scope = "user"

    def admit(self, rollouts: Rollouts, data: Sequences, *, seed: int, round_index: int) -> Admission:
        """See `AcquisitionRule.admit`; draws are keyed by seed, round, source and rollout."""
        keys = {"seed": seed, "round_index": round_index}
        first = (
            RetainAll(self.min_length, self.scope)
            if self.cap is None
            else CapPerSource(self.cap, self.min_length, self.scope)
        )
        before = first.admit(rollouts, data, **keys)
        source, number = rollouts.source[before.rows], rollouts.rollout[before.rows]
        group = strata(rollouts.events.select(before.rows), source, data)
        sizes = torch.bincount(group, minlength=THIRDS**2).double()
        mean = sizes[sizes > 0].mean() if len(group) else sizes.sum()
        kept = uniform(seed, "balance", round_index, source, number) < (mean / sizes)[group]
        counts = {**before.counts, "admitted": int(kept.sum()), "over_balance": int((~kept).sum())}
        return Admission(before.rows[kept], counts)


def strata(made: Ragged, source: Tensor, data: Sequences) -> Tensor:
    """The stratum of each rollout; int64 (R,) in [0, 9).

    Args:
        made: R rollouts, their start item first.
        source: int64 (R,), row of the source of each.
        data: the sources, observed rows first.
    """
    observed = data.select((data.round_index == OBSERVED).nonzero().squeeze(1))
    lengths = observed.events.lengths.double()
    long = torch.bucketize(data.events.lengths[source].double(), _thirds(lengths), right=True)
    percentile = popularity_percentiles(observed.item_counts())
    generated = made.position > 0
    row, total = made.row[generated], torch.zeros(len(made), dtype=torch.float64, device=source.device)
    total = total.index_add(0, row, percentile[made.values[generated]])
    mean = total / torch.bincount(row, minlength=len(made)).clamp(min=1)
    return long * THIRDS + torch.bucketize(mean, _thirds(percentile[observed.events.values]), right=True)


def popularity_percentiles(counts: Tensor) -> Tensor:
    """The share of events that are of rarer items, plus half of those as popular; float64 (V,), in [0, 1].

    >>> popularity_percentiles(torch.tensor([1, 1, 2])).tolist()
    [0.25, 0.25, 0.75]
    """
    levels, level = counts.unique(return_inverse=True)
    mass = torch.zeros(len(levels), dtype=torch.float64, device=counts.device)
    mass = mass.index_add(0, level, counts.double()) / counts.sum()
    return (mass.cumsum(0) - mass / 2)[level]


def _thirds(values: Tensor) -> Tensor:
    """The two values that cut the given ones in three; float64 (2,)."""
    ordered = values.sort().values
    return ordered[[len(ordered) // THIRDS, 2 * len(ordered) // THIRDS]]
