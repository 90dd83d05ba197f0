"""What each simulated user truly likes, and the smallest set of items that holds most of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rsir.data.topics import TopicRings

_APART = 100.0
"""Distance of two topics' sort keys; more than any −log(share) of an item."""


@dataclass(frozen=True)
class Liking:
    """Time-averaged, noise-free preference q_u(i) = θ̄_u(topic of i) · share(i | topic).

    Never holds users × items: a set of items is given by the least liking inside it.

    Attributes:
        rings: the items and their topics.
        share: float64 (V,), long-run share of each item within its topic.
        user_topics: int64 (U, K), the topics each user likes.
        tastes: float64 (U, K), θ̄, the user's share of each; rows sum to 1.
    """

    rings: TopicRings
    share: Tensor
    user_topics: Tensor
    tastes: Tensor

    def of(self, user: Tensor, items: Tensor) -> Tensor:
        """Liking of each item by its user (broadcast together); float64."""
        liked = self.user_topics[user] == self.rings.topic[items][..., None]
        return (liked * self.tastes[user]).sum(-1) * self.share[items]

    def threshold(self, users: Tensor, mass: float) -> Tensor:
        """The least q inside the smallest set that holds `mass`; float64 (B,).

        Bisection on log q, to a relative 1e-9; each step costs a search for each topic of a user.
        """
        topics, tastes = self.user_topics[users], self.tastes[users]
        low = torch.full((len(users),), -60.0, dtype=torch.float64)
        high = torch.zeros_like(low)
        for _ in range(40):
            middle = (low + high) / 2
            held = (tastes * self._mass_above(topics, middle[:, None] - tastes.log())).sum(1)
            low, high = torch.where(held >= mass, middle, low), torch.where(held >= mass, high, middle)
        return (low - 1e-9).exp()

    @cached_property
    def _ranked(self) -> tuple[Tensor, Tensor]:
        """Items by topic and falling share: sort keys (V,), and the mass before each place (V + 1,)."""
        key, order = torch.sort(self.rings.topic * _APART - self.share.log())
        before = torch.zeros(len(key) + 1, dtype=torch.float64)
        before[1:] = torch.cumsum(self.share[order], 0)
        return key, before

    def _mass_above(self, topics: Tensor, log_level: Tensor) -> Tensor:
        """Share of each topic held by its items of log share ≥ `log_level` (same shape)."""
        key, before = self._ranked
        level = topics * _APART - log_level.clamp(min=-0.7 * _APART, max=1)
        place = torch.searchsorted(key, level, right=True)
        return before[place] - before[self.rings.starts[topics]]
