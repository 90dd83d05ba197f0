"""Compiled loop of `rsir.generate`: judge a step and choose, where ranks are tested and the best item taken.

The list of a prefix is read once, up to the first item of the source's own: that answers the test and
holds both items that can be chosen. The same in tensor operations: `rsir.fidelity`, `rsir.explore`.
Needs numba.
"""

from __future__ import annotations

import numpy as np

from rsir.compiled import compiled, lean
from rsir.rng import _GAMMA, _MIX1, _MIX2

_STEP, _FIRST, _SECOND = np.uint64(_GAMMA), np.uint64(_MIX1), np.uint64(_MIX2)


@compiled
def follow(lists, pairs, rollouts, rule, stop):  # type: ignore[no-untyped-def]
    """Numbers, prefixes, next items and ranks of rollouts that hold, int64 (4, H); which items are own.

    Args:
        lists: the best items of each prefix (P, K), and the prefixes (P, L).
        pairs: as `rsir.data.fronts.Pairs`: of_rollout, prefix, and the remaining items with their offsets.
        rollouts: their numbers, and for each number its source and which of the source's rollouts it is.
        rule: the last rank that holds, τ; whether items of the prefix count for a rank; the probability
            of the own pool; the hash of seed, purpose and round that its draw goes on from, uint64; the step.
        stop: why each rollout ended, by number, uint8; and the code to write there where one does not hold.
    """
    size = rollouts[0].size
    found_4H, own_H = np.empty((4, size), np.int64), np.empty(size, np.bool_)
    held = _follow(lists, pairs, rollouts, rule, stop, found_4H, own_H)
    return found_4H[:, :held], own_H[:held]


@lean
def _follow(lists, pairs, rollouts, rule, stop, found_4H, own_H):  # type: ignore[no-untyped-def]
    """Fill in what `follow` finds; how many hold."""
    (items_PK, prefixes_PL), (of_R, prefix_Q, values, offsets) = lists, pairs
    rollout_R, source_N, number_N = rollouts
    max_rank, among_all, own_probability, state, step = rule
    reason_N, failed = stop
    pair, prefix, best, free, rank, held = -1, -1, -1, -1, 0, 0
    for r in range(of_R.size):
        if of_R[r] != pair:
            pair = of_R[r]
            prefix = prefix_Q[pair]
            remaining = values[offsets[pair] : offsets[pair + 1]]
            rank, best, free = _read(items_PK[prefix], prefixes_PL[prefix], remaining, max_rank, among_all)
        rollout = rollout_R[r]
        if rank > max_rank:
            reason_N[rollout] = failed
            continue
        own_H[held] = _uniform(state, source_N[rollout], number_N[rollout], step) < own_probability
        found_4H[0, held], found_4H[1, held] = rollout, prefix
        found_4H[2, held], found_4H[3, held] = best if own_H[held] else free, rank
        held += 1
    return held


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
