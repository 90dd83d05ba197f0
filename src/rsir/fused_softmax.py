"""Cross-entropy over the whole catalogue on a GPU, without writing a score to memory; needs Triton.

Three kernels go over the same tiles of scores, and each makes them anew: one for the log of the softmax's
denominator (the running maximum and sum of Milakov & Gimelshein, 2018, arXiv 1805.02867), one for the
gradient of the states, one for that of the item vectors. Each program owns some rows of its result and adds
up in one order; where there are too few of them to fill a GPU the other side is cut in parts, whose sums are
added afterwards. So nothing depends on the order in which programs run. Products take bfloat16 or float32
(never TF32) and are added in float32.

Shape suffixes: see `ragged.py`; in the kernels also O the rows that a program owns and T those of a tile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_DIM = 256
"""Wider rows do not fit beside their sums in the registers of a program."""
_PROGRAMS = 512
"""What keeps a large GPU busy."""


@dataclass(frozen=True)
class Tiles:
    """What a kernel is compiled for, beside the type of its numbers.

    All fit in the 99 KiB of shared memory that a program has on the smallest GPUs since Ampere, and in
    registers.

    Attributes:
        D: width of states and item vectors.
        WIDE: the same, filled up to a power of two.
        OWN: rows that a program owns.
        TILE: rows of the other side that it meets at a time.
        CHUNK: numbers of two rows multiplied at a time for a score; without tensor cores all of them
            at a time would not fit in registers.
        num_warps: groups of 32 threads.
        num_stages: tiles on their way at a time.
    """

    D: int
    WIDE: int
    OWN: int
    TILE: int
    CHUNK: int
    num_warps: int
    num_stages: int

    @classmethod
    def of(cls, dim: int, dtype: torch.dtype) -> Tiles:
        """The tiles for states of that width, 1 … `MAX_DIM`, in bfloat16 or float32."""
        wide = max(16, triton.next_power_of_2(dim))
        if dtype == torch.bfloat16:
            return cls(dim, wide, 128, 64, wide, 8, 3) if wide <= 128 else cls(dim, wide, 64, 64, wide, 8, 2)
        return cls(dim, wide, 64, 32, 16, 8, 1)

    def cut(self, owned: int, met: int) -> tuple[tuple[int, int], int]:
        """The grid of programs, and how many rows of the other side each of them meets.

        >>> Tiles.of(64, torch.float32).cut(64 * 200, 64 * 7 + 1)
        ((200, 2), 256)
        """
        blocks, tiles = triton.cdiv(owned, self.OWN), triton.cdiv(met, self.TILE)
        span = triton.cdiv(tiles, max(1, min(tiles, _PROGRAMS // blocks)))
        return (blocks, triton.cdiv(tiles, span)), span * self.TILE


def weighted_cross_entropy(
    hidden_ND: Tensor,
    vectors_VD: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    label_smoothing: float = 0.0,
    bfloat16: bool = False,
) -> Tensor:
    """The weighted sum of cross-entropies over the catalogue; a scalar, float32.

    Args:
        hidden_ND: float (N, D), D at most `MAX_DIM`.
        vectors_VD: float (V, D).
        target_N: int64 (N,), in [0, V).
        weight_N: float (N,), weight of each position; it gets no gradient.
        label_smoothing: share of the target's mass spread evenly over the catalogue, in [0, 1).
        bfloat16: round states, vectors and score gradients to it; else float32.
    """
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    total: Tensor = _CrossEntropy.apply(
        hidden_ND, vectors_VD, target_N, weight_N.detach().float(), label_smoothing, dtype
    )
    return total


class _CrossEntropy(torch.autograd.Function):
    """Σ weight · (log Σ exp(scores) − scores · aim), aim = (1 − smoothing) · next item + smoothing / V.

    The gradient by a score is weight · (its probability − its part of the aim).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        vectors: Tensor,
        target: Tensor,
        weight: Tensor,
        smoothing: float,
        dtype: torch.dtype,
    ) -> Tensor:
        states, items = hidden.detach().to(dtype).contiguous(), vectors.detach().to(dtype).contiguous()
        log_mass = _log_mass(states, items)
        ctx.save_for_backward(states, items, target.contiguous(), weight, log_mass)
        ctx.parts = 1 - smoothing, smoothing / len(items)
        aimed = (states.float() * items[target].float()).sum(1) * (1 - smoothing)
        if smoothing:
            aimed += states.float() @ items.mean(0, dtype=torch.float32) * smoothing
        return ((log_mass - aimed) * weight).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        states, items, target, weight, log_mass = ctx.saved_tensors
        known = target, weight * grad_total, log_mass
        wants_states, wants_items = ctx.needs_input_grad[:2]
        grad_states = _gradient(_grad_states, states, items, known, ctx.parts) if wants_states else None
        grad_items = _gradient(_grad_items, items, states, known, ctx.parts) if wants_items else None
        return grad_states, grad_items, None, None, None, None


def _log_mass(states: Tensor, items: Tensor) -> Tensor:
    """Log Σ exp(scores) over the catalogue; float32 (N,)."""
    tiles = Tiles.of(states.shape[1], states.dtype)
    grid, span = tiles.cut(len(states), len(items))
    part = states.new_empty((grid[1], len(states)), dtype=torch.float32)
    with torch.cuda.device_of(states):
        _mass[grid](states, items, part, len(states), len(items), span, **asdict(tiles))
    return part.logsumexp(0)


def _gradient(
    kernel: Any, owned: Tensor, met: Tensor, known: tuple[Tensor, ...], parts: tuple[float, float]
) -> Tensor:
    """The gradient of states or of item vectors, whichever are `owned`; float32, of their shape."""
    tiles = Tiles.of(owned.shape[1], owned.dtype)
    grid, span = tiles.cut(len(owned), len(met))
    part = owned.new_empty((grid[1], *owned.shape), dtype=torch.float32)
    with torch.cuda.device_of(owned):
        kernel[grid](owned, met, *known, part, len(owned), len(met), span, *parts, **asdict(tiles))
    return part[0] if len(part) == 1 else part.sum(0)


@triton.jit
def _block(matrix, first, count, start, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """(ROWS, COLUMNS) of a matrix (count, D) from row `first` and column `start`; zeros outside it."""
    row, column = tl.arange(0, ROWS)[:, None], start + tl.arange(0, COLUMNS)[None, :]
    corner = matrix + tl.cast(first, tl.int64) * D  # row by row this passes 32 bits
    return tl.load(corner + row * D + column, mask=(row < count - first) & (column < D), other=0.0)


@triton.jit
def _scores(
    owned, o, num_owned, met, t, num_met,
    D: tl.constexpr, WIDE: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Inner products of the rows from `o` with those from `t`; float32 (OWN, TILE)."""
    scores_OT = tl.zeros((OWN, TILE), tl.float32)
    if CHUNK == WIDE:
        left, right = _block(owned, o, num_owned, 0, D, OWN, WIDE), _block(met, t, num_met, 0, D, TILE, WIDE)
        scores_OT = tl.dot(left, tl.trans(right), scores_OT, input_precision="ieee")
    else:
        for start in range(0, WIDE, CHUNK):
            left = _block(owned, o, num_owned, start, D, OWN, CHUNK)
            right = _block(met, t, num_met, start, D, TILE, CHUNK)
            scores_OT = tl.dot(left, tl.trans(right), scores_OT, input_precision="ieee")
    return scores_OT


@triton.jit
def _store_sums(out, sums, o, num_owned, D: tl.constexpr, WIDE: tl.constexpr, OWN: tl.constexpr):
    """Write a program's sums, (OWN, WIDE), to its part of out, (parts, num_owned, D)."""
    row, column = tl.arange(0, OWN)[:, None], tl.arange(0, WIDE)[None, :]
    corner = out + (tl.program_id(1).to(tl.int64) * num_owned + o) * D
    tl.store(corner + row * D + column, sums, mask=(row < num_owned - o) & (column < D))


@triton.jit(do_not_specialize=["num_owned", "num_met", "span"])
def _mass(
    states, items, out, num_owned, num_met, span,
    D: tl.constexpr, WIDE: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Log Σ exp(scores) of OWN states over a part of the catalogue; out is (parts, N)."""
    n, first = tl.program_id(0) * OWN, tl.program_id(1) * span
    best_O, mass_O = tl.full((OWN,), float("-inf"), tl.float32), tl.zeros((OWN,), tl.float32)
    for v in range(first, min(first + span, num_met), TILE):
        scores_OT = _scores(states, n, num_owned, items, v, num_met, D, WIDE, OWN, TILE, CHUNK)
        there_T = tl.arange(0, TILE) < num_met - v
        scores_OT = tl.where(there_T[None, :], scores_OT, float("-inf"))
        before_O, best_O = best_O, tl.maximum(best_O, tl.max(scores_OT, 1))
        mass_O = mass_O * tl.exp(before_O - best_O) + tl.sum(tl.exp(scores_OT - best_O[:, None]), 1)
    row_O = tl.arange(0, OWN)
    corner = out + tl.program_id(1).to(tl.int64) * num_owned + n
    tl.store(corner + row_O, best_O + tl.log(mass_O), mask=row_O < num_owned - n)


@triton.jit(do_not_specialize=["num_owned", "num_met", "span"])
def _grad_states(
    states, items, target, weight, log_mass, out, num_owned, num_met, span, hard, even,
    D: tl.constexpr, WIDE: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The gradient of OWN states from a part of the catalogue; out is (parts, N, D)."""
    n, first = tl.program_id(0) * OWN, tl.program_id(1) * span
    row_O = n + tl.arange(0, OWN)
    log_mass_O = tl.load(log_mass + row_O, mask=row_O < num_owned, other=0.0)
    target_O = tl.load(target + row_O, mask=row_O < num_owned, other=-1).to(tl.int32)
    sums = tl.zeros((OWN, WIDE), tl.float32)
    for v in range(first, min(first + span, num_met), TILE):
        scores_OT = _scores(states, n, num_owned, items, v, num_met, D, WIDE, OWN, TILE, CHUNK)
        item_T = v + tl.arange(0, TILE)
        aim_OT = tl.where(item_T[None, :] == target_O[:, None], hard + even, even)
        slope_OT = tl.exp(scores_OT - log_mass_O[:, None]) - aim_OT
        slope_OT = tl.where((item_T < num_met)[None, :], slope_OT, 0.0)  # beyond the last it may be infinite
        right = _block(items, v, num_met, 0, D, TILE, WIDE)
        sums = tl.dot(slope_OT.to(right.dtype), right, sums, input_precision="ieee")
    sums *= tl.load(weight + row_O, mask=row_O < num_owned, other=0.0)[:, None]
    _store_sums(out, sums, n, num_owned, D, WIDE, OWN)


@triton.jit(do_not_specialize=["num_owned", "num_met", "span"])
def _grad_items(
    items, states, target, weight, log_mass, out, num_owned, num_met, span, hard, even,
    D: tl.constexpr, WIDE: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The gradient of OWN item vectors from a part of the positions; out is (parts, V, D)."""
    v, first = tl.program_id(0) * OWN, tl.program_id(1) * span
    item_O = v + tl.arange(0, OWN)
    sums = tl.zeros((OWN, WIDE), tl.float32)
    for n in range(first, min(first + span, num_met), TILE):
        scores_OT = _scores(items, v, num_owned, states, n, num_met, D, WIDE, OWN, TILE, CHUNK)
        row_T = n + tl.arange(0, TILE)
        log_mass_T = tl.load(log_mass + row_T, mask=row_T < num_met, other=0.0)
        target_T = tl.load(target + row_T, mask=row_T < num_met, other=-1).to(tl.int32)
        weight_T = tl.load(weight + row_T, mask=row_T < num_met, other=0.0)
        aim_OT = tl.where(item_O[:, None] == target_T[None, :], hard + even, even)
        slope_OT = (tl.exp(scores_OT - log_mass_T[None, :]) - aim_OT) * weight_T[None, :]
        right = _block(states, n, num_met, 0, D, TILE, WIDE)
        sums = tl.dot(slope_OT.to(right.dtype), right, sums, input_precision="ieee")
    _store_sums(out, sums, v, num_owned, D, WIDE, OWN)
