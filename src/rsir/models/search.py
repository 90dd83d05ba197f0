"""The exact best K of rows of approximate scores, each in one pass: loops compiled by numba.

**What is proven.** Let every fast score be within e of the exact one, up to a factor and a shift that all
items of a row share, and let t be no more than the K-th largest fast score. An item whose fast score is
below t − 2e has an exact score below that of K items, so it is not among the best K. All others are *kept*:
nothing else is assumed of a fast score, so cheap ones may propose, whole numbers of 8 bits
(`rsir.models.by_bytes`) or a float32 product (`keep_rows`); `rsir.models.settle` then finds the best.

**How t is found.** Items fall in disjoint groups; the K-th largest maximum of a group is a score that K items
reach. A row of scores has blocks of `BLOCK` items with `LANES` maxima each (see `vnni.products`); the
maxima at the same place of each of `FOLD` parts of a row form a group, so that all are taken along memory.

The loops do not hold the interpreter's lock, so threads of Python run them side by side.
"""

from __future__ import annotations

import numpy as np

from rsir.compiled import compiled, lean
from rsir.models.registers import PARTS
from rsir.models.vnni import BLOCK, LANES

FOLD = 8
"""Maxima of a group; a tile has a multiple of so many blocks."""
GROUP_ITEMS = FOLD * PARTS
_HALVINGS = 16


@lean
def room(k):  # type: ignore[no-untyped-def]
    """How many items of a row are kept at most; a catalogue with less than K groups is kept whole."""
    return GROUP_ITEMS * (k + 4 * LANES)


def padded(items: int) -> int:
    """The length of a row that holds scores of so many items.

    >>> padded(1), padded(FOLD * BLOCK + 1) == 2 * FOLD * BLOCK
    (512, True)
    """
    return -(-items // (FOLD * BLOCK)) * FOLD * BLOCK


@lean
def fold(maxima, coarse):  # type: ignore[no-untyped-def]
    """The maxima of groups."""
    far = coarse.size
    for n in range(far):
        coarse[n] = maxima[n]
    for part in range(1, FOLD):
        others = maxima[part * far : (part + 1) * far]
        for n in range(far):
            coarse[n] = others[n] if others[n] > coarse[n] else coarse[n]


@lean
def highest_reached(coarse, k, least):  # type: ignore[no-untyped-def]
    """A score that at least `k` groups reach and hardly more, by bisection; `least` if there are not so many.

    Counting takes no branch, where a sorted list of the best would take one that cannot be foreseen for each.
    """
    high = coarse[0]
    for n in range(coarse.size):
        high = coarse[n] if coarse[n] > high else high
    low = high
    for n in range(coarse.size):
        score = coarse[n] if coarse[n] > least else high
        low = score if score < low else low
    if _count(coarse, low) < k:
        return least
    for _ in range(_HALVINGS):
        middle = coarse.dtype.type(low + (high - low) / 2)
        count = _count(coarse, middle)
        low, high = (middle, high) if count >= k else (low, middle)
        if k <= count <= k + k // 8:
            break
    return low


@lean
def _count(coarse, score):  # type: ignore[no-untyped-def]
    """How many groups reach a score."""
    count = np.int32(0)
    for n in range(coarse.size):
        count += np.int32(coarse[n] >= score)
    return count


@lean
def drop(items_C, scores_C, count, floor):  # type: ignore[no-untyped-def]
    """Keep only what reaches a floor that has risen; how many are left."""
    left = 0
    for n in range(count):
        items_C[left], scores_C[left] = items_C[n], scores_C[n]
        left += scores_C[n] >= floor
    return left


@lean
def keep_row(scores, length, maxima, coarse, hits, first, floor, items_C, scores_C, count):  # type: ignore[no-untyped-def]
    """Keep what a tile's row has to offer; how many items are kept then, −1 if there is no room.

    The scores are those of the items `first`, `first` + 1, …, `length` of them, with the maxima of blocks
    and, `coarse`, of groups; `floor` is t − 2 e in their unit. The first `count` of `items_C` and `scores_C`
    are kept already. `hits` is scratch, two rows longer than `maxima`.

    What is kept is little and stands anywhere, so that a branch on each score would cost more than the
    score: places are always written, and counted where they hold.
    """
    groups, blocks = 0, 0
    for n in range(coarse.size):
        hits[0, groups] = n
        groups += coarse[n] >= floor
    for g in range(groups):
        for n in range(hits[0, g], maxima.size, coarse.size):
            hits[1, blocks] = n
            blocks += maxima[n] >= floor
    for hit in range(blocks):
        n = hits[1, hit]
        if count + PARTS > items_C.size:
            count = drop(items_C, scores_C, count, floor)
        if count + PARTS > items_C.size:
            return -1
        start = n // LANES * BLOCK + n % LANES
        for place in range(start, start + BLOCK, LANES):
            items_C[count], scores_C[count] = first + place, scores[place]
            count += (scores[place] >= floor) & (place < length)
    return count


@compiled
def keep_rows(scores_BT, length, first, k, slack_B, reached_B, items_BC, scores_BC, count_B):  # type: ignore[no-untyped-def]
    """Keep what the first `length` of a tile's float32 scores have to offer; see `keep_row`.

    Rows are `padded`. `reached_B` and `count_B` are changed in place.
    """
    size = scores_BT.shape[1] // PARTS
    maxima, coarse = np.empty(size, np.float32), np.empty(size // FOLD, np.float32)
    hits = np.empty((2, size + 1), np.int64)
    for b in range(len(scores_BT)):
        if count_B[b] >= 0:
            _block_maxima(scores_BT[b], maxima)
            end_maxima(scores_BT[b], length, maxima, np.float32(-np.inf))
            fold(maxima, coarse)
            reached_B[b] = max(reached_B[b], highest_reached(coarse, k, np.float32(-np.inf)))
            floor = reached_B[b] - slack_B[b]
            row, items_C, kept_C = scores_BT[b], items_BC[b], scores_BC[b]
            count_B[b] = keep_row(
                row, length, maxima, coarse, hits, first, floor, items_C, kept_C, count_B[b]
            )


@lean
def _block_maxima(scores, maxima):  # type: ignore[no-untyped-def]
    for block in range(maxima.size // LANES):
        for lane in range(LANES):
            at = block * BLOCK + lane
            low, high = scores[at], scores[at + 2 * LANES]
            low = scores[at + LANES] if scores[at + LANES] > low else low
            high = scores[at + 3 * LANES] if scores[at + 3 * LANES] > high else high
            maxima[block * LANES + lane] = high if high > low else low


@lean
def end_maxima(scores, length, maxima, least):  # type: ignore[no-untyped-def]
    """Correct the maxima where the items end in the middle of a block, or before the row does."""
    whole = length // BLOCK
    for at in range(whole * LANES, maxima.size):
        maxima[at] = least
    for place in range(whole * BLOCK, length):
        at = whole * LANES + place % LANES
        maxima[at] = max(maxima[at], scores[place])
