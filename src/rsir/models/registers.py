"""Loops that keep a tile of numbers in vector registers, written for LLVM; `vnni` and `fma` fill them in.

A processor with AVX-512 has 32 such registers. Six rows of four registers each leave room for what they are
made from, and every number that is loaded meets four or six others. Needs numba.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from llvmlite import ir

ROWS = 6
PARTS = 4
Tile = list[list[Any]]
"""`ROWS` × `PARTS` registers."""

I64 = ir.IntType(64)


def carried(builder: ir.IRBuilder, count: Any, start: Tile, step: Callable[[Any, Tile], Tile]) -> Tile:
    """The tile after `count` ≥ 1 steps; `step` is given the number of the step and the tile before it."""
    before = builder.block
    loop, after = builder.append_basic_block("steps"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    number = builder.phi(I64)
    tile = [[builder.phi(register.type) for register in row] for row in start]
    stepped = step(number, tile)
    following = builder.add(number, I64(1))
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    number.add_incoming(I64(0), before)
    number.add_incoming(following, loop)
    for held, first, new in zip(chain(*tile), chain(*start), chain(*stepped), strict=True):
        held.add_incoming(first, before)
        held.add_incoming(new, loop)
    builder.position_at_end(after)
    return stepped


def function(builder: ir.IRBuilder, name: str, kind: ir.Type) -> Any:
    """An intrinsic function of LLVM of three arguments, all of its own kind."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(kind, [kind] * 3), name)


def at(builder: ir.IRBuilder, address: Any, offset: int, kind: ir.Type) -> Any:
    """A pointer to what stands `offset` bytes behind an address."""
    return builder.inttoptr(builder.add(address, I64(offset)), kind.as_pointer())


def everywhere(builder: ir.IRBuilder, address: Any, kind: ir.VectorType, align: int) -> Any:
    """The one number at an address, in every place of a register."""
    number = builder.load(at(builder, address, 0, kind.element), align=align)
    nothing = kind(ir.Undefined)
    first = builder.insert_element(nothing, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, ir.VectorType(ir.IntType(32), kind.count)([0] * kind.count))
