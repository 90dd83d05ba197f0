"""What is kept of a row settles: the exact best K and their order; loops compiled by numba.

What is kept, a few times K, gets float32 scores one by one. Where the gaps between the best K + 1 of
these are wider than two errors, their order is the exact order; else, or if scores are wanted, those that
can be among the best get exact scores.
"""

from __future__ import annotations

import math

import numpy as np

from rsir.compiled import compiled, lean, reordered

_LARGEST = float(np.finfo(np.float32).max)


@lean
def exact(state_D, vectors_VD, item, terms_D):  # type: ignore[no-untyped-def]
    """`exact_dot` of a state in float64 and one item; `terms_D` is scratch."""
    width = state_D.size
    for d in range(width):
        terms_D[d] = state_D[d] * np.float64(vectors_VD[item, d])
    while width > 1:
        half = (width + 1) // 2
        for d in range(width - half):
            terms_D[d] += terms_D[half + d]
        width = half
    return terms_D[0]


@compiled
def exact_pairs(states_BD, vectors_VD, row_M, item_M, scores_M):  # type: ignore[no-untyped-def]
    """Exact scores of single (state, item) pairs, into float64 `scores_M`."""
    terms_D = np.empty(vectors_VD.shape[1])
    for m in range(row_M.size):
        scores_M[m] = exact(states_BD[row_M[m]].astype(np.float64), vectors_VD, item_M[m], terms_D)


@reordered  # the bound holds for any order of additions
def fast(state_D, vectors_VD, item):  # type: ignore[no-untyped-def]
    """The inner product in float32."""
    total = np.float32(0)
    for d in range(state_D.size):
        total += state_D[d] * vectors_VD[item, d]
    return total


@lean
def bounds(states_BD, longest, factor, extra, bound_B):  # type: ignore[no-untyped-def]
    """See `rsir.models.kernels.bounds`."""
    finite = True
    for b in range(len(states_BD)):
        scale = math.sqrt(square(states_BD[b])) * longest
        finite &= scale < _LARGEST
        bound_B[b] = factor * scale + extra
    return finite


@reordered
def square(vector_D):  # type: ignore[no-untyped-def]
    """The square of a vector's length, in float64."""
    total = 0.0
    for d in range(vector_D.size):
        total += np.float64(vector_D[d]) ** 2
    return total


@lean
def _insert(score, item, scores_K, items_K, filled):  # type: ignore[no-untyped-def]
    """Put an item in its place among the first K by (score descending, item ascending); the new number."""
    place = min(filled, scores_K.size - 1)
    if filled == scores_K.size and not _before(score, item, scores_K[place], items_K[place]):
        return filled
    while place > 0 and _before(score, item, scores_K[place - 1], items_K[place - 1]):
        scores_K[place], items_K[place] = scores_K[place - 1], items_K[place - 1]
        place -= 1
    scores_K[place], items_K[place] = score, item
    return min(filled + 1, scores_K.size)


@lean
def _before(score, item, other_score, other_item):  # type: ignore[no-untyped-def]
    return score > other_score or (score == other_score and item < other_item)


@lean
def _settle_row(state_D, vectors_VD, items_C, count, bound, scored, scratch, items_K, scores_K):  # type: ignore[no-untyped-def]
    """The exact best K of the kept items, best first, −1 behind them; their scores if `scored`.

    `bound` is how far a float32 score can be from the exact one.
    """
    near_scores, near_items, fast_C, exact_D, terms_D = scratch
    k, filled = items_K.size, 0
    for n in range(count):  # no branch waits for a vector that is fetched here
        fast_C[n] = fast(state_D, vectors_VD, items_C[n])
    for n in range(count):
        filled = _insert(fast_C[n], items_C[n], near_scores, near_items, filled)
    proven = not scored
    for place in range(filled - 1):
        proven &= near_scores[place] - near_scores[place + 1] > 2 * bound
    if proven:
        for place in range(k):
            items_K[place] = near_items[place] if place < filled else -1
        return
    floor, filled = near_scores[k - 1] - 2 * bound if filled >= k else -np.inf, 0
    for d in range(state_D.size):
        exact_D[d] = state_D[d]
    for n in range(count):
        if fast_C[n] >= floor:
            score = exact(exact_D, vectors_VD, items_C[n], terms_D)
            filled = _insert(score, np.int64(items_C[n]), scores_K, items_K, filled)
    items_K[filled:] = -1


@compiled
def settle(states_BD, vectors_VD, bound_B, scored, items_BC, count_B, items_BK, scores_BK):  # type: ignore[no-untyped-def]
    """The exact best K of what is kept of each row; see `_settle_row`. Rows without room are passed over."""
    k, width = items_BK.shape[1], vectors_VD.shape[1]
    fast_C = np.empty(items_BC.shape[1], np.float32)
    exact_D, terms_D = np.empty(width), np.empty(width)
    scratch = np.empty(k + 1), np.empty(k + 1, np.int64), fast_C, exact_D, terms_D
    for b in range(len(states_BD)):
        if count_B[b] >= 0:
            _settle_row(
                states_BD[b],
                vectors_VD,
                items_BC[b],
                count_B[b],
                bound_B[b],
                scored,
                scratch,
                items_BK[b],
                scores_BK[b],
            )
