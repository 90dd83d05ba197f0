"""Attention of one row over its items, wherever their keys and values stand; loops compiled by numba."""

from __future__ import annotations

import math

from rsir.compiled import lean, reordered
from rsir.models.fma import elsewhere


@reordered
def attend(query, places_L, key, value, width, scale, bias_MH, weight_HL, out_D):  # type: ignore[no-untyped-def]
    """Attention of one row over its items, itself the last of them.

    `key` and `value` are how many bytes behind each of the addresses `places_L` these stand. `bias_MH` by
    distance, or empty. Scores are multiplied by `scale`.
    """
    heads, length = len(weight_HL), places_L.size
    each = width // heads
    for n in range(length):
        key_D = elsewhere(out_D, places_L[n] + key)
        for h in range(heads):
            total = _dot(query[h * each :], key_D[h * each :], each) * scale
            weight_HL[h, n] = total + bias_MH[length - 1 - n, h] if bias_MH.size else total
    for h in range(heads):
        _softmax(weight_HL[h], length)
    for d in range(width):
        out_D[d] = 0.0
    for n in range(length):
        value_D = elsewhere(out_D, places_L[n] + value)
        for h in range(heads):
            add(weight_HL[h, n], value_D[h * each :], out_D[h * each :], each)


@reordered
def _dot(left, right, width):  # type: ignore[no-untyped-def]
    total = 0.0
    for d in range(width):
        total += left[d] * right[d]
    return total


@reordered
def add(weight, part, total, width):  # type: ignore[no-untyped-def]
    """Add so many weighted numbers."""
    for d in range(width):
        total[d] += weight * part[d]


@lean
def _softmax(x_L, length):  # type: ignore[no-untyped-def]
    """The softmax of the first numbers, in place."""
    highest, total = x_L[0], 0.0
    for n in range(1, length):
        highest = max(highest, x_L[n])
    for n in range(length):
        x_L[n] = math.exp(x_L[n] - highest)
        total += x_L[n]
    scale = 1.0 / total
    for n in range(length):
        x_L[n] *= scale
