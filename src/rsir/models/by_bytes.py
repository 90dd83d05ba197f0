"""The exact best K, proposed by products of bytes; loops compiled by numba (see `rsir.models.search`)."""

from __future__ import annotations

import math

import numpy as np

from rsir.compiled import compiled, lean, reordered
from rsir.models.own_first import best_of_sets, outdone
from rsir.models.registers import ROWS
from rsir.models.search import FOLD, drop, end_maxima, fold, highest_reached, keep_row, room
from rsir.models.settle import settle, square
from rsir.models.vnni import BLOCK, GROUP, LANES, products

_ROWS_AT_ONCE = 16 * ROWS
"""States that meet a tile of items while it is in cache."""
_HEAD = 16
"""Blocks that states meet first where items are sought: then it is seen which of them need no others."""
_LEAST = np.int32(-(2**31))


@reordered
def _in_bytes(vector_D, unit, codes_D):  # type: ignore[no-untyped-def]
    """Whole numbers p of a vector h = unit · p + r, into int8; ‖r‖² and ‖unit · p‖²."""
    per_unit, lost, held = 1.0 / unit, 0.0, 0.0
    for d in range(vector_D.size):
        value = np.float64(vector_D[d])
        number = np.rint(value * per_unit)
        codes_D[d] = np.int8(np.int32(number))
        lost += (value - number * unit) ** 2
        held += (number * unit) ** 2
    return lost, held


@compiled
def pack(vectors_VD, met, scale, packed):  # type: ignore[no-untyped-def]
    """Fill in the items' numbers, w = scale · q + s as q + 128, item `met[0]` first; max ‖w‖ and max ‖s‖."""
    codes_D = np.empty(vectors_VD.shape[1], np.int8)
    largest, residual = 0.0, 0.0
    for v in range(len(vectors_VD)):
        lost, _ = _in_bytes(vectors_VD[met[v]], scale, codes_D)
        largest, residual = max(largest, square(vectors_VD[met[v]])), max(residual, lost)
        block, item = packed[v // BLOCK], v % BLOCK
        for d in range(codes_D.size):
            block[d // GROUP, item, d % GROUP] = np.uint8(np.int64(codes_D[d]) + 128)
    return math.sqrt(largest), math.sqrt(residual)


@reordered
def _widest(vector_D):  # type: ignore[no-untyped-def]
    """The largest size of a number."""
    widest = np.float32(0.0)
    for d in range(vector_D.size):
        size = abs(vector_D[d])
        widest = size if size > widest else widest
    return np.float64(widest)


@reordered
def _total(codes_D):  # type: ignore[no-untyped-def]
    total = np.int32(0)
    for d in range(codes_D.size):
        total += np.int32(codes_D[d])
    return total


@lean
def _encode(state_D, codes_D, scale, largest, residual):  # type: ignore[no-untyped-def]
    """A state in whole numbers from −127 to 127; 2 e, the unit and the zero of their products with items.

    With h = a p + r and w = c q + s, for numbers p, q and residuals r, s, h·w = a c p·q + r·w + a p·s, so
    e = ‖r‖ max ‖w‖ + ‖a p‖ max ‖s‖, with `scale` c, `largest` max ‖w‖ and `residual` max ‖s‖. One is added
    for the roundoff of exact scores, at most D γ 127² (γ = D 2⁻⁵³) in this unit: far less for D ≤ 2¹⁵.
    Items hold q + 128, so that a score of 0 is 128 times the sum of p; 2 e is given in units a c.
    """
    widest = _widest(state_D)
    unit = widest / 127.0 if widest > 0.0 else 1.0
    lost, held = _in_bytes(state_D, unit, codes_D)
    bound = math.sqrt(lost) * largest + math.sqrt(held) * residual
    slack = 2.0 * bound * (1.0 + 2.0**-20) / (unit * scale) + 1.0
    return np.int64(min(math.ceil(slack), 2.0**40)), unit * scale, 128.0 * _total(codes_D[: state_D.size])


@lean
def _whole(score):  # type: ignore[no-untyped-def]
    """A score rounded down to a whole number of 32 bits."""
    return np.int64(min(max(math.floor(score), -(2.0**31)), 2.0**31 - 1.0))


@compiled
def best_by_bytes(states_BD, vectors_VD, bound_B, scored, codes, tile, sought, items_BK, scores_BK):  # type: ignore[no-untyped-def]
    """The exact best K of each state, proposed by products of bytes; which rows are filled, bool (B,).

    A row is not filled where too many scores are near each other. States and vectors are float32 and finite;
    `bound_B` and `scored` as for `_settle_row`. `codes` are the items' numbers, uint8 (blocks, groups, BLOCK,
    GROUP) aligned to 64 bytes, the items in their order, and what `_encode` asks for. `tile` blocks meet some
    states while they are in cache; a multiple of `FOLD`. `sought` as for `best_of_sets`: lists are only as
    long as `rsir.models.sought` asks. Answers go to `items_BK` int64 and `scores_BK` float64.
    """
    packed, met, scale, largest, residual = codes
    num_states, k, next_set = len(states_BD), items_BK.shape[1], 0
    numbers = np.zeros((_ROWS_AT_ONCE, GROUP * packed.shape[1]), np.int8)
    slack, reached = np.zeros(_ROWS_AT_ONCE, np.int64), np.zeros(_ROWS_AT_ONCE, np.int64)
    promising, beaten = np.zeros(_ROWS_AT_ONCE, np.int64), np.zeros(_ROWS_AT_ONCE)
    count, open_rows = np.zeros(_ROWS_AT_ONCE, np.int64), np.zeros(_ROWS_AT_ONCE, np.int64)
    kept = np.empty((_ROWS_AT_ONCE, room(k)), np.int32)
    kept_scores = np.empty_like(kept)
    head = min(_HEAD, tile) if len(sought[0]) else tile
    space, found_B = _space(tile), np.empty(num_states, np.bool_)
    for start in range(0, num_states, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, num_states)
        part, bound = states_BD[start:stop], bound_B[start:stop]
        for b in range(stop - start):
            slack[b], unit, zero = _encode(part[b], numbers[b], scale, largest, residual)
            low, high, next_set = best_of_sets(part[b], vectors_VD, sought, next_set, start + b)
            # half of 2 e, and one for its roundoff: what scores `low` or more is above `reached` less 2 e
            reached[b] = _whole((low - bound[b]) / unit + zero + slack[b] / 2 - 1.0)
            beaten[b] = high + 2 * bound[b]
            promising[b] = _whole(beaten[b] / unit + zero)
            count[b], open_rows[b] = 0, b
        given = part, vectors_VD, numbers, packed, met
        limits, found = (slack, reached, promising, beaten), (kept, kept_scores, count, open_rows)
        _meet_tiles(given, head, tile, k, space, limits, found)
        for b in range(stop - start):
            count[b] = drop(kept[b], kept_scores[b], count[b], reached[b] - slack[b]) if count[b] >= 0 else -1
            for n in range(count[b]):
                kept[b, n] = met[kept[b, n]]
        settle(part, vectors_VD, bound, scored, kept, count, items_BK[start:stop], scores_BK[start:stop])
        found_B[start:stop] = count[: stop - start] >= 0
    return found_B


@lean
def _meet_tiles(given, head, tile, k, space, limits, found):  # type: ignore[no-untyped-def]
    """Some states meet the catalogue, tile by tile, and keep what it offers; the first has `head` blocks.

    Rows that are done, or for which there is no room, meet no further tile.
    """
    states_BD, vectors_VD, numbers, packed, _ = given
    sums, maxima = space[:2]
    open_rows, (blocks, groups) = found[-1], packed.shape[:2]
    first, here, left = 0, head, len(states_BD)
    while first < blocks and left > 0:
        here = min(here, blocks - first)
        for row in range(0, left, ROWS):
            for block in range(here):
                products(
                    numbers.ctypes.data + row * groups * GROUP,
                    packed.ctypes.data + (first + block) * groups * GROUP * BLOCK,
                    groups,
                    sums.ctypes.data + 4 * BLOCK * block,
                    4 * BLOCK * tile,
                    maxima.ctypes.data + 4 * LANES * block,
                )
            for n in range(row, min(row + ROWS, left)):
                _meet_row(n - row, open_rows[n], first, here, len(vectors_VD), k, space, limits, found)
        left = _close(given, left, k, limits, found)
        first, here = first + here, tile


@lean
def _meet_row(row, b, first, here, num_items, k, space, limits, found):  # type: ignore[no-untyped-def]
    """State `b` meets a tile of `here` blocks; its products are those of a row. What is kept: `keep_row`."""
    sums, maxima, coarse, hits = space
    slack, reached = limits[:2]
    kept, kept_scores, count = found[:3]
    width = -(-here // FOLD) * LANES
    scores, highest = sums[row], maxima[row, : FOLD * width]
    length = min(here * BLOCK, num_items - first * BLOCK)
    end_maxima(scores, length, highest, _LEAST)
    groups = highest
    if here > _HEAD:
        groups = coarse[:width]
        fold(highest, groups)
    reached[b] = max(reached[b], highest_reached(groups, k, np.int32(reached[b])))
    floor = np.int32(max(reached[b] - slack[b], np.int64(_LEAST)))
    at, items, its_scores = first * BLOCK, kept[b], kept_scores[b]
    count[b] = keep_row(scores, length, highest, groups, hits, at, floor, items, its_scores, count[b])


@lean
def _close(given, left, k, limits, found):  # type: ignore[no-untyped-def]
    """Put together the numbers of the rows that go on to further tiles; how many."""
    states_BD, vectors_VD, numbers, _, met = given
    promising, beaten = limits[2:]
    kept, kept_scores, count, open_rows = found
    going = 0
    for n in range(left):
        b = open_rows[n]
        hopes = promising[b], beaten[b]
        if outdone(states_BD[b], vectors_VD, met, kept[b], kept_scores[b], count[b], hopes, k):
            count[b] = 0  # nothing of its list is asked for
        elif count[b] >= 0:
            for d in range(numbers.shape[1]):
                numbers[going, d] = numbers[n, d]
            open_rows[going] = b
            going += 1
    return going


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
