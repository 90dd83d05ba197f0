"""What the items sought in a row say of it before the catalogue is met; loops compiled by numba.

The best of each set (`rsir.models.sought`) is scored first. What scores less than all of these bests need not
be kept; once K items are proven to score more than all of them, none of them is among the best K, and the row
is done.
"""

from __future__ import annotations

import numpy as np

from rsir.compiled import lean
from rsir.models.settle import fast


@lean
def best_of_sets(state_D, vectors_VD, sought, first, row):  # type: ignore[no-untyped-def]
    """The lowest and the highest of the best float32 scores of a row's sets; the first set of the next row.

    −inf and inf where nothing is sought: then the list is whole. `sought` are the rows of the sets, their
    items and offsets; `first` is the first set of the row.
    """
    row_Q, values, offsets = sought
    low, high, q = np.float32(np.inf), np.float32(-np.inf), first
    while q < row_Q.size and row_Q[q] == row:
        best = np.float32(-np.inf)
        for m in range(offsets[q], offsets[q + 1]):
            best = max(best, fast(state_D, vectors_VD, values[m]))
        low, high = min(low, best), max(high, best)
        q += 1
    if q == first:
        return -np.inf, np.inf, q
    return np.float64(low), np.float64(high), q


@lean
def outdone(state_D, vectors_VD, met, kept, scores, count, hopes, k):  # type: ignore[no-untyped-def]
    """Whether at least `k` of the first `count` kept items have a float32 score above another.

    `hopes` are the least cheap score that promises as much, and that score: where fewer than `k` items
    promise it, none is looked at. `met` are the items in order of their places.
    """
    promising, score = hopes
    hopeful = 0
    for n in range(count):
        hopeful += scores[n] >= promising
    if hopeful < k:
        return False
    above = 0
    for n in range(count):
        if above == k:
            break
        if scores[n] >= promising:
            above += fast(state_D, vectors_VD, met[kept[n]]) > score
    return above == k
