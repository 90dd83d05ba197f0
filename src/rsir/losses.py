"""Training losses. All take states, item vectors and targets, and give one scalar.

Shapes: `hidden_ND` the state at each trained position, `vectors_VD` the item vectors,
`target_N` the item that came next, `weight_N` the weight of the position. Every loss is the
weighted sum over positions divided by `normaliser`, so that a batch can be cut up without
changing its gradient.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from rsir.devices import resolve_precision
from rsir.settings import Settings

_TILE_BYTES = {"cpu": 8 << 20, "cuda": 512 << 20}


class LossConfig(Settings):
    """Which loss, and how its negatives are drawn."""

    loss: Literal["softmax", "sampled_softmax", "bce", "gbce"] = Field(
        "softmax", description="softmax: the whole catalogue; the others draw negatives"
    )
    num_negatives: int = Field(256, ge=1, description="negatives drawn by the sampled losses")
    negatives: Literal["shared", "per_position"] = Field(
        "shared", description="one draw for the whole batch, or one for each position"
    )
    log_q: bool = Field(False, description="logQ correction: draw by popularity and correct for it")
    calibration: float = Field(0.75, ge=0, le=1, description="calibration t of gBCE")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the full softmax")
    score_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the full softmax's products; auto: bfloat16 where the device has it"
    )


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
    that nothing is kept for or recomputed in the backward pass. On CUDA, where Triton can be had, fused
    kernels (`rsir.fused_softmax`) write no score at all and make them anew for the gradients; what a
    teacher believes goes through the tiles.

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


@cache
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


class _TiledSoftmax(torch.autograd.Function):
    """Weighted sum of cross-entropies; gradients are made in the forward pass.

    The gradient by a position's scores is weight · (p − hard · next item − even / V − soft · belief), p its
    softmax. Of this only p − soft · belief is ever a matrix; the rest, known in closed form, and the weights
    are applied to states and gradients of width D. A tile of scores is passed over by three products and
    one softmax, and by nothing else where there is no teacher.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden: Tensor, vectors: Tensor, goal: _Goal
    ) -> Tensor:
        states, items = hidden.detach().to(goal.dtype), vectors.detach().to(goal.dtype)
        weighted, items_DV = states * goal.weight_N[:, None].to(goal.dtype), items.T.contiguous()
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32)
        grad_vectors = torch.zeros_like(vectors, dtype=torch.float32)
        log_mass = torch.empty_like(goal.weight_N)
        believed = torch.zeros_like(goal.weight_N)
        tile = max(16, _TILE_BYTES[hidden.device.type] // (4 * len(items)))
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
        exact = hidden.detach().float(), vectors.detach().float()
        known = _settle(*exact, goal, grad_hidden, grad_vectors)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_vectors.to(vectors.dtype))
        return ((log_mass - known - goal.soft_N * believed) * goal.weight_N).sum()

    @staticmethod
    def backward(ctx, grad_total: Tensor):  # type: ignore[no-untyped-def]
        grad_hidden, grad_vectors = ctx.saved_tensors
        return grad_hidden * grad_total, grad_vectors * grad_total, None


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


def sampled_softmax_loss(
    hidden_ND: Tensor,
    vectors_VD: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    normaliser: Tensor | float,
    negatives: Tensor,
    *,
    log_q: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the target among sampled items (Jean et al., ACL 2015).

    Args:
        hidden_ND: float (N, D).
        vectors_VD: float (V, D).
        target_N: int64 (N,).
        weight_N: float (N,).
        normaliser: what the weighted sum is divided by.
        negatives: int64 (M,) shared by the batch, or (N, M) drawn for each position. A negative
            that equals its position's target is left out.
        log_q: float (V,), the log expected count of each item among the negatives; subtracted from the
            scores of negatives and targets (logQ correction; Yi et al., RecSys 2019).
    """
    positive = (hidden_ND * vectors_VD[target_N]).sum(-1, keepdim=True)
    negative = _negative_scores(hidden_ND, vectors_VD, negatives)
    if log_q is not None:
        positive = positive - log_q[target_N, None]
        negative = negative - log_q[negatives]
    negative = negative.masked_fill(negatives == target_N[:, None], -math.inf)
    scores = torch.cat([positive, negative], 1).float()
    return ((torch.logsumexp(scores, 1) - scores[:, 0]) * weight_N).sum() / normaliser


def bce_loss(
    hidden_ND: Tensor,
    vectors_VD: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    normaliser: Tensor | float,
    negatives: Tensor,
    *,
    beta: float = 1.0,
) -> Tensor:
    """Binary cross-entropy of the target against sampled negatives.

    `beta` = 1 is SASRec's loss (Kang & McAuley, ICDM 2018; one negative a position, here the mean over
    however many there are). A smaller `beta` raises the positive's probability to that power:
    gBCE (Petrov & Macdonald, RecSys 2023), which undoes the overconfidence of few negatives; see `gbce_beta`.
    """
    positive = (hidden_ND * vectors_VD[target_N]).sum(-1).float()
    negative = _negative_scores(hidden_ND, vectors_VD, negatives).float()
    kept = (negatives != target_N[:, None]).float()
    against = (F.softplus(negative) * kept).sum(1)
    if beta == 1.0:
        against = against / kept.sum(1).clamp(min=1)
    return ((beta * F.softplus(-positive) + against) * weight_N).sum() / normaliser


def gbce_beta(num_negatives: int, num_items: int, calibration: float) -> float:
    """The power of gBCE for a calibration t in [0, 1] (Petrov & Macdonald 2023, eq. 17).

    t = 0 is plain BCE, t = 1 makes the expected positive probability calibrated.

    >>> gbce_beta(256, 12101, 0.0)
    1.0
    """
    rate = num_negatives / max(1, num_items - 1)
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def _negative_scores(hidden_ND: Tensor, vectors_VD: Tensor, negatives: Tensor) -> Tensor:
    """Scores of negatives; (N, M)."""
    if negatives.dim() == 1:
        return hidden_ND @ vectors_VD[negatives].T
    return torch.einsum("nd,nmd->nm", hidden_ND, vectors_VD[negatives])


class Objective:
    """The configured loss over one batch, negatives included."""

    def __init__(self, config: LossConfig, item_counts: Tensor, device: torch.device | str) -> None:
        self.config, self.num_items = config, len(item_counts)
        self.bfloat16 = resolve_precision(config.score_precision, device) == "bfloat16"
        self.popularity = item_counts.float().clamp(min=1).to(device) if config.log_q else None

    def __call__(
        self,
        hidden: Tensor,
        vectors: Tensor,
        target: Tensor,
        weight: Tensor,
        normaliser: float,
        soft: SoftTargets | None = None,
    ) -> Tensor:
        """The loss of one batch; a scalar. Soft targets are for the full softmax alone."""
        config, args = self.config, (hidden, vectors, target, weight, normaliser)
        if config.loss == "softmax":
            smoothing = config.label_smoothing
            return softmax_loss(*args, label_smoothing=smoothing, bfloat16=self.bfloat16, soft=soft)
        negatives = self._draw(hidden.shape[0], hidden.device)
        if config.loss == "sampled_softmax":
            log_q = None if self.popularity is None else self.popularity.log()
            return sampled_softmax_loss(*args, negatives, log_q=log_q)
        beta = 1.0
        if config.loss == "gbce":
            beta = gbce_beta(config.num_negatives, self.num_items, config.calibration)
        return bce_loss(*args, negatives, beta=beta)

    def _draw(self, positions: int, device: torch.device) -> Tensor:
        """Negatives: uniform over the catalogue, or by popularity where logQ corrects for it."""
        count = self.config.num_negatives
        shape = (count,) if self.config.negatives == "shared" else (positions, count)
        if self.popularity is None:
            return torch.randint(self.num_items, shape, device=device)
        total = count if len(shape) == 1 else positions * count
        return torch.multinomial(self.popularity, total, replacement=True).view(shape)
