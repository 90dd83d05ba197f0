"""Products of 8-bit whole numbers on processors with AVX-512 VNNI, written for LLVM.

The instruction `vpdpbusd` multiplies 64 pairs of an unsigned and a signed byte and adds each four
products to one of 16 sums of 32 bits. Six states against 64 items keep 24 such registers of sums, which
leaves room for what they are made from. numba turns the description below into machine code; from a loop
in Python it does not make this instruction. Needs numba.

Layout of the items: block by block of 64; in a block by groups of 4 coordinates; in a group item by item.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

ROWS = 6
"""States multiplied at a time."""
LANES = 16
"""Sums in a register."""
PARTS = 4
BLOCK = LANES * PARTS
"""Items multiplied at a time: `PARTS` registers."""
GROUP = 4
"""Coordinates that one instruction adds up."""

_NAME = "llvm.x86.avx512.vpdpbusd.512"
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SUMS = ir.VectorType(_I32, LANES)


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
    found = _sums_of_block(builder, states, items, groups)
    for row, registers in enumerate(found):
        at = builder.add(sums, builder.mul(stride, _I64(row)))
        for part, register in enumerate(registers):
            builder.store(register, _at(builder, at, 4 * LANES * part, _SUMS), align=64)
        at = builder.add(maxima, builder.mul(builder.sdiv(stride, _I64(PARTS)), _I64(row)))
        builder.store(_largest(builder, registers), _at(builder, at, 0, _SUMS), align=64)
    return context.get_dummy_value()


def _sums_of_block(builder: ir.IRBuilder, states: Any, items: Any, groups: Any) -> list[list[Any]]:
    """A loop over the groups that carries all sums in registers."""
    before = builder.block
    loop, after = builder.append_basic_block("groups"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    group = builder.phi(_I64)
    carried = [[builder.phi(_SUMS) for _ in range(PARTS)] for _ in range(ROWS)]
    place = builder.add(items, builder.mul(group, _I64(BLOCK * GROUP)))
    loaded = [builder.load(_at(builder, place, 4 * LANES * p, _SUMS), align=64) for p in range(PARTS)]
    added = []
    for row, registers in enumerate(carried):
        number = builder.add(builder.mul(groups, _I64(row)), group)
        state = _everywhere(builder, builder.add(states, builder.mul(number, _I64(GROUP))))
        pairs = zip(registers, loaded, strict=True)
        added.append([builder.call(_instruction(builder), [total, item, state]) for total, item in pairs])
    following = builder.add(group, _I64(1))
    builder.cbranch(builder.icmp_signed("<", following, groups), loop, after)
    group.add_incoming(_I64(0), before)
    group.add_incoming(following, loop)
    for old, new in zip(chain(*carried), chain(*added), strict=True):
        old.add_incoming(_SUMS([0] * LANES), before)
        old.add_incoming(new, loop)
    builder.position_at_end(after)
    return added


def _instruction(builder: ir.IRBuilder) -> Any:
    known = builder.module.globals.get(_NAME)
    return known or ir.Function(builder.module, ir.FunctionType(_SUMS, [_SUMS] * 3), _NAME)


def _at(builder: ir.IRBuilder, address: Any, offset: int, kind: ir.Type) -> Any:
    return builder.inttoptr(builder.add(address, _I64(offset)), kind.as_pointer())


def _everywhere(builder: ir.IRBuilder, address: Any) -> Any:
    """The four bytes at an address, in every lane."""
    four = builder.load(_at(builder, address, 0, _I32), align=4)
    nothing = _SUMS(ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(nothing, four, _I32(0)), nothing, _SUMS([0] * LANES))


def _largest(builder: ir.IRBuilder, registers: list[Any]) -> Any:
    first = registers[0]
    for other in registers[1:]:
        first = builder.select(builder.icmp_signed(">", first, other), first, other)
    return first
