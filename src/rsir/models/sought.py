"""What is looked up in lists of best items, so that no list is longer than its reader needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.ragged import Ragged


@dataclass(frozen=True)
class Sought:
    """Sets of items, each looked up in the list of a row: which of them stands first there?

    A list that answers has to be that of the row's best K items only down to the last of these first ones.
    Behind it a place may hold −1, and so may every place where no sought item is among the best K. Who reads
    a list from its head to the first item of a set, and takes −1 for an item of none, finds what the whole
    list would tell.

    Attributes:
        row: int64 (Q,), the row of each set, ascending.
        items: Q rows of items.
    """

    row: Tensor
    items: Ragged

    def between(self, rows: slice) -> Sought:
        """What is sought in the lists of some rows, which are then counted from 0.

        >>> sought = Sought(torch.tensor([0, 1, 1]), Ragged.from_lists([[4], [5, 6], [7]]))
        >>> part = sought.between(slice(1, 2))
        >>> part.row.tolist(), part.items.tolists()
        ([0, 0], [[5, 6], [7]])
        """
        first, last = torch.searchsorted(self.row, self.row.new_tensor([rows.start, rows.stop])).tolist()
        return Sought(self.row[first:last] - rows.start, self.items.between(slice(first, last)))


NOTHING = Sought(torch.empty(0, dtype=torch.int64), Ragged.from_lists([]))
"""Whole lists."""
