"""The exact best K, proposed by products of bytes; loops compiled by numba (see `rsir.models.search`)."""

from __future__ import annotations

import math

import numpy as np

from rsir.compiled import compiled, lean
from rsir.models.registers import ROWS
from rsir.models.search import FOLD, drop, end_maxima, fold, highest_reached, keep_row, room
from rsir.models.settle import settle
from rsir.models.vnni import BLOCK, GROUP, LANES, products

_ROWS_AT_ONCE = 16 * ROWS
"""States that meet a tile of items while it is in cache."""
_LEAST = np.int32(-(2**31))


@lean
def pack(vectors_VD, scale, packed):  # type: ignore[no-untyped-def]
    """Fill in the items' numbers, w = scale · q + s as q + 128; max ‖w‖ and max ‖s‖."""
    largest, residual = 0.0, 0.0
    for v in range(len(vectors_VD)):
        whole, lost = 0.0, 0.0
        for d in range(vectors_VD.shape[1]):
            value = np.float64(vectors_VD[v, d])
            number = np.rint(value / scale)
            packed[v // BLOCK, d // GROUP, v % BLOCK, d % GROUP] = np.uint8(number + 128.0)
            whole += value**2
            lost += (value - number * scale) ** 2
        largest, residual = max(largest, whole), max(residual, lost)
    return math.sqrt(largest), math.sqrt(residual)


@lean
def _encode(state_D, codes_D, scale, largest, residual):  # type: ignore[no-untyped-def]
    """A state in whole numbers from −127 to 127; 2 e in units of their products with the items' numbers.

    With h = a p + r and w = c q + s, for numbers p, q and residuals r, s, h·w = a c p·q + r·w + a p·s, so
    e = ‖r‖ max ‖w‖ + ‖a p‖ max ‖s‖, with `scale` c, `largest` max ‖w‖ and `residual` max ‖s‖. One is added
    for the roundoff of exact scores, at most D γ 127² (γ = D 2⁻⁵³) in this unit: far less for D ≤ 2¹⁵.
    """
    widest = np.float64(0.0)
    for d in range(state_D.size):
        widest = max(widest, abs(np.float64(state_D[d])))
    unit = widest / 127.0 if widest > 0.0 else 1.0
    lost, held = 0.0, 0.0
    for d in range(state_D.size):
        value = np.float64(state_D[d])
        code = np.rint(value / unit)
        codes_D[d] = np.int8(code)
        lost += (value - code * unit) ** 2
        held += (code * unit) ** 2
    bound = math.sqrt(lost) * largest + math.sqrt(held) * residual
    slack = 2.0 * bound * (1.0 + 2.0**-20) / (unit * scale) + 1.0
    return np.int64(min(math.ceil(slack), 2.0**40))


@compiled
def best_by_bytes(states_BD, vectors_VD, bound_B, scored, codes, tile, items_BK, scores_BK):  # type: ignore[no-untyped-def]
    """The exact best K of each state, proposed by products of bytes; which rows are filled, bool (B,).

    A row is not filled where too many scores are near each other. States and vectors are float32 and finite;
    `bound_B` and `scored` as for `_settle_row`. `codes` are the items' numbers, uint8 (blocks, groups, BLOCK,
    GROUP) aligned to 64 bytes, and what `_encode` asks for. `tile` blocks meet some states while they
    are in cache; a multiple of `FOLD`. Answers go to `items_BK` int64 and `scores_BK` float64.
    """
    packed, scale, largest, residual = codes
    num_states = len(states_BD)
    numbers = np.zeros((_ROWS_AT_ONCE, GROUP * packed.shape[1]), np.int8)
    slack, reached = np.zeros(_ROWS_AT_ONCE, np.int64), np.zeros(_ROWS_AT_ONCE, np.int64)
    count = np.zeros(_ROWS_AT_ONCE, np.int64)
    kept = np.empty((_ROWS_AT_ONCE, room(items_BK.shape[1])), np.int32)
    kept_scores = np.empty_like(kept)
    space = _space(tile)
    found_B = np.empty(num_states, np.bool_)
    for start in range(0, num_states, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, num_states)
        part = states_BD[start:stop]
        for b in range(stop - start):
            slack[b] = _encode(part[b], numbers[b], scale, largest, residual)
            reached[b], count[b] = _LEAST, 0
        found = slack[: stop - start], reached, kept, kept_scores, count
        _keep_bytes(numbers, packed, len(vectors_VD), tile, items_BK.shape[1], space, found)
        for b in range(stop - start):
            count[b] = drop(kept[b], kept_scores[b], count[b], reached[b] - slack[b]) if count[b] >= 0 else -1
        bound, items, scores = bound_B[start:stop], items_BK[start:stop], scores_BK[start:stop]
        settle(part, vectors_VD, bound, scored, kept, count, items, scores)
        found_B[start:stop] = count[: stop - start] >= 0
    return found_B


@lean
def _keep_bytes(numbers, packed, num_items, tile, k, space, found):  # type: ignore[no-untyped-def]
    """Keep what the whole catalogue has to offer to some states, tile by tile."""
    sums, maxima, coarse, hits = space
    slack, reached, kept, kept_scores, count = found
    blocks, groups = packed.shape[:2]
    for first in range(0, blocks, tile):
        here = min(tile, blocks - first)
        length = min(here * BLOCK, num_items - first * BLOCK)
        for row in range(0, slack.size, ROWS):
            for block in range(here):
                products(
                    numbers.ctypes.data + row * groups * GROUP,
                    packed.ctypes.data + (first + block) * groups * GROUP * BLOCK,
                    groups,
                    sums.ctypes.data + 4 * BLOCK * block,
                    4 * BLOCK * tile,
                    maxima.ctypes.data + 4 * LANES * block,
                )
            for b in range(row, min(row + ROWS, slack.size)):
                if count[b] < 0:
                    continue
                scores, highest = sums[b - row], maxima[b - row]
                end_maxima(scores, length, highest, _LEAST)
                fold(highest, coarse)
                reached[b] = max(reached[b], highest_reached(coarse, k, _LEAST))
                floor = reached[b] - slack[b]
                at, items, kept_row = first * BLOCK, kept[b], kept_scores[b]
                count[b] = keep_row(
                    scores, length, highest, coarse, hits, at, floor, items, kept_row, count[b]
                )


@compiled
def _space(tile):  # type: ignore[no-untyped-def]
    """Room for the sums and maxima of some states and a tile, and for what is found in a row."""
    sums, maxima = _aligned(ROWS * tile * BLOCK), _aligned(ROWS * tile * LANES)
    coarse, hits = np.empty(tile * LANES // FOLD, np.int32), np.empty((2, tile * LANES + 1), np.int64)
    return sums.reshape(ROWS, tile * BLOCK), maxima.reshape(ROWS, tile * LANES), coarse, hits


@compiled
def _aligned(size):  # type: ignore[no-untyped-def]
    """`size` numbers of 32 bits that begin where a line of cache does."""
    memory = np.empty(size + 16, np.int32)
    first = (-memory.ctypes.data % 64) // 4
    return memory[first : first + size]
