"""One item further through a SASRec, in float64; loops compiled by numba (see `rsir.models.growing`).

A few rows at a time go through the whole network, so that all they need stays in cache. Each row is
computed by itself in one fixed order, whatever rows stand beside it. Keys and values of earlier items stay
where they were written: a row knows its place in the array of each earlier length.

Widths D are padded to a multiple of `COLUMNS`, with weights of zero.
"""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np

from rsir.compiled import lean
from rsir.models.fma import COLUMNS, elsewhere, multiply
from rsir.models.registers import ROWS

ROWS_AT_ONCE = 8 * ROWS
_EPSILON = 1e-5
"""Of layer norms; PyTorch's default."""
_CELLS, _TERMS = 64, 7
_ERF_ENDS = 6
"""erf is 1 from here on, to the last bit of a float64."""


@cache
def erf_table() -> np.ndarray:
    """Taylor coefficients of erf in the middle of each cell from 0 to `_ERF_ENDS`; float64 (cells, `_TERMS`).

    From erf″(x) = −2x erf′(x), around c: (n + 1)(n + 2) a₍ₙ₊₂₎ = −2 (c (n + 1) a₍ₙ₊₁₎ + n aₙ).

    >>> table, x = erf_table(), 0.7
    >>> cell = int(x * 64)
    >>> value = sum(a * (x - (cell + 0.5) / 64) ** n for n, a in enumerate(table[cell]))
    >>> bool(abs(value - math.erf(x)) < 4e-16)
    True
    """
    table = np.empty((_ERF_ENDS * _CELLS, _TERMS))
    for cell, a in enumerate(table):
        c = (cell + 0.5) / _CELLS
        a[0], a[1] = math.erf(c), 2 / math.sqrt(math.pi) * math.exp(-c * c)
        for n in range(_TERMS - 2):
            a[n + 2] = -2 * (c * (n + 1) * a[n + 1] + n * a[n]) / ((n + 1) * (n + 2))
    return table


_reordered = partial(lean, any_order=True)


@_reordered
def _normed(x_D, weight_D, bias_D, out_D):  # type: ignore[no-untyped-def]
    """Layer norm."""
    mean, spread = 0.0, 0.0
    for d in range(weight_D.size):
        mean += x_D[d]
    mean /= weight_D.size
    for d in range(weight_D.size):
        spread += (x_D[d] - mean) ** 2
    scale = 1.0 / math.sqrt(spread / weight_D.size + _EPSILON)
    for d in range(weight_D.size):
        out_D[d] = (x_D[d] - mean) * scale * weight_D[d] + bias_D[d]


@_reordered
def _gelu(x_D, table):  # type: ignore[no-untyped-def]
    """GELU, x Φ(x) = x (1 + erf(x / √2)) / 2, in place."""
    for d in range(x_D.size):
        value = x_D[d] * math.sqrt(0.5)
        inside = abs(value) < _ERF_ENDS  # what is not a number is not
        size = abs(value) if inside else _ERF_ENDS - 1e-9
        cell = np.uint64(size * _CELLS)
        off, start = size - (np.float64(cell) + 0.5) / _CELLS, cell * np.uint64(_TERMS)
        erf = table[start + np.uint64(_TERMS - 1)]
        for n in range(2, _TERMS + 1):
            erf = erf * off + table[start + np.uint64(_TERMS - n)]
        x_D[d] *= 0.5 + math.copysign(0.5 * erf, value)


@_reordered
def _relu(x_D):  # type: ignore[no-untyped-def]
    for d in range(x_D.size):
        x_D[d] = max(x_D[d], 0.0)


@lean
def _linear(rows_BI, panels, bias, out_BO):  # type: ignore[no-untyped-def]
    """A linear layer, rows · weights + bias; `panels` (O / COLUMNS, I, COLUMNS), B a multiple of `ROWS`."""
    parts, depth = panels.shape[:2]
    for part in range(parts):
        for b in range(0, len(rows_BI), ROWS):
            multiply(
                rows_BI.ctypes.data + 8 * rows_BI.shape[1] * b,
                8 * rows_BI.shape[1],
                panels.ctypes.data + 8 * depth * COLUMNS * part,
                depth,
                bias.ctypes.data + 8 * COLUMNS * part,
                out_BO.ctypes.data + 8 * (out_BO.shape[1] * b + COLUMNS * part),
                8 * out_BO.shape[1],
            )


@_reordered
def _attend(qkv, place_L, bases_L, number, kept_ND, bias_MH, weight_HL, out_D):  # type: ignore[no-untyped-def]
    """Attention of one row over its earlier items and itself; its key and value are written to `kept_ND`.

    `kept_ND` is float64 (2 blocks, D), keys before values; earlier ones stand at `bases_L` in the places
    `place_L`. `bias_MH` by distance, or empty.
    """
    heads, width, padded, length = len(weight_HL), kept_ND.shape[1], out_D.size, len(place_L)
    key, value = qkv[padded:], qkv[2 * padded :]
    for d in range(width):
        kept_ND[2 * number, d] = key[d]
        kept_ND[2 * number + 1, d] = value[d]
        out_D[d] = 0.0
    each = width // heads
    for n in range(length + 1):
        kept = kept_ND if n == length else elsewhere(kept_ND, bases_L[n] + 8 * kept_ND.size * place_L[n])
        for h in range(heads):
            total = _dot(qkv[h * each :], kept[2 * number, h * each :], each) / math.sqrt(each)
            weight_HL[h, n] = total + bias_MH[length - n, h] if bias_MH.size else total
    for h in range(heads):
        _softmax(weight_HL[h], length + 1)
    for n in range(length + 1):
        kept = kept_ND if n == length else elsewhere(kept_ND, bases_L[n] + 8 * kept_ND.size * place_L[n])
        for h in range(heads):
            _add(weight_HL[h, n], kept[2 * number + 1, h * each :], out_D[h * each :], each)


@_reordered
def _dot(left, right, width):  # type: ignore[no-untyped-def]
    total = 0.0
    for d in range(width):
        total += left[d] * right[d]
    return total


@lean
def _copy(part, into):  # type: ignore[no-untyped-def]
    for d in range(part.size):
        into[d] = part[d]


@_reordered
def _add(weight, part, total, width):  # type: ignore[no-untyped-def]
    for d in range(width):
        total[d] += weight * part[d]


@_reordered
def _softmax(x_L, length):  # type: ignore[no-untyped-def]
    """The softmax of the first numbers, in place."""
    highest, total = x_L[0], 0.0
    for n in range(1, length):
        highest = max(highest, x_L[n])
    for n in range(length):
        x_L[n] = math.exp(x_L[n] - highest)
        total += x_L[n]
    for n in range(length):
        x_L[n] /= total


@lean
def advance(item_P, place_PL, bases_L, shape, weights, scratch, kept_PND, states_PD, column):  # type: ignore[no-untyped-def]
    """Go on by one item: fill the keys and values of the newest items, and the states rounded to float32.

    Args:
        item_P: int64, the newest item of each prefix.
        place_PL: int64, where the earlier items' keys and values stand in the arrays of their lengths.
        bases_L: int64, the addresses of these arrays, each laid out as `kept_PND`.
        shape: heads, and whether the feed-forward layer has GELU (else ReLU).
        weights: see `rsir.models.growing`.
        scratch: for `ROWS_AT_ONCE` rows as wide as the layers make them, and for the weights of one row.
        kept_PND: float64 (P, 2 blocks, D), filled.
        states_PD: float32; filled from `column` on.
        column: as told.
    """
    _heads, gelu = shape
    (
        vectors,
        norms,
        norm_out,
        qkv,
        qkv_bias,
        mix,
        mix_bias,
        wide,
        wide_bias,
        narrow,
        narrow_bias,
        bias,
        table,
    ) = weights
    x, y, out, projected, hidden, weight_HL = scratch
    width = vectors.shape[1]
    for first in range(0, len(item_P), ROWS_AT_ONCE):
        here = min(ROWS_AT_ONCE, len(item_P) - first)
        rows = -(-here // ROWS) * ROWS
        for b in range(here):
            _copy(vectors[item_P[first + b]], x[b])
        for n in range(len(qkv)):
            for b in range(here):
                _normed(x[b], norms[n, 0, 0], norms[n, 0, 1], y[b])
            _linear(y[:rows], qkv[n], qkv_bias[n], projected)
            for b in range(here):
                p = first + b
                _attend(projected[b], place_PL[p], bases_L, n, kept_PND[p], bias[n], weight_HL, y[b])
            _linear(y[:rows], mix[n], mix_bias[n], out)
            for b in range(here):
                _add(1.0, out[b], x[b], width)
                _normed(x[b], norms[n, 1, 0], norms[n, 1, 1], y[b])
            _linear(y[:rows], wide[n], wide_bias[n], hidden)
            for b in range(here):
                if gelu:
                    _gelu(hidden[b], table)
                else:
                    _relu(hidden[b])
            _linear(hidden[:rows], narrow[n], narrow_bias[n], out)
            for b in range(here):
                _add(1.0, out[b], x[b], width)
        for b in range(here):
            _normed(x[b], norm_out[0], norm_out[1], y[b])
            for d in range(width):
                states_PD[first + b, column + d] = y[b, d]
