"""One item further through a SASRec, in float64; loops compiled by numba (see `rsir.models.growing`).

A few rows at a time go through the whole network, so that all they need stays in cache. Each row is
computed by itself in one fixed order, whatever rows stand beside it. Keys and values of earlier items stay
where they were written: a row finds them by going back from prefix to prefix. What the first block makes of
an item does not depend on the items before it, and is made once for each item.

Widths D are padded to a multiple of `COLUMNS`, with weights of zero.
"""

from __future__ import annotations

import math

import numpy as np

from rsir.compiled import compiled, lean, reordered
from rsir.models.attend import add, attend
from rsir.models.fma import COLUMNS, elsewhere, multiply
from rsir.models.gelu import gelu
from rsir.models.registers import ROWS

ROWS_AT_ONCE = 8 * ROWS
_EPSILON = 1e-5
"""Of layer norms; PyTorch's default."""


@reordered
def _sum(x_D, width):  # type: ignore[no-untyped-def]
    total = 0.0
    for d in range(width):
        total += x_D[d]
    return total


@reordered
def _spread(x_D, width, mean):  # type: ignore[no-untyped-def]
    total = 0.0
    for d in range(width):
        total += (x_D[d] - mean) ** 2
    return total


@lean
def _normed(x_D, weight_D, bias_D, out_D):  # type: ignore[no-untyped-def]
    """Layer norm. Where sums may be reordered, a product with 1 / s becomes a division by s: not here."""
    width = weight_D.size
    mean = _sum(x_D, width) / width
    scale = 1.0 / math.sqrt(_spread(x_D, width, mean) / width + _EPSILON)
    for d in range(width):
        out_D[d] = (x_D[d] - mean) * scale * weight_D[d] + bias_D[d]


@reordered
def _relu(x_BD):  # type: ignore[no-untyped-def]
    for x_D in x_BD:
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


@lean
def _copy(part, into, width):  # type: ignore[no-untyped-def]
    for d in range(width):
        into[d] = part[d]


@lean
def _trace(p, item_P, path, read, size, kept, places_2L):  # type: ignore[no-untyped-def]
    """The addresses of what the first block made of the items of a prefix, and of what the others kept of it.

    `size` is how many bytes these kept of a prefix, `kept` where that of the newest prefixes begins; `path`
    and `read` as for `advance`. Fills int64 (2, L).
    """
    parent_P, parents, items, bases = path
    last = places_2L.shape[1] - 1
    places_2L[0, last], places_2L[1, last] = read[item_P[p]], kept + size * p
    for n in range(last - 1, -1, -1):
        p = parent_P[p] if n == last - 1 else elsewhere(parent_P, parents[n + 1])[p]
        places_2L[0, n], places_2L[1, n] = read[elsewhere(item_P, items[n])[p]], bases[n] + size * p


@compiled
def read_items(item_P, weights, scratch, read):  # type: ignore[no-untyped-def]
    """What the first block makes of items that it has not read: queries, keys and values, float64 (M, 3 D).

    `read` is int64 (V,), the address of that of each item; 0 for those that are not read yet.
    """
    new, count = np.empty(len(item_P), np.int64), 0
    for p in range(len(item_P)):
        if read[item_P[p]] == 0:
            new[count], read[item_P[p]] = item_P[p], -1
            count += 1
    made_MD = np.empty((count, scratch[3].shape[1]))
    _read(new[:count], weights, scratch, read, made_MD)
    return made_MD


@lean
def _read(item_M, weights, scratch, read, made_MD):  # type: ignore[no-untyped-def]
    """Fill in what `read_items` makes."""
    vectors, norms, _, qkv, qkv_bias = weights[:5]
    _, y, _, projected = scratch[:4]
    for first in range(0, len(item_M), ROWS_AT_ONCE):
        here = min(ROWS_AT_ONCE, len(item_M) - first)
        for b in range(here):
            _normed(vectors[item_M[first + b]], norms[0, 0, 0], norms[0, 0, 1], y[b])
        _linear(y[: -(-here // ROWS) * ROWS], qkv[0], qkv_bias[0], projected)
        for b in range(here):
            m = first + b
            _copy(projected[b], made_MD[m], made_MD.shape[1])
            read[item_M[m]] = made_MD.ctypes.data + 8 * made_MD.shape[1] * m


@lean
def advance(item_P, path, read, shape, weights, scratch, kept_PND, states_PD, column):  # type: ignore[no-untyped-def]
    """Go on by one item: fill the keys and values of the newest items, and the states rounded to float32.

    Args:
        item_P: int64, the newest item of each prefix.
        path: int64 (P,), the prefix that each goes on from, and for each earlier length the addresses of such
            numbers, of the newest items and of their keys and values; each int64 (L,).
        read: as for `read_items`; these items are read.
        shape: heads, what attention's scores are multiplied by, and whether there is GELU (else ReLU).
        weights: see `rsir.models.growing`.
        scratch: for `ROWS_AT_ONCE` rows as wide as the layers make them, and for what each row looks at.
        kept_PND: float64 (P, 2 (blocks − 1), D), keys before values; filled.
        states_PD: float32; filled from `column` on.
        column: as told.
    """
    _heads, scale, has_gelu = shape
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
    x, y, out, projected, hidden, weight_HL, places_B2L = scratch
    width, padded, length = vectors.shape[1], out.shape[1], len(path[-1]) + 1
    weight_HL, places_B2L = weight_HL[:, :length], places_B2L[:, :, :length]
    size = 8 * width * kept_PND.shape[1]
    for first in range(0, len(item_P), ROWS_AT_ONCE):
        here = min(ROWS_AT_ONCE, len(item_P) - first)
        rows = -(-here // ROWS) * ROWS
        for b in range(here):
            _copy(vectors[item_P[first + b]], x[b], width)
            _trace(first + b, item_P, path, read, size, kept_PND.ctypes.data, places_B2L[b])
        for n in range(len(qkv)):
            if n == 0:
                for b in range(here):
                    places = places_B2L[b, 0]
                    query, key, value = elsewhere(projected[b], places[-1]), 8 * padded, 16 * padded
                    attend(query, places, key, value, width, scale, bias[n], weight_HL, y[b])
            else:
                for b in range(here):
                    _normed(x[b], norms[n, 0, 0], norms[n, 0, 1], y[b])
                _linear(y[:rows], qkv[n], qkv_bias[n], projected)
                key = 8 * width * 2 * (n - 1)
                for b in range(here):
                    _copy(projected[b, padded:], kept_PND[first + b, 2 * n - 2], width)
                    _copy(projected[b, 2 * padded :], kept_PND[first + b, 2 * n - 1], width)
                    places = places_B2L[b, 1]
                    value = key + 8 * width
                    attend(projected[b], places, key, value, width, scale, bias[n], weight_HL, y[b])
            _linear(y[:rows], mix[n], mix_bias[n], out)
            for b in range(here):
                add(1.0, out[b], x[b], width)
                _normed(x[b], norms[n, 1, 0], norms[n, 1, 1], y[b])
            _linear(y[:rows], wide[n], wide_bias[n], hidden)
            if has_gelu:
                gelu(hidden.ctypes.data, rows * hidden.shape[1] // COLUMNS, table.ctypes.data)
            else:
                _relu(hidden[:rows])
            _linear(hidden[:rows], narrow[n], narrow_bias[n], out)
            for b in range(here):
                add(1.0, out[b], x[b], width)
        for b in range(here):
            _normed(x[b], norm_out[0], norm_out[1], y[b])
            for d in range(width):
                states_PD[first + b, column + d] = y[b, d]
