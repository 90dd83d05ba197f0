"""Products of 8-bit whole numbers on processors with AVX-512 VNNI, written for LLVM.

The instruction `vpdpbusd` multiplies 64 pairs of an unsigned and a signed byte and adds each four
products to one of 16 sums of 32 bits; six states meet 64 items at a time. numba turns the description below
into machine code; from a loop in Python it does not make this instruction. Needs numba.

Layout of the items: block by block of 64; in a block by groups of 4 coordinates; in a group item by item.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from rsir.models.registers import I64, PARTS, ROWS, Tile, at, carried, everywhere, function

LANES = 16
"""Sums in a register."""
BLOCK = LANES * PARTS
"""Items multiplied at a time: `PARTS` registers."""
GROUP = 4
"""Coordinates that one instruction adds up."""

_SUMS = ir.VectorType(ir.IntType(32), LANES)


def supported() -> bool:
    """Whether this processor has the instruction.

    >>> supported() in (True, False)
    True
    """
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512f"))


@intrinsic
def products(typing: Any, states: Any, items: Any, groups: Any, sums: Any, stride: Any, maxima: Any) -> Any:
    """Inner products of `ROWS` states with one block of items, and their maxima; all arguments int64.

    The states stand one after another, `GROUP * groups` signed bytes each. Maximum l of a block is that of
    its items l, l + LANES, l + 2 LANES, …; a row of maxima is a `PARTS`-th as long as a row of sums.

    Args:
        typing: given by numba.
        states: address of int8 (ROWS, GROUP * groups).
        items: address of uint8 (groups, BLOCK, GROUP), a multiple of 64.
        groups: coordinates over `GROUP`, at least 1.
        sums: address of the block in int32 (ROWS, …), a multiple of 64.
        stride: bytes from one row of sums to the next.
        maxima: address of the block in int32 (ROWS, …), a multiple of 64.
    """
    return types.void(*[types.int64] * 6), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    states, items, groups, sums, stride, maxima = arguments
    for row, registers in enumerate(_sums_of_block(builder, states, items, groups)):
        place = builder.add(sums, builder.mul(stride, I64(row)))
        for part, register in enumerate(registers):
            builder.store(register, at(builder, place, 4 * LANES * part, _SUMS), align=64)
        place = builder.add(maxima, builder.mul(builder.sdiv(stride, I64(PARTS)), I64(row)))
        builder.store(_largest(builder, registers), at(builder, place, 0, _SUMS), align=64)
    return context.get_dummy_value()


def _sums_of_block(builder: ir.IRBuilder, states: Any, items: Any, groups: Any) -> Tile:
    """The sums of all groups, group by group."""
    multiply = function(builder, "llvm.x86.avx512.vpdpbusd.512", _SUMS)

    def step(group: Any, tile: Tile) -> Tile:
        place = builder.add(items, builder.mul(group, I64(BLOCK * GROUP)))
        loaded = [
            builder.load(at(builder, place, 4 * LANES * part, _SUMS), align=64) for part in range(PARTS)
        ]
        added = []
        for row, registers in enumerate(tile):
            number = builder.add(builder.mul(groups, I64(row)), group)
            four = builder.add(states, builder.mul(number, I64(GROUP)))
            state = everywhere(builder, four, _SUMS, align=4)
            pairs = zip(registers, loaded, strict=True)
            added.append([builder.call(multiply, [total, item, state]) for total, item in pairs])
        return added

    nothing = _SUMS([0] * LANES)
    return carried(builder, groups, [[nothing] * PARTS for _ in range(ROWS)], step)


def _largest(builder: ir.IRBuilder, registers: list[Any]) -> Any:
    first = registers[0]
    for other in registers[1:]:
        first = builder.select(builder.icmp_signed(">", first, other), first, other)
    return first
