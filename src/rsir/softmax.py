"""The softmax over the whole catalogue, which never holds positions × items.

PyTorch's operations visit tiles of positions and take the gradient in the same visit; over a large catalogue
tiles of items, twice. On CUDA fused kernels (`rsir.fused_softmax`) take their place. Shapes: see
`rsir.losses`.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_TILE_BYTES = {"cpu": 8 << 20, "cuda": 512 << 20}
_FEWEST, _SMALLER = 24, 8
"""Positions of a tile over the whole catalogue; where fewer would fit, tiles are of items, and so many times
smaller: they are passed over more often, and should stay in a faster cache."""


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's distribution over the catalogue, which takes a share of each target.

    The target of a position is (1 − share) · its next item + share · softmax(teacher's scores), as in
    knowledge distillation (Hinton et al., 2015, arXiv 1503.02531, at temperature 1).

    Attributes:
        hidden_NF: float (N, F), the teacher's states at the same positions.
        vectors_VF: float (V, F), the teacher's item vectors.
        share_N: float (N,), in [0, 1].
    """

    hidden_NF: Tensor
    vectors_VF: Tensor
    share_N: Tensor


def softmax_loss(
    hidden_ND: Tensor,
    vectors_VD: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    normaliser: Tensor | float,
    *,
    label_smoothing: float = 0.0,
    bfloat16: bool = False,
    soft: SoftTargets | None = None,
) -> Tensor:
    """Cross-entropy over the whole catalogue, never holding N × V numbers.

    The scores are made tile by tile of positions and their gradient is taken in the same visit, so
    that nothing is kept for or recomputed in the backward pass. Where only a few positions of a large
    catalogue would fit in a tile, it is one of items, and visited twice: for the denominator and for the
    gradients. On CUDA, where Triton can be had, fused kernels (`rsir.fused_softmax`) write no score at all
    and make them anew for the gradients; what a teacher believes goes through the tiles.

    Args:
        hidden_ND: float (N, D).
        vectors_VD: float (V, D).
        target_N: int64 (N,), in [0, V).
        weight_N: float (N,), weight of each position.
        normaliser: what the weighted sum is divided by.
        label_smoothing: share of the target's mass spread evenly over the catalogue, in [0, 1).
        bfloat16: multiply in bfloat16 (states, vectors and score gradients are rounded to it;
            the softmax itself stays in float32).
        soft: what a teacher believes; no gradient reaches it.

    Returns:
        A scalar, float32.
    """
    problem, how = (hidden_ND, vectors_VD, target_N, weight_N), (label_smoothing, bfloat16)
    fused = _fused(hidden_ND.device, hidden_ND.shape[1], bfloat16) if soft is None else None
    total = _tiled(*problem, *how, soft) if fused is None else fused.weighted_cross_entropy(*problem, *how)
    return total / normaliser


def _tiled(
    hidden: Tensor,
    vectors: Tensor,
    target: Tensor,
    weight: Tensor,
    smoothing: float,
    bfloat16: bool,
    soft: SoftTargets | None = None,
) -> Tensor:
    """The weighted sum of cross-entropies by PyTorch's operations; the oracle of the fused kernels."""
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    goal = _Goal.of(target, weight.float(), smoothing, soft, dtype)
    total: Tensor = _TiledSoftmax.apply(hidden, vectors, goal)
    return total


@functools.cache
def _fused(device: torch.device, dim: int, bfloat16: bool) -> ModuleType | None:
    """The fused kernels, where Triton and a GPU since Ampere run them and they agree with the tiles.

    Triton builds its launcher with the machine's C compiler at the first call, and a kernel that is new to a
    GPU or a compiler is better not believed: so each process tries them once on a small problem.
    """
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        import_module("triton")
    except ImportError:
        return None
    fused = import_module("rsir.fused_softmax")
    return fused if dim <= fused.MAX_DIM and _agrees(fused, device, dim, bfloat16) else None


def _agrees(fused: Any, device: torch.device, dim: int, bfloat16: bool) -> bool:
    """Whether fused kernels give loss and gradients of a small problem as the tiles do; a warning if not.

    The problem is exact in bfloat16, so that only gradients by scores are rounded: by 0.4 percent at most.
    """
    generator = torch.Generator().manual_seed(0)
    states, items = torch.randn(300, dim, generator=generator), torch.randn(700, dim, generator=generator)
    numbers = states.bfloat16() / dim**0.5, items.bfloat16(), torch.rand(300, generator=generator)
    hidden, vectors, weight = (x.float().to(device) for x in numbers)
    inputs = hidden.requires_grad_(), vectors.requires_grad_()
    target = torch.arange(300, device=device) * 3 % 700
    try:
        with torch.enable_grad():
            loss = fused.weighted_cross_entropy(hidden, vectors, target, weight, 0.1, bfloat16)
            losses = loss, _tiled(hidden, vectors, target, weight, 0.1, False)
        ours, known = ((loss.detach(), *torch.autograd.grad(loss, inputs)) for loss in losses)
        found = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, known, strict=True))
        trouble = None if found < 0.01 else f"they are off by {100 * found:.2g} percent"
    except Exception as error:  # whatever a compiler or a driver may say
        trouble = f"they do not run ({type(error).__name__}: {error})"
    if trouble is not None:
        warnings.warn(
            f"the fused softmax kernels are not used, since {trouble}; PyTorch's operations take their place",
            stacklevel=2,
        )
    return trouble is None


@dataclass(frozen=True)
class _Goal:
    """What each position should predict: three parts that sum to 1, and how much the position weighs.

    Attributes:
        target: int64 (N,), its next item.
        weight_N: float32 (N,).
        soft_N: float32 (N,), the part that follows the teacher's belief.
        smoothing: of the rest, what is spread evenly over the catalogue; what is left is the next item's.
        teacher: its states (N, F) and item vectors (F, V); None if there is none.
        dtype: of all products.
    """

    target: Tensor
    weight_N: Tensor
    soft_N: Tensor
    smoothing: float
    teacher: tuple[Tensor, Tensor] | None
    dtype: torch.dtype

    @classmethod
    def of(
        cls, target: Tensor, weight: Tensor, smoothing: float, soft: SoftTargets | None, dtype: torch.dtype
    ) -> _Goal:
        share = torch.zeros_like(weight) if soft is None else soft.share_N.float()
        teacher = None
        if soft is not None:
            teacher = soft.hidden_NF.detach().to(dtype), soft.vectors_VF.detach().to(dtype).T.contiguous()
        return cls(target, weight, share, smoothing, teacher, dtype)

    def belief(self, part: slice) -> Tensor | None:
        """The teacher's probabilities; (tile, V)."""
        if self.teacher is None:
            return None
        states, items_FV = self.teacher
        scores = states[part] @ items_FV
        return torch.softmax(scores, 1, out=scores)

    def beliefs(self, size: int) -> _Likely | None:
        """The teacher's probabilities, so many items at a time."""
        if self.teacher is None:
            return None
        states, items_FV = self.teacher
        return _Likely(states, items_FV.T, size)


class _TiledSoftmax(torch.autograd.Function):
    """Weighted sum of cross-entropies; gradients are made in the forward pass.

    The gradient by a position's scores is weight · (p − hard · next item − even / V − soft · belief), p its
    softmax. Of this only p − soft · belief is ever a matrix; the rest, known in closed form, and the weights
    are applied to states and gradients of width D.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden: Tensor, vectors: Tensor, goal: _Goal
    ) -> Tensor:
        states, items = hidden.detach().to(goal.dtype), vectors.detach().to(goal.dtype)
        numbers = _TILE_BYTES[hidden.device.type] // 4
        if numbers // len(items) >= min(_FEWEST, len(states)):
            visited = _by_positions(states, items, goal, max(1, numbers // len(items)))
        else:
            visited = _by_items(states, items, goal, max(16, numbers // (_SMALLER * max(1, len(states)))))
        log_mass, believed, grad_hidden, grad_vectors = visited
        exact = hidden.detach().float(), vectors.detach().float()
        known = _settle(*exact, goal, grad_hidden, grad_vectors)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_vectors.to(vectors.dtype))
        return ((log_mass - known - goal.soft_N * believed) * goal.weight_N).sum()

    @staticmethod
    def backward(ctx, grad_total: Tensor):  # type: ignore[no-untyped-def]
        grad_hidden, grad_vectors = ctx.saved_tensors
        return grad_hidden * grad_total, grad_vectors * grad_total, None


_Visited = tuple[Tensor, Tensor, Tensor, Tensor]
"""Log of the softmax's denominator (N,), the mean score under the teacher's belief (N,), and products of
p − soft · belief with item vectors (N, D) and with weighted states (V, D); all float32."""


def _by_positions(states: Tensor, items: Tensor, goal: _Goal, tile: int) -> _Visited:
    """`tile` positions at a time: three products, one softmax, and nothing else where there is no teacher."""
    weighted, items_DV = states * goal.weight_N[:, None].to(goal.dtype), items.T.contiguous()
    grad_hidden = torch.empty_like(states, dtype=torch.float32)
    grad_vectors = torch.zeros_like(items, dtype=torch.float32)
    log_mass = torch.empty_like(goal.weight_N)
    believed = torch.zeros_like(goal.weight_N)
    buffer = states.new_empty(min(tile, len(states)), len(items))
    for start in range(0, len(states), tile):
        part = slice(start, start + tile)
        scores = torch.mm(states[part], items_DV, out=buffer[: len(states[part])])
        at_target, belief = scores.gather(1, goal.target[part, None]).float(), goal.belief(part)
        if belief is not None:
            believed[part] = torch.einsum("nv,nv->n", belief, scores).float()
        likely = torch.softmax(scores, 1, out=scores)
        log_mass[part] = _log_mass(at_target, likely.gather(1, goal.target[part, None]))
        if belief is not None:
            likely.addcmul_(belief, goal.soft_N[part, None].to(goal.dtype), value=-1)
        grad_hidden[part] = likely @ items
        _add_product(grad_vectors, likely.T, weighted[part])
    return log_mass, believed, grad_hidden, grad_vectors


def _by_items(states: Tensor, items: Tensor, goal: _Goal, tile: int) -> _Visited:
    """`tile` items at a time, twice: once for the denominators, once for the gradients.

    A product more than `_by_positions`, but nothing of the size of the catalogue is added to again and again.
    """
    weighted = states * goal.weight_N[:, None].to(goal.dtype)
    likely_of, beliefs = _Likely(states, items, tile), goal.beliefs(tile)
    grad_hidden = torch.zeros_like(states, dtype=torch.float32)
    grad_vectors = torch.empty_like(items, dtype=torch.float32)
    believed = torch.zeros_like(goal.weight_N)
    for start in range(0, len(items), tile):
        part = slice(start, start + tile)
        scores, likely = likely_of(part)
        if beliefs is not None:
            _, belief = beliefs(part)
            believed += torch.einsum("nv,nv->n", belief, scores).float()
            likely.addcmul_(belief, goal.soft_N[:, None].to(goal.dtype), value=-1)
        _add_product(grad_hidden, likely, items[part])
        grad_vectors[part] = likely.T @ weighted
    return likely_of.log_mass, believed, grad_hidden, grad_vectors


class _Likely:
    """The softmax over the catalogue, some items at a time.

    Attributes:
        log_mass: float32 (N,), the log of its denominator.
    """

    def __init__(self, states: Tensor, items: Tensor, tile: int) -> None:
        self._states, self._items = states, items
        parts = (torch.logsumexp((states @ part.T).float(), 1) for part in items.split(tile))
        self.log_mass = functools.reduce(torch.logaddexp, parts)

    def __call__(self, part: slice) -> tuple[Tensor, Tensor]:
        """Scores of some items and their probabilities; (N, tile) each."""
        scores = self._states @ self._items[part].T
        return scores, (scores.float() - self.log_mass[:, None]).exp_().to(scores.dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to a float32 total, without a temporary where that is their type."""
    if left.dtype == torch.float32:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _log_mass(score: Tensor, likely: Tensor) -> Tensor:
    """The log of the softmax's denominator from one item's score and probability, both (n, 1); float32 (n,).

    A probability too small for float32 counts as the smallest: the loss is then too low, its gradient is not.
    """
    return (score - likely.float().clamp(min=torch.finfo(torch.float32).tiny).log())[:, 0]


def _settle(
    hidden: Tensor, vectors: Tensor, goal: _Goal, grad_hidden: Tensor, grad_vectors: Tensor
) -> Tensor:
    """Take the next item's and the even part of the target off the gradients, and weigh those of states.

    Returns:
        float32 (N,), the mean score under those two parts.
    """
    rest, weight = (1 - goal.soft_N)[:, None], goal.weight_N[:, None]
    hard, even = rest * (1 - goal.smoothing), rest * goal.smoothing
    aim_ND = hard * vectors[goal.target]
    grad_vectors.index_add_(0, goal.target, hidden * weight * hard, alpha=-1)
    if goal.smoothing:
        aim_ND += even * vectors.mean(0)
        grad_vectors.sub_((hidden * weight * even).sum(0) / len(vectors))
    grad_hidden.sub_(aim_ND).mul_(weight)
    return (hidden * aim_ND).sum(1)
