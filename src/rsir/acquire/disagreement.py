"""Acquisition by disagreement: DA-RSIR (arXiv 2610.04302), which verified rollouts to train on.

Each source's verified rollouts are split by the model's disagreement into bins of low, middle and high,
and one is taken at random from each bin that is not empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rsir.acquire.admission import Admission, Scope
from rsir.acquire.cap_per_source import first_of_group
from rsir.acquire.retain_all import RetainAll
from rsir.acquire.uncertainty import disagreement
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.errors import ConfigError
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import generator_seed, uniform

KeptBins = Literal["each", "lowest", "highest"]


@dataclass(frozen=True)
class Disagreement:
    """One rollout from each bin of disagreement of a source, of those that `RetainAll` admits.

    Attributes:
        model: the model that generated; it needs dropout.
        passes: T, Monte Carlo dropout passes.
        bins: bins of a source: at most so many of its rollouts are admitted; 3 in the paper.
        keep: "each" bin, or, for the ablation, the "lowest" or the "highest" alone.
        min_length: shortest admitted rollout.
        scope: see `RetainAll`.
    """

    model: SequenceModel | None
    passes: int = 10
    bins: int = 3
    keep: KeptBins = "each"
    min_length: int = 3
    scope: Scope = "user"

    def admit(self, rollouts: Rollouts, data: Sequences, *, seed: int, round_index: int) -> Admission:
        """See `AcquisitionRule.admit`.

        The draw in a bin is keyed by seed, round, source and rollout; the dropout masks by seed, round and
        pass over the retained rollouts, see `uncertainty`.

        Raises:
            ConfigError: if there is no model, or it has no dropout.
        """
        if self.model is None:
            raise ConfigError("rule='disagreement' asks the model that generated: hand it in as model=…")
        everything = RetainAll(self.min_length, self.scope)
        retained = everything.admit(rollouts, data, seed=seed, round_index=round_index)
        events = rollouts.events.select(retained.rows)
        key = generator_seed(seed, "disagreement", round_index)
        score = disagreement(self.model, events, passes=self.passes, seed=key)
        source, number = rollouts.source[retained.rows], rollouts.rollout[retained.rows]
        bins = bins_by_rank(source, score, self.bins)
        drawn = uniform(seed, "bin", round_index, source, number)
        picked = first_of_group(source * self.bins + bins, drawn, 1)
        picked = picked[self._kept(source[picked], bins[picked])]
        counts = {**retained.counts, "admitted": picked.numel()}
        return Admission(retained.rows[picked], {**counts, "over_cap": len(source) - picked.numel()})

    def _kept(self, source: Tensor, bins: Tensor) -> Tensor:
        """Which picks stay; bool. The highest bin of a source is the highest that it has."""
        if self.keep == "each":
            return torch.ones_like(source, dtype=torch.bool)
        if self.keep == "lowest":
            return bins == 0
        group = source.unique(return_inverse=True)[1]
        top = torch.zeros_like(bins).scatter_reduce(0, group, bins, "amax")
        return bins == top[group]


def bins_by_rank(group: Tensor, score: Tensor, bins: int) -> Tensor:
    """The bin of each row within its group, by rank of its score; int64 in [0, bins).

    The r-th lowest of n (r from 0) goes to bin ⌊r · bins / n⌋: bins are as even as can be, and a group of
    fewer rows than bins fills as many bins as it has rows. Among equal scores the first row is lower.

    >>> bins_by_rank(torch.tensor([0, 0, 0, 7]), torch.tensor([0.3, 0.1, 0.2, 0.5]), 3).tolist()
    [2, 0, 1, 0]
    """
    ordered = score.argsort(stable=True)
    ordered = ordered[group[ordered].argsort(stable=True)]
    ranked = Ragged.from_lengths(ordered, group.unique(return_counts=True)[1])
    place = ranked.position * bins // ranked.lengths[ranked.row]
    return torch.empty_like(place).index_copy(0, ordered, place)
