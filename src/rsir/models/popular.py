"""The most popular items for everybody, of all time or of late: yardsticks that need no history."""

from __future__ import annotations

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.errors import DataError
from rsir.ragged import Ragged


class MostPopular:
    """Scores items by their training count, the same for every history.

    Equal counts are ordered by item index (the item first seen in the log first), so the scores
    are places in one total order and never tie: V for the most popular item down to 1.

    >>> train = Sequences.observed(Ragged.from_lists([[2, 1], [2, 0]]), num_items=4)
    >>> MostPopular(train).score(Ragged.from_lists([[0]])).tolist()
    [[3.0, 2.0, 4.0, 1.0]]
    """

    def __init__(self, train: Sequences) -> None:
        self.num_items = train.num_items
        self._score = _places(train.item_counts())

    def score(self, histories: Ragged) -> Tensor:
        """The same scores for each history; float32 (B, V)."""
        return self._score.to(histories.values.device).expand(len(histories), -1)


class RecentPopular(MostPopular):
    """The same by the count among the newest training events of all users; equal counts by the count of all.

    Args:
        train: training sequences with times.
        share: of the training events, the newest, that count; in (0, 1].

    Raises:
        DataError: if the training events have no times.

    >>> events = Ragged.from_lists([[2, 2, 1], [2, 0]]).with_time(torch.tensor([1.0, 2, 9, 3, 8]).double())
    >>> RecentPopular(Sequences.observed(events, num_items=4), share=0.4).score(events).tolist()[0]
    [4.0, 3.0, 2.0, 1.0]
    """

    def __init__(self, train: Sequences, share: float = 0.2) -> None:
        if train.events.time is None:
            raise DataError("what is popular of late needs times, the log has none")
        self.num_items = train.num_items
        newest = torch.argsort(train.events.time.nan_to_num(-torch.inf), descending=True, stable=True)
        late = train.events.values[newest[: max(1, round(share * train.num_events))]]
        self._score = _places(torch.bincount(late, minlength=train.num_items), train.item_counts())


def popular_yardsticks(train: Sequences) -> dict[str, MostPopular]:
    """Both by name; recent popularity where the log has times."""
    found = {"most_popular": MostPopular(train)}
    return found if train.events.time is None else {**found, "recent_popular": RecentPopular(train)}


def _places(*counts_V: Tensor) -> Tensor:
    """V for the item of the highest count down to 1, equals by the next counts, then by index; float32."""
    order = torch.arange(len(counts_V[0]), device=counts_V[0].device)
    for counts in reversed(counts_V):
        order = order[torch.argsort(counts[order], descending=True, stable=True)]
    places = torch.empty(len(order), device=order.device)
    places[order] = torch.arange(len(order), 0, -1, device=order.device).float()
    return places
