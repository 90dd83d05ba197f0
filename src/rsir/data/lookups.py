"""Compiled loops of `rsir.data.fronts`: which items stand in a prefix, and where own items stand in a list.

A loop that stops at the first hit looks at a few numbers where tensor operations make whole
tables of comparisons. Needs numba.
"""

from __future__ import annotations

import numpy as np

from rsir.compiled import compiled


@compiled
def contains(prefixes_PL, prefix_M, item_M):  # type: ignore[no-untyped-def]
    """Whether each item stands in its prefix; bool (M,)."""
    found_M = np.zeros(item_M.size, np.bool_)
    for m in range(item_M.size):
        for place in range(prefixes_PL.shape[1]):
            if prefixes_PL[prefix_M[m], place] == item_M[m]:
                found_M[m] = True
                break
    return found_M


@compiled
def outside(prefixes_PL, prefix_Q, source_Q, values, offsets):  # type: ignore[no-untyped-def]
    """The items of each pair's source outside its prefix, flat, and how many; int64 (M,), (Q,)."""
    size = 0
    for source in source_Q:
        size += offsets[source + 1] - offsets[source]
    found_M, lengths_Q, filled = np.empty(size, np.int64), np.empty(source_Q.size, np.int64), 0
    for q in range(source_Q.size):
        start, prefix = filled, prefixes_PL[prefix_Q[q]]
        for item in values[offsets[source_Q[q]] : offsets[source_Q[q] + 1]]:
            if not _stands(item, prefix, 0, prefix.size):
                found_M[filled] = item
                filled += 1
        lengths_Q[q] = filled - start
    return found_M[:filled], lengths_Q


@compiled
def first_place(items_PK, prefix_Q, values, offsets):  # type: ignore[no-untyped-def]
    """Where the first of each row's items stands in the list of its prefix, K if nowhere; int64 (Q,)."""
    width = items_PK.shape[1]
    first_Q = np.full(prefix_Q.size, width, np.int64)
    for q in range(prefix_Q.size):
        for place in range(width):
            if _stands(items_PK[prefix_Q[q], place], values, offsets[q], offsets[q + 1]):
                first_Q[q] = place
                break
    return first_Q


@compiled
def _stands(item, values, start, stop):  # type: ignore[no-untyped-def]
    for m in range(start, stop):  # noqa: SIM110 - no generators in compiled code
        if values[m] == item:
            return True
    return False
