"""Item-to-item neighbours: a yardstick that reads the history but learns nothing.

Cosine similarity of items over training sequences (Sarwar et al., WWW 2001), recent events of
the history weighted more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.errors import ConfigError
from rsir.ragged import Ragged


class ItemKNN:
    """Scores an item by its similarity to the items of the history.

    `score(i | x) = Σ_t decay^(T − t) cos(x_t, i)`, where cos is the number of training sequences
    that hold both items over the geometric mean of those that hold each, and only the
    `num_neighbors` most similar items of each x_t count.

    Args:
        train: the training sequences.
        num_neighbors: neighbours kept for each item, at least 1.
        decay: weight of an event relative to the next one, in (0, 1]; 1 forgets the order.

    Raises:
        ConfigError: if `num_neighbors` or `decay` is out of range.

    >>> train = Sequences.observed(Ragged.from_lists([[0, 1], [0, 1, 2]]), num_items=3)
    >>> [round(score, 3) for score in ItemKNN(train).score(Ragged.from_lists([[0]]))[0].tolist()]
    [0.0, 1.0, 0.707]
    """

    def __init__(self, train: Sequences, *, num_neighbors: int = 100, decay: float = 0.8) -> None:
        if num_neighbors < 1:
            raise ConfigError(f"num_neighbors is {num_neighbors}; keep at least 1")
        if not 0 < decay <= 1:
            raise ConfigError(f"decay is {decay}; it must be above 0 and at most 1")
        self.num_items = train.num_items
        self.decay = decay
        self._items, self._similarity = _neighbors(train, num_neighbors)

    def score(self, histories: Ragged) -> Tensor:
        """Summed similarity to the history; float32 (B, V), 0 for items without a common sequence."""
        events = histories.values.to(self._items.values.device)
        items, similarity = self._items.select(events), self._similarity.select(events)
        weight = self.decay ** histories.from_end.to(events.device)
        place = histories.row.to(events.device)[items.row] * self.num_items + items.values
        scores = torch.zeros(len(histories) * self.num_items, device=events.device)
        scores.index_add_(0, place, weight[items.row] * similarity.values)
        return scores.view(len(histories), self.num_items).to(histories.values.device)


def _neighbors(train: Sequences, num_neighbors: int) -> tuple[Ragged, Ragged]:
    """For each item its most similar items and their cosines, as two `Ragged` of V rows."""
    row, item = torch.unique(torch.stack([train.events.row, train.events.values]), dim=1)
    sets = Ragged.from_lengths(item, torch.bincount(row, minlength=len(train)))
    beside = sets.select(row)  # for each event, the items of its sequence
    pairs, count = torch.unique(item[beside.row] * train.num_items + beside.values, return_counts=True)
    left, right = pairs // train.num_items, pairs % train.num_items
    size = torch.bincount(item, minlength=train.num_items).float()
    cosine = count / (size[left] * size[right]).sqrt()
    keep = left != right
    return _strongest(left[keep], right[keep], cosine[keep], train.num_items, num_neighbors)


def _strongest(
    left: Tensor, right: Tensor, weight: Tensor, num_items: int, kept: int
) -> tuple[Ragged, Ragged]:
    """The `kept` heaviest edges of each left item, heaviest first, equal ones by right item."""
    order = torch.argsort(weight, descending=True, stable=True)
    order = order[torch.argsort(left[order], stable=True)]
    rows = Ragged.from_lengths(order, torch.bincount(left, minlength=num_items))
    rows = rows.slice_rows(torch.zeros_like(rows.lengths), rows.lengths.clamp(max=kept))
    return Ragged(right[rows.values], rows.offsets), Ragged(weight[rows.values], rows.offsets)
