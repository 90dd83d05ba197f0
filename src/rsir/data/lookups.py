"""Compiled loops of `rsir.data`: which rollouts stand together, which items stand in a prefix or a list.

A loop that stops at the first hit looks at a few numbers where tensor operations make whole
tables of comparisons. Needs numba.
"""

from __future__ import annotations

import numpy as np

from rsir.compiled import compiled, lean

_FEW = 24
"""Numbers that are sorted by insertion."""


@compiled
def counting_order(key_N, size):  # type: ignore[no-untyped-def]
    """Places that sort keys below `size`; equal ones stay in order; int64 (N,)."""
    start = np.zeros(size + 1, np.int64)
    for key in key_N:
        start[key + 1] += 1
    for key in range(size):
        start[key + 1] += start[key]
    order_N = np.empty(key_N.size, np.int64)
    for n in range(key_N.size):
        order_N[start[key_N[n]]] = n
        start[key_N[n]] += 1
    return order_N


@compiled
def item_sets(values, offsets):  # type: ignore[no-untyped-def]
    """The distinct items of each row, ascending: values and offsets."""
    found, ends = values.copy(), np.zeros(offsets.size, np.int64)
    filled = 0
    for row in range(offsets.size - 1):
        items = found[offsets[row] : offsets[row + 1]]
        if items.size > _FEW:
            items.sort()
        else:
            _insertion(items)
        for n in range(items.size):
            if n == 0 or items[n] != found[filled - 1]:
                found[filled] = items[n]
                filled += 1
        ends[row + 1] = filled
    return found[:filled], ends


@lean
def _insertion(items):  # type: ignore[no-untyped-def]
    for n in range(1, items.size):
        item, place = items[n], n
        while place > 0 and items[place - 1] > item:
            items[place] = items[place - 1]
            place -= 1
        items[place] = item


@compiled
def extended(rollout_R, prefix_R, item_R, prefixes_PL):  # type: ignore[no-untyped-def]
    """One item more for each rollout: their new order, their new prefixes, these prefixes and their parents.

    `prefix_R` ascends, and so do the new prefixes, by parent and item; rollouts on one prefix stay in order.
    """
    rollouts, length = prefix_R.size, prefixes_PL.shape[1]
    order_R, new_R = np.arange(rollouts), np.empty(rollouts, np.int64)
    parent, last = np.empty(rollouts, np.int64), np.empty(rollouts, np.int64)
    found, start = 0, 0
    while start < rollouts:
        stop = start
        while stop < rollouts and prefix_R[stop] == prefix_R[start]:
            stop += 1
        if stop > start + 1:
            _sort_places(order_R[start:stop], item_R, start)
        for n in range(start, stop):
            item = item_R[order_R[n]]
            if n == start or item != last[found - 1]:
                parent[found], last[found] = prefix_R[start], item
                found += 1
            new_R[n] = found - 1
        start = stop
    for n in range(rollouts):
        order_R[n] = rollout_R[order_R[n]]
    longer = np.empty((found, length + 1), np.int64)
    for p in range(found):
        for place in range(length):
            longer[p, place] = prefixes_PL[parent[p], place]
        longer[p, length] = last[p]
    return order_R, new_R, longer, parent[:found]


@compiled
def _sort_places(places, item_R, start):  # type: ignore[no-untyped-def]
    """Sort ascending places, `start` and following, by their items; equal ones stay in order."""
    if places.size > _FEW:
        places[:] = start + np.argsort(item_R[start : start + places.size], kind="mergesort")
        return
    for n in range(1, places.size):
        rollout, place = places[n], n
        while place > 0 and item_R[places[place - 1]] > item_R[rollout]:
            places[place] = places[place - 1]
            place -= 1
        places[place] = rollout


@compiled
def open_pairs(rollout_R, prefix_R, source_N, prefixes_PL, values, offsets):  # type: ignore[no-untyped-def]
    """The rollouts whose source has items outside the prefix; these items once for each pair of the two.

    Rollouts of a pair stand together. `source_N` is the source of each rollout by number; the items of
    sources are flat, with offsets; all int64.

    Returns:
        Of these rollouts numbers, prefixes and the pair of each; the prefixes that they use, which are
        numbered anew; the prefix of each pair, its items and their offsets; the numbers of other rollouts.
    """
    size = rollout_R.size
    rollouts, others = np.empty((3, size), np.int64), np.empty(size, np.int64)
    used_P, prefix_Q, ends = (
        np.empty(len(prefixes_PL), np.int64),
        np.empty(size, np.int64),
        np.zeros(size + 1, np.int64),
    )
    items_M = np.empty(_most_items(rollout_R, prefix_R, source_N, offsets), np.int64)
    given, found = (
        (rollout_R, prefix_R, source_N, prefixes_PL),
        (rollouts, used_P, prefix_Q, items_M, ends, others),
    )
    left, used, number = _open_pairs(given, values, offsets, found)
    pairs = prefix_Q[:number], items_M[: ends[number]], ends[: number + 1]
    return rollouts[:, :left], used_P[:used], pairs, others[: size - left]


@lean
def _most_items(rollout_R, prefix_R, source_N, offsets):  # type: ignore[no-untyped-def]
    """How many items the sources of all pairs have."""
    size, last, before = 0, -1, -1
    for r in range(rollout_R.size):
        source = source_N[rollout_R[r]]
        if source != last or prefix_R[r] != before:
            size += offsets[source + 1] - offsets[source]
        last, before = source, prefix_R[r]
    return size


@lean
def _open_pairs(given, values, offsets, found):  # type: ignore[no-untyped-def]
    """Fill in what `open_pairs` finds; how many rollouts, prefixes and pairs."""
    rollout_R, prefix_R, source_N, prefixes_PL = given
    rollouts, used_P, prefix_Q, items_M, ends, others = found
    left, used, number, filled, last, before, is_open = 0, 0, 0, 0, -1, -1, False
    for r in range(rollout_R.size):
        source, prefix = source_N[rollout_R[r]], prefix_R[r]
        if source != last or prefix != before:
            for m in range(offsets[source], offsets[source + 1]):
                items_M[filled] = values[m]
                filled += not _in_row(values[m], prefixes_PL, prefix)
            is_open = filled > ends[number]
            if is_open:
                if used == 0 or used_P[used - 1] != prefix:
                    used_P[used] = prefix
                    used += 1
                prefix_Q[number], ends[number + 1] = used - 1, filled
                number += 1
        last, before = source, prefix
        if is_open:
            rollouts[0, left], rollouts[1, left], rollouts[2, left] = rollout_R[r], used - 1, number - 1
            left += 1
        else:
            others[r - left] = rollout_R[r]
    return left, used, number


@compiled
def joined(rollout_N, item_N, rank_N, own_N, drop_last_R):  # type: ignore[no-untyped-def]
    """What was chosen for each rollout, one after another: items with offsets, ranks, and which are own."""
    chosen_R, ends = np.zeros(drop_last_R.size, np.int64), np.zeros(drop_last_R.size + 1, np.int64)
    for rollout in rollout_N:
        chosen_R[rollout] += 1
    for r in range(chosen_R.size):
        ends[r + 1] = ends[r] + chosen_R[r] - (drop_last_R[r] and chosen_R[r] > 1)
    items, rank, own = (
        np.empty(ends[-1], np.int64),
        np.empty(ends[-1], np.int64),
        np.empty(ends[-1], np.bool_),
    )
    place_R = ends[:-1].copy()
    for n in range(rollout_N.size):
        r = rollout_N[n]
        if place_R[r] < ends[r + 1]:
            items[place_R[r]], rank[place_R[r]], own[place_R[r]] = item_N[n], rank_N[n], own_N[n]
            place_R[r] += 1
    return items, ends, rank, own


@compiled
def contains(prefixes_PL, items_PK):  # type: ignore[no-untyped-def]
    """Which items of each list stand in the prefix; bool (P, K)."""
    found_PK = np.zeros(items_PK.shape, np.bool_)
    for p in range(len(items_PK)):
        for place in range(items_PK.shape[1]):
            found_PK[p, place] = _in_row(items_PK[p, place], prefixes_PL, p)
    return found_PK


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


@lean
def _stands(item, values, start, stop):  # type: ignore[no-untyped-def]
    for m in range(start, stop):  # noqa: SIM110 - no generators in compiled code
        if values[m] == item:
            return True
    return False


@lean
def _in_row(item, rows, row):  # type: ignore[no-untyped-def]
    for place in range(rows.shape[1]):  # noqa: SIM110 - no generators in compiled code
        if rows[row, place] == item:
            return True
    return False
