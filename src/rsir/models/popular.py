"""The most popular items for everybody: the yardstick that needs no history."""

from __future__ import annotations

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
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
        counts = train.item_counts()
        order = torch.argsort(counts, descending=True, stable=True)
        self._score = torch.empty(self.num_items, device=counts.device)
        self._score[order] = torch.arange(self.num_items, 0, -1, device=counts.device).float()

    def score(self, histories: Ragged) -> Tensor:
        """The same scores for each history; float32 (B, V)."""
        return self._score.to(histories.values.device).expand(len(histories), -1)
