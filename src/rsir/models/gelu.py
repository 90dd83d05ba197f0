"""GELU in float64 on processors with AVX-512, written for LLVM: 32 numbers at a time, each by itself.

erf is a polynomial in each of 16 cells. Two registers hold a coefficient of all cells, from which one
instruction picks that of each number; fetching them from memory takes six times as long. Needs numba.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.polynomial import chebyshev

from rsir.models.fma import COLUMNS, LANES
from rsir.models.registers import I64, PARTS, at, carried, function

_CELLS = 2 * LANES
_LAST = _CELLS - 0.501
"""Just before the last cell ends; cell n has its middle at n."""
_PER_CELL = 0.55
"""How far a cell reaches; they end at 8.5, from where on erf(x / √2) is 1 to the last bit of a float64."""
_TERMS, _SERIES = 14, 26
_WHOLE = 2.0**52
"""A number between 0 and 2⁵¹ that is added to it is rounded, and stands in the last bits of the sum."""

_NUMBERS = ir.VectorType(ir.DoubleType(), LANES)
_BITS = ir.VectorType(ir.IntType(64), LANES)


@cache
def half_erf() -> np.ndarray:
    """Coefficients of erf(x / √2) / 2 by powers of what is left of x / `_PER_CELL`; float64 (terms, cells).

    Taylor's series around the middle of a cell, from erf″(z) = −2z erf′(z):
    (n + 1)(n + 2) a₍ₙ₊₂₎ = −2 (c (n + 1) a₍ₙ₊₁₎ + n aₙ); cut off where it is a sum of Chebyshev polynomials.

    >>> x, table = 1.234, half_erf()
    >>> cell = round(x / 0.55)
    >>> value = sum(a * (x / 0.55 - cell) ** n for n, a in enumerate(table[:, cell]))
    >>> bool(abs(value - math.erf(x / math.sqrt(2)) / 2) < 2e-16)
    True
    """
    table, width = np.empty((_TERMS, _CELLS)), _PER_CELL * math.sqrt(0.5)
    for cell in range(_CELLS):
        c, a = cell * width, np.empty(_SERIES)
        a[0], a[1] = math.erf(c), 2 / math.sqrt(math.pi) * math.exp(-c * c)
        for n in range(_SERIES - 2):
            a[n + 2] = -2 * (c * (n + 1) * a[n + 1] + n * a[n]) / ((n + 1) * (n + 2))
        powers = np.arange(_SERIES)
        short = chebyshev.cheb2poly(chebyshev.poly2cheb(a * (width / 2) ** powers)[:_TERMS])
        table[:, cell] = short * 2.0 ** (powers[:_TERMS] - 1)
    return table


@intrinsic
def gelu(typing: Any, values: Any, count: Any, table: Any) -> Any:
    """GELU in place, x Φ(x) = x (1 + erf(x / √2)) / 2; all arguments int64.

    Args:
        typing: given by numba.
        values: address of float64 (count, COLUMNS), a multiple of 64.
        count: at least 1.
        table: address of `half_erf`, a multiple of 64.
    """
    return types.void(*[types.int64] * 3), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    values, count, table = arguments

    def step(number: Any, tile: list[list[Any]]) -> list[list[Any]]:
        place = builder.add(values, builder.mul(number, I64(8 * COLUMNS)))
        places = [at(builder, place, 8 * LANES * part, _NUMBERS) for part in range(PARTS)]
        x = [builder.load(one, align=64) for one in places]
        for one, result in zip(places, _gelu(builder, x, table), strict=True):
            builder.store(result, one, align=64)
        return tile

    carried(builder, count, [], step)
    return context.get_dummy_value()


def _gelu(builder: ir.IRBuilder, registers: list[Any], table: Any) -> list[Any]:
    """Of some registers side by side, so that the coefficients are loaded once for all."""
    fma = function(builder, "llvm.fma.v8f64", _NUMBERS)
    signs, cells, rests = zip(*[_placed(builder, x) for x in registers], strict=True)
    sums: list[Any] = []
    for term in reversed(range(_TERMS)):
        parts = [at(builder, table, 8 * (_CELLS * term + first), _NUMBERS) for first in (0, LANES)]
        low, high = (builder.load(part, align=64) for part in parts)
        picked = [builder.call(_pick(builder), [low, cell, high]) for cell in cells]
        steps = zip(sums, rests, picked, strict=True)
        sums = [builder.call(fma, list(one)) for one in steps] if sums else picked
    halves = [
        builder.bitcast(builder.xor(builder.bitcast(total, _BITS), sign), _NUMBERS)
        for total, sign in zip(sums, signs, strict=True)
    ]
    return [builder.fmul(x, builder.fadd(half, _all(0.5))) for x, half in zip(registers, halves, strict=True)]


def _placed(builder: ir.IRBuilder, x: Any) -> tuple[Any, Any, Any]:
    """The sign bits of numbers, the cells of their sizes, and how far they are from the middle of these."""
    bits = builder.bitcast(x, _BITS)
    sign = builder.and_(bits, _BITS([-(1 << 63)] * LANES))
    size = builder.bitcast(builder.xor(bits, sign), _NUMBERS)
    size = builder.fmul(size, _all(1 / _PER_CELL))
    inside = builder.fcmp_ordered("<", size, _all(_LAST))  # what is not a number is not
    size = builder.select(inside, size, _all(_LAST))
    whole = builder.fadd(size, _all(_WHOLE))
    rest = builder.fsub(size, builder.fsub(whole, _all(_WHOLE)))
    return sign, builder.bitcast(whole, _BITS), rest


def _pick(builder: ir.IRBuilder) -> Any:
    """The instruction that picks from two registers by the last four bits of each number of a third."""
    name = "llvm.x86.avx512.vpermi2var.pd.512"
    kind = ir.FunctionType(_NUMBERS, [_NUMBERS, _BITS, _NUMBERS])
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _all(value: float) -> Any:
    return _NUMBERS([value] * LANES)
