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
from rsir.devices import at_once
from rsir.ragged import Ragged

_ITEMS = 1 << 15
"""Own items looked up at a time."""
_COMPARED = 1 << 26
"""Items compared at a time on a GPU, where each launch costs; on a CPU, without compiled loops, a column."""


@dataclass(frozen=True)
class Front:
    """Active rollouts, all of one length, and the distinct prefixes they stand on.

    Those on one prefix stand together, in order of their numbers: nothing is sorted to find them.

    Attributes:
        rollout: int64 (R,), numbers of the active rollouts.
        prefix: int64 (R,), the prefix each stands on, ascending.
        prefixes_PL: int64 (P, L), the distinct prefixes; each is used by some rollout.
        parent: int64 (P,), the prefix of the front before that each goes on from; None at the start.
    """

    rollout: Tensor
    prefix: Tensor
    prefixes_PL: Tensor
    parent: Tensor | None = None

    @classmethod
    def start(cls, item_R: Tensor, num_items: int) -> Front:
        """Rollouts 0 … R − 1 of one item each.

        >>> front = Front.start(torch.tensor([7, 7, 2]), 8)
        >>> front.rollout.tolist(), front.prefix.tolist(), front.prefixes_PL.tolist()
        ([2, 0, 1], [0, 1, 1], [[2], [7]])
        """
        rollout = ordered(item_R, num_items)
        prefixes, prefix = item_R[rollout].unique_consecutive(return_inverse=True)
        return cls(rollout, prefix, prefixes[:, None])

    def __len__(self) -> int:
        return self.rollout.numel()

    @property
    def length(self) -> int:
        """Items of each rollout so far, L."""
        return self.prefixes_PL.shape[1]

    def keep(self, rows: Tensor) -> Front:
        """The rollouts where `rows` (bool) is true, and their prefixes."""
        used, prefix = self.prefix[rows].unique_consecutive(return_inverse=True)
        return self.on(self.rollout[rows], prefix, used)

    def on(self, rollout: Tensor, prefix: Tensor, used: Tensor) -> Front:
        """Some rollouts with the prefix of each among those of this front that are `used`, ascending."""
        if len(used) == len(self.prefixes_PL):
            return Front(rollout, prefix, self.prefixes_PL, self.parent)
        parent = None if self.parent is None else self.parent[used]
        return Front(rollout, prefix, self.prefixes_PL[used], parent)

    def halves(self) -> tuple[Front, Front]:
        """Those on the first half of the prefixes, and those on the rest.

        >>> [half.prefix.tolist() for half in Front.start(torch.tensor([7, 7, 2]), 8).halves()]
        [[0], [0, 0]]
        """
        first = self.prefix < len(self.prefixes_PL) // 2
        return self.keep(first), self.keep(~first)

    def part(self, n: int, number: int) -> Front:
        """The n-th of so many parts, prefixes dealt out in turn.

        >>> [Front.start(torch.tensor([7, 7, 2]), 8).part(n, 2).prefixes_PL.tolist() for n in (0, 1)]
        [[[2]], [[7]]]
        """
        return self if number < 2 else self.keep(self.prefix % number == n)

    def extend(self, rollout: Tensor, prefix: Tensor, item: Tensor, num_items: int) -> Front:
        """Some of the rollouts on their prefixes, ascending, each with one more `item`.

        Two are on the same prefix if they were and took the same item: exact, without
        comparing or hashing whole sequences.
        """
        if (lookups := loops_for(item)) is not None:
            arrays = (x.numpy() for x in (rollout, prefix, item, self.prefixes_PL))
            return Front(*map(torch.from_numpy, lookups.extended(*arrays)))
        key, order = (prefix * num_items + item).sort(stable=True)
        key, prefix = key.unique_consecutive(return_inverse=True)
        parent = key // num_items
        longer = torch.cat([self.prefixes_PL[parent], (key % num_items)[:, None]], 1)
        return Front(rollout[order], prefix, longer, parent)


@dataclass(frozen=True)
class Pairs:
    """Distinct (prefix, source) pairs, ordered by both, with the source's items outside the prefix.

    Attributes:
        of_rollout: int64 (R,), the pair of each active rollout, ascending.
        prefix: int64 (Q,), the prefix of each pair.
        remaining: Q rows of items, ascending.
    """

    of_rollout: Tensor
    prefix: Tensor
    remaining: Ragged

    @classmethod
    def of(cls, front: Front, source_R: Tensor, own: Ragged) -> Pairs:
        """The pairs of a front, given the source of each rollout and the item set of each source."""
        key, of_rollout = (front.prefix * len(own) + source_R).unique_consecutive(return_inverse=True)
        prefix, items = key // len(own), own.select(key % len(own))
        wanted = ~contains(front.prefixes_PL, prefix[items.row], items.values)
        lengths = torch.bincount(items.row[wanted], minlength=len(items))
        return cls(of_rollout, prefix, Ragged.from_lengths(items.values[wanted], lengths))

    @classmethod
    def open(cls, front: Front, source_N: Tensor, own: Ragged) -> tuple[Front, Pairs, Tensor]:
        """The rollouts with an own item left, their pairs, and the numbers of the other rollouts.

        Args:
            front: the rollouts.
            source_N: the source of each rollout by its number.
            own: the item set of each source.
        """
        if (lookups := loops_for(source_N)) is not None:
            given = front.rollout, front.prefix, source_N, front.prefixes_PL, own.values, own.offsets
            rollouts, used, found, others = lookups.open_pairs(*(x.numpy() for x in given))
            rollout, prefix, of_rollout = map(torch.from_numpy, rollouts)
            pair_prefix, *items = map(torch.from_numpy, found)
            kept = front.on(rollout, prefix, torch.from_numpy(used))
            return kept, cls(of_rollout, pair_prefix, Ragged(*items)), torch.from_numpy(others)
        pairs = cls.of(front, source_N[front.rollout], own)
        left_Q = pairs.remaining.lengths > 0
        left = left_Q[pairs.of_rollout]
        return front.keep(left), pairs._with_items(left_Q), front.rollout[~left]

    def _with_items(self, left_Q: Tensor) -> Pairs:
        """Those with an item left; the prefixes and rollouts on them are numbered as `Front.keep` does."""
        number = left_Q.cumsum(0) - 1
        _, prefix = self.prefix[left_Q].unique_consecutive(return_inverse=True)
        items = Ragged.from_lengths(self.remaining.values, self.remaining.lengths[left_Q])
        return Pairs(number[self.of_rollout[left_Q[self.of_rollout]]], prefix, items)

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


def contains(prefixes_PL: Tensor, prefix: Tensor, item: Tensor) -> Tensor:
    """Whether each item stands in its prefix; `prefix` broadcasts with `item`; bool.

    >>> contains(torch.tensor([[1, 2], [3, 4]]), torch.tensor([0, 1]), torch.tensor([2, 2])).tolist()
    [True, False]
    """
    found = torch.zeros_like(item, dtype=torch.bool)
    width = max(1, at_once(item.device, cpu=0, cuda=_COMPARED) // max(1, item.numel()))
    for columns in prefixes_PL.split(width, dim=1):
        found |= (columns[prefix] == item[..., None]).any(-1)
    return found


def seen(prefixes_PL: Tensor, items_PK: Tensor) -> Tensor:
    """Which items of each list stand in the prefix; bool (P, K)."""
    if (lookups := loops_for(items_PK)) is not None:
        return torch.from_numpy(lookups.contains(prefixes_PL.numpy(), items_PK.numpy()))
    return contains(prefixes_PL, torch.arange(len(items_PK), device=items_PK.device)[:, None], items_PK)


def loops_for(x: Tensor) -> ModuleType | None:
    """The compiled lookups, where they can be had and `x` is on a CPU."""
    return None if x.is_cuda else loops("rsir.data.lookups")


def ordered(key_N: Tensor, size: int) -> Tensor:
    """Places that sort keys from 0 to `size` − 1; equal ones stay in order; int64 (N,).

    >>> ordered(torch.tensor([2, 0, 2]), 3).tolist()
    [1, 0, 2]
    """
    if (lookups := loops_for(key_N)) is not None:
        return torch.from_numpy(lookups.counting_order(key_N.numpy(), size))
    return key_N.argsort(stable=True)


def own_item_sets(data: Sequences) -> Ragged:
    """The distinct items of each sequence, ascending.

    >>> own_item_sets(Sequences.observed(Ragged.from_lists([[3, 1, 3]]), 4)).tolists()
    [[1, 3]]
    """
    events = data.events
    if (lookups := loops_for(events.values)) is not None:
        return Ragged(
            *map(torch.from_numpy, lookups.item_sets(events.values.numpy(), events.offsets.numpy()))
        )
    key = (events.row * data.num_items + events.values).unique()
    lengths = torch.bincount(key // data.num_items, minlength=len(data))
    return Ragged.from_lengths(key % data.num_items, lengths)
