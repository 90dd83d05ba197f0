"""The items of a simulated world: each belongs to one topic and stands on that topic's ring.

Two laws are closed forms over this structure: how popular an item is within its topic, and
which items tend to follow it (the next few on the ring).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rsir.rng import permutation


@dataclass(frozen=True)
class TopicRings:
    """Items in topics, each topic a ring.

    Attributes:
        topic: int64 (V,), the topic of each item.
        ring: int64 (V,), the place of each item on its topic's ring, 0 first.
        popularity: float64 (V,), P(item | topic) of an item chosen by popularity; 1 for each topic.
        num_successors: how many items of the ring may follow an item.

    >>> world = TopicRings.draw(num_items=6, num_topics=2, popularity_skew=1.0, num_successors=2, seed=0)
    >>> world.sizes.tolist(), world.successor_weights.tolist()
    ([3, 3], [0.6666666666666666, 0.3333333333333333])
    """

    topic: Tensor
    ring: Tensor
    popularity: Tensor
    num_successors: int

    @classmethod
    def draw(
        cls, num_items: int, num_topics: int, popularity_skew: float, num_successors: int, seed: int
    ) -> TopicRings:
        """Place the items at random; popularity is rank ** -popularity_skew (Zipf's law)."""
        place = permutation(num_items, seed, "simulate", "place")
        rank = permutation(num_items, seed, "simulate", "rank") + 1
        weight = rank.to(torch.float64) ** -popularity_skew
        topic = place % num_topics
        mass = torch.zeros(num_topics, dtype=torch.float64).index_add(0, topic, weight)
        return cls(topic, place // num_topics, weight / mass[topic], num_successors)

    @property
    def num_items(self) -> int:
        """Size of the catalogue V."""
        return self.topic.numel()

    @cached_property
    def sizes(self) -> Tensor:
        """Items of each topic; int64 (C,)."""
        return torch.bincount(self.topic)

    @cached_property
    def starts(self) -> Tensor:
        """Where each topic begins in `order`; int64 (C,)."""
        return torch.cumsum(self.sizes, 0) - self.sizes

    @cached_property
    def order(self) -> Tensor:
        """The items topic by topic, each in the order of its ring; int64 (V,)."""
        return torch.argsort(self.topic * self.num_items + self.ring)

    @cached_property
    def successor_weights(self) -> Tensor:
        """P(j + 1 steps along the ring | the item is followed), halving with j; float64 (W,)."""
        weights = 0.5 ** torch.arange(self.num_successors, dtype=torch.float64)
        return weights / weights.sum()

    @cached_property
    def _cumulative(self) -> Tensor:
        return torch.cumsum(self.popularity[self.order], 0)

    def along(self, item: Tensor, steps: Tensor) -> Tensor:
        """The item that stands `steps` places further on the ring of `item` (broadcast together)."""
        topic = self.topic[item]
        return self.order[self.starts[topic] + (self.ring[item] + steps) % self.sizes[topic]]

    def successors(self, item: Tensor) -> Tensor:
        """The items that may follow, likeliest first; int64 (B, W)."""
        return self.along(item[:, None], torch.arange(1, self.num_successors + 1))

    def pick_popular(self, topic: Tensor, draw: Tensor) -> Tensor:
        """The item of `topic` at which the popularity's distribution function passes `draw`."""
        place = torch.searchsorted(self._cumulative, topic + draw, right=True)
        first = self.starts[topic]
        return self.order[torch.minimum(torch.maximum(place, first), first + self.sizes[topic] - 1)]

    def pick_successor(self, item: Tensor, draw: Tensor) -> Tensor:
        """A follower of `item` chosen by `draw` in [0, 1)."""
        steps = torch.searchsorted(torch.cumsum(self.successor_weights, 0), draw, right=True)
        return self.along(item, steps.clamp(max=self.num_successors - 1) + 1)

    def long_run(self, follow: float, tolerance: float = 1e-12) -> Tensor:
        """P(item | topic) in the long run of a walk that follows with probability `follow`.

        The fixed point r = (1 − follow) · popularity + follow · r S, with S the law of the
        successors; iterated until nothing moves by more than `tolerance`. Float64 (V,).
        """
        back = torch.arange(1, self.num_successors + 1)
        origin = self.along(torch.arange(self.num_items)[:, None], -back)
        share = self.popularity
        while True:
            moved = (1 - follow) * self.popularity + follow * (share[origin] @ self.successor_weights)
            if (moved - share).abs().max() <= tolerance:
                return moved
            share = moved
