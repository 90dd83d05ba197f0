"""Training losses. All take states, item vectors and targets, and give one scalar.

Shapes: `hidden_ND` the state at each trained position, `vectors_VD` the item vectors,
`target_N` the item that came next, `weight_N` the weight of the position. Every loss is the
weighted sum over positions divided by `normaliser`, so that a batch can be cut up without
changing its gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_TILE_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}


def softmax_loss(
    hidden_ND: Tensor,
    vectors_VD: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    normaliser: Tensor | float,
    *,
    label_smoothing: float = 0.0,
    bfloat16: bool = False,
) -> Tensor:
    """Cross-entropy over the whole catalogue, never holding N × V numbers.

    The scores are made tile by tile of positions; their gradient is taken in the same visit,
    while a tile is warm in cache, so nothing is kept for or recomputed in the backward pass.

    Args:
        hidden_ND: float (N, D).
        vectors_VD: float (V, D).
        target_N: int64 (N,), in [0, V).
        weight_N: float (N,), weight of each position.
        normaliser: what the weighted sum is divided by.
        label_smoothing: share of the target's mass spread evenly over the catalogue, in [0, 1).
        bfloat16: multiply in bfloat16 (states, vectors and score gradients are rounded to it;
            the softmax itself stays in float32).

    Returns:
        A scalar, float32.
    """
    total: Tensor = _TiledSoftmax.apply(hidden_ND, vectors_VD, target_N, weight_N, label_smoothing, bfloat16)
    return total / normaliser


class _TiledSoftmax(torch.autograd.Function):
    """Weighted sum of cross-entropies; gradients are made in the forward pass."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Tensor,
        vectors: Tensor,
        target: Tensor,
        weight: Tensor,
        smoothing: float,
        bfloat16: bool,
    ) -> Tensor:
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        hidden_low, vectors_low = hidden.detach().to(dtype), vectors.detach().to(dtype)
        num_items = vectors.shape[0]
        tile = max(16, _TILE_BYTES[hidden.device.type] // (4 * num_items))
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32)
        grad_vectors = torch.zeros_like(vectors, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        places = torch.arange(tile, device=hidden.device)
        for start in range(0, hidden.shape[0], tile):
            part = slice(start, start + tile)
            targets, weights = target[part, None], weight[part, None].float()
            scores = hidden_low[part] @ vectors_low.T
            fit = scores.gather(1, targets).float() * (1 - smoothing)
            if smoothing:
                fit += smoothing * scores.mean(1, keepdim=True, dtype=torch.float32)
            top = scores.amax(1, keepdim=True)
            grad = scores.sub_(top).exp_()
            mass = grad.sum(1, keepdim=True).float()  # summed in float32, whatever the type
            total += ((top.float() + mass.log() - fit) * weights).sum()
            grad.mul_((weights / mass).to(dtype))  # weighted probabilities
            if smoothing:
                grad.sub_((weights * (smoothing / num_items)).to(dtype))
            at_target = (places[: len(targets)], targets[:, 0])
            grad.index_put_(at_target, (weights[:, 0] * (smoothing - 1)).to(dtype), accumulate=True)
            grad_hidden[part] = grad @ vectors_low
            grad_vectors += grad.T @ hidden_low[part]
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_vectors.to(vectors.dtype))
        return total

    @staticmethod
    def backward(ctx, grad_total: Tensor):  # type: ignore[no-untyped-def]
        grad_hidden, grad_vectors = ctx.saved_tensors
        return grad_hidden * grad_total, grad_vectors * grad_total, None, None, None, None


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
