"""Matrix products in float64 on processors with AVX-512, written for LLVM: six rows by 32 columns.

A library's product of few rows by a small matrix reaches half of what the processor can do, and its rounding
depends on how many rows there are; here each row has its own fixed order of additions. Needs numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

from rsir.models.registers import I64, PARTS, ROWS, Tile, at, carried, everywhere, function

LANES = 8
COLUMNS = LANES * PARTS
_REGISTER = ir.VectorType(ir.DoubleType(), LANES)
_WIDTH = 8 * LANES
"""Bytes of a register."""


def supported() -> bool:
    """Whether this processor has registers of 512 bits.

    >>> supported() in (True, False)
    True
    """
    return bool(binding.get_host_cpu_features().get("avx512f"))


@intrinsic
def multiply(
    typing: Any, rows: Any, row_stride: Any, panel: Any, depth: Any, bias: Any, out: Any, out_stride: Any
) -> Any:
    """`ROWS` rows times a panel of `COLUMNS` columns, plus a bias; all arguments int64.

    Args:
        typing: given by numba.
        rows: address of float64 (ROWS, depth).
        row_stride: bytes from one of them to the next.
        panel: address of float64 (depth, COLUMNS), a multiple of 64.
        depth: at least 1.
        bias: address of float64 (COLUMNS,), a multiple of 64.
        out: address of float64 (ROWS, COLUMNS), a multiple of 64, as are `out_stride` bytes.
        out_stride: bytes from one row of `out` to the next.
    """
    return types.void(*[types.int64] * 7), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    rows, row_stride, panel, depth, bias, out, out_stride = arguments
    fma = function(builder, "llvm.fma.v8f64", _REGISTER)

    def load(address: Any, part: int) -> Any:
        return builder.load(at(builder, address, _WIDTH * part, _REGISTER), align=64)

    def step(number: Any, tile: Tile) -> Tile:
        place = builder.add(panel, builder.mul(number, I64(8 * COLUMNS)))
        weights = [load(place, part) for part in range(PARTS)]
        added = []
        for row, sums in enumerate(tile):
            start = builder.add(rows, builder.mul(row_stride, I64(row)))
            value = everywhere(builder, builder.add(start, builder.mul(number, I64(8))), _REGISTER, align=8)
            added.append([builder.call(fma, [value, w, s]) for w, s in zip(weights, sums, strict=True)])
        return added

    start = [load(bias, part) for part in range(PARTS)]
    for row, sums in enumerate(carried(builder, depth, [start] * ROWS, step)):
        place = builder.add(out, builder.mul(out_stride, I64(row)))
        for part, register in enumerate(sums):
            builder.store(register, at(builder, place, _WIDTH * part, _REGISTER), align=64)
    return context.get_dummy_value()


@intrinsic
def elsewhere(typing: Any, like: Any, address: Any) -> Any:
    """An array like another, with numbers that begin at an address, int64; who holds them is not counted."""
    return like(like, types.int64), _moved


def _moved(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    array = create_struct_proxy(signature.return_type)(context, builder, value=arguments[0])
    array.data = builder.inttoptr(arguments[1], array.data.type)
    array.meminfo, array.parent = array.meminfo.type(None), array.parent.type(None)
    return array._getvalue()
