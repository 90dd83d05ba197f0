"""Compiled loop of `rsir.generate`: judge a step and choose, where ranks are tested and the best item taken.

The list of a prefix is read once, up to the first item of the source's own: that answers the test and
holds both items that can be chosen. The same in tensor operations: `rsir.fidelity`, `rsir.explore`.
Needs numba.
"""

from __future__ import annotations

import numpy as np

from rsir.compiled import lean
from rsir.rng import _GAMMA, _MIX1, _MIX2

_STEP, _FIRST, _SECOND = np.uint64(_GAMMA), np.uint64(_MIX1), np.uint64(_MIX2)


@lean
def follow(lists, pairs, rollouts, rule, found):  # type: ignore[no-untyped-def]
    """Fill in rank, next item and whether it is the source's own, for each rollout; int64, int64, bool (R,).

    Args:
        lists: the best items of each prefix (P, K), and the prefixes (P, L).
        pairs: as `rsir.data.fronts.Pairs`: of_rollout, prefix, and the remaining items with their offsets.
        rollouts: source and number of each.
        rule: the last rank that holds, τ; whether items of the prefix count for a rank; the probability
            of the own pool; the hash of seed, purpose and round that its draw goes on from, uint64; the step.
        found: what is filled in.
    """
    (items_PK, prefixes_PL), (of_R, prefix_Q, values, offsets), (source_R, number_R) = lists, pairs, rollouts
    max_rank, among_all, own_probability, state, step = rule
    rank_R, item_R, own_R = found
    pair, best, free, rank = -1, -1, -1, 0
    for r in range(of_R.size):
        if of_R[r] != pair:
            pair = of_R[r]
            prefix = prefixes_PL[prefix_Q[pair]]
            remaining = values[offsets[pair] : offsets[pair + 1]]
            rank, best, free = _read(items_PK[prefix_Q[pair]], prefix, remaining, max_rank, among_all)
        rank_R[r], item_R[r], own_R[r] = rank, free, False
        if rank <= max_rank and _uniform(state, source_R[r], number_R[r], step) < own_probability:
            item_R[r], own_R[r] = best, True


@lean
def _read(items_K, prefix_L, remaining, max_rank, among_all):  # type: ignore[no-untyped-def]
    """The rank of the best remaining item (`max_rank` + 1: later), that item, and the best unseen one."""
    ahead, free = 0, -1
    for place in range(items_K.size):
        item = items_K[place]
        seen = _among(item, prefix_L)
        if free < 0 and not seen:
            free = item
        if _among(item, remaining):
            return ahead + 1, item, free
        if among_all or not seen:
            ahead += 1
        if ahead == max_rank:
            break
    return max_rank + 1, -1, free


@lean
def _among(item, items):  # type: ignore[no-untyped-def]
    for n in range(items.size):  # noqa: SIM110 - no generators in compiled code
        if items[n] == item:
            return True
    return False


@lean
def _uniform(state, source, number, step):  # type: ignore[no-untyped-def]
    """`rsir.rng.uniform`, with the hash of its first keys given."""
    for key in (source, number, step):
        state += _STEP + np.uint64(key)
        state = (state ^ (state >> np.uint64(30))) * _FIRST
        state = (state ^ (state >> np.uint64(27))) * _SECOND
        state ^= state >> np.uint64(31)
    return np.float64(state >> np.uint64(11)) * 2.0**-53
