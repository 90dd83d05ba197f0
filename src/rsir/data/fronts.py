"""Growing sequences side by side: rollouts of one length and the distinct prefixes they stand on.

Shape suffixes: R active rollouts, P distinct prefixes of length L, Q distinct
(prefix, source) pairs, M own items outside their prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from rsir.compiled import loops
from rsir.data.sequences import Sequences
from rsir.ragged import Ragged

_ITEMS = 1 << 15
"""Own items looked up at a time."""


@dataclass(frozen=True)
class Front:
    """Active rollouts, all of one length, and the distinct prefixes they stand on.

    Attributes:
        rollout: int64 (R,), numbers of the active rollouts.
        prefix: int64 (R,), the prefix each stands on.
        prefixes_PL: int64 (P, L), the distinct prefixes; each is used by some rollout.
        parent: int64 (P,), the prefix of the front before that each goes on from; None at the start.
    """

    rollout: Tensor
    prefix: Tensor
    prefixes_PL: Tensor
    parent: Tensor | None = None

    @classmethod
    def start(cls, item_R: Tensor) -> Front:
        """Rollouts 0 … R − 1 of one item each.

        >>> front = Front.start(torch.tensor([7, 7, 2]))
        >>> front.prefix.tolist(), front.prefixes_PL.tolist()
        ([1, 1, 0], [[2], [7]])
        """
        prefixes, prefix = item_R.unique(return_inverse=True)
        return cls(torch.arange(len(item_R), device=item_R.device), prefix, prefixes[:, None])

    def __len__(self) -> int:
        return self.rollout.numel()

    @property
    def length(self) -> int:
        """Items of each rollout so far, L."""
        return self.prefixes_PL.shape[1]

    def keep(self, rows: Tensor) -> Front:
        """The rollouts where `rows` (bool) is true, and their prefixes."""
        if bool(rows.all()):
            return self
        used, prefix = self.prefix[rows].unique(return_inverse=True)
        parent = None if self.parent is None else self.parent[used]
        return Front(self.rollout[rows], prefix, self.prefixes_PL[used], parent)

    def halves(self) -> tuple[Front, Front]:
        """Those on the first half of the prefixes, and those on the rest.

        >>> [half.prefix.tolist() for half in Front.start(torch.tensor([7, 7, 2])).halves()]
        [[0], [0, 0]]
        """
        first = self.prefix < len(self.prefixes_PL) // 2
        return self.keep(first), self.keep(~first)

    def extend(self, rows: Tensor, item: Tensor, num_items: int) -> Front:
        """The rollouts where `rows` (bool) is true, each with one more `item`.

        Two are on the same prefix if they were and took the same item: exact, without
        comparing or hashing whole sequences.
        """
        key, prefix = (self.prefix[rows] * num_items + item).unique(return_inverse=True)
        parent, item = key // num_items, key % num_items
        longer = torch.cat([self.prefixes_PL[parent], item[:, None]], 1)
        return Front(self.rollout[rows], prefix, longer, parent)


@dataclass(frozen=True)
class Pairs:
    """Distinct (prefix, source) pairs, ordered by prefix, with the source's items outside the prefix.

    Attributes:
        of_rollout: int64 (R,), the pair of each active rollout.
        prefix: int64 (Q,), the prefix of each pair.
        remaining: Q rows of items, ascending.
    """

    of_rollout: Tensor
    prefix: Tensor
    remaining: Ragged

    @classmethod
    def of(cls, front: Front, source_R: Tensor, own: Ragged) -> Pairs:
        """The pairs of a front, given the source of each rollout and the item set of each source."""
        key, of_rollout = (front.prefix * len(own) + source_R).unique(return_inverse=True)
        prefix = key // len(own)
        return cls(of_rollout, prefix, _outside(front.prefixes_PL, prefix, key % len(own), own))

    def first_place(self, items_PK: Tensor) -> Tensor:
        """Where the first of each pair's remaining items stands in the list of its prefix; int64 (Q,).

        K if none stands there.
        """
        if (lookups := loops_for(items_PK)) is not None:
            arrays = (
                x.numpy() for x in (items_PK, self.prefix, self.remaining.values, self.remaining.offsets)
            )
            return torch.from_numpy(lookups.first_place(*arrays))
        width, row, item = items_PK.shape[1], self.remaining.row, self.remaining.values
        first = torch.full_like(self.prefix, width)
        places = torch.arange(width, device=first.device)
        for row_M, item_M in zip(row.split(_ITEMS), item.split(_ITEMS), strict=True):
            found_MK = items_PK[self.prefix[row_M]] == item_M[:, None]
            first.scatter_reduce_(0, row_M, torch.where(found_MK, places, width).amin(1), "amin")
        return first

    def by_prefix(self, num_prefixes: int) -> Ragged:
        """The remaining items with one row for each prefix, in the same flat order."""
        lengths = torch.zeros(num_prefixes, dtype=torch.int64, device=self.prefix.device)
        return Ragged.from_lengths(
            self.remaining.values, lengths.index_add(0, self.prefix, self.remaining.lengths)
        )


def _outside(prefixes_PL: Tensor, prefix_Q: Tensor, source_Q: Tensor, own: Ragged) -> Ragged:
    """The own items of each pair's source that do not stand in its prefix; Q rows."""
    if (lookups := loops_for(prefix_Q)) is not None:
        arrays = (x.numpy() for x in (prefixes_PL, prefix_Q, source_Q, own.values, own.offsets))
        values, lengths = lookups.outside(*arrays)
        return Ragged.from_lengths(torch.from_numpy(values), torch.from_numpy(lengths))
    items = own.select(source_Q)
    wanted = ~contains(prefixes_PL, prefix_Q[items.row], items.values)
    return Ragged.from_lengths(items.values[wanted], torch.bincount(items.row[wanted], minlength=len(items)))


def contains(prefixes_PL: Tensor, prefix: Tensor, item: Tensor) -> Tensor:
    """Whether each item stands in its prefix; `prefix` broadcasts with `item`; bool.

    >>> contains(torch.tensor([[1, 2], [3, 4]]), torch.tensor([0, 1]), torch.tensor([2, 2])).tolist()
    [True, False]
    """
    if (lookups := loops_for(item)) is not None:
        flat = prefix.expand_as(item).reshape(-1), item.reshape(-1)
        found = torch.from_numpy(lookups.contains(prefixes_PL.numpy(), *(x.numpy() for x in flat)))
        return found.view(item.shape)
    found = torch.zeros_like(item, dtype=torch.bool)
    for column in prefixes_PL.T:
        found |= column[prefix] == item
    return found


def loops_for(x: Tensor) -> ModuleType | None:
    """The compiled lookups, where they can be had and `x` is on a CPU."""
    return None if x.is_cuda else loops("rsir.data.lookups")


def own_item_sets(data: Sequences) -> Ragged:
    """The distinct items of each sequence, ascending.

    >>> own_item_sets(Sequences.observed(Ragged.from_lists([[3, 1, 3]]), 4)).tolists()
    [[1, 3]]
    """
    key = (data.events.row * data.num_items + data.events.values).unique()
    lengths = torch.bincount(key // data.num_items, minlength=len(data))
    return Ragged.from_lengths(key % data.num_items, lengths)
