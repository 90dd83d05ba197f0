"""Flat events in the order of time, for networks that go from event to event."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.ragged import Ragged


@dataclass(frozen=True)
class TimeMajor:
    """First events of all rows, then second events, …; longest rows first, so that nothing is padded.

    Attributes:
        order: int64 (N,), flat places by time.
        back: int64 (N,), the inverse: where each flat place stands.
        sizes: rows that have an event at each time, falling.

    >>> by_time = TimeMajor.of(Ragged.from_lists([[7], [4, 5, 6]]))
    >>> by_time.order.tolist(), by_time.sizes
    ([1, 0, 2, 3], [2, 1, 1])
    """

    order: Tensor
    back: Tensor
    sizes: list[int]

    @classmethod
    def of(cls, histories: Ragged) -> TimeMajor:
        """The order of these rows."""
        longest_first = torch.argsort(histories.lengths, descending=True, stable=True)
        rank = _inverse(longest_first)
        order = torch.argsort(histories.position * len(histories) + rank[histories.row])
        return cls(order, _inverse(order), histories.reaching)


def _inverse(order: Tensor) -> Tensor:
    """The inverse of a permutation."""
    places = torch.arange(order.numel(), device=order.device)
    return torch.empty_like(order).index_copy_(0, order, places)
