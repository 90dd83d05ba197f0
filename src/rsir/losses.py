"""Training losses. All take states, item vectors and targets, and give one scalar.

Shapes: `hidden_ND` the state at each trained position, `vectors_VD` the item vectors,
`target_N` the item that came next, `weight_N` the weight of the position. Every loss is the
weighted sum over positions divided by `normaliser`, so that a batch can be cut up without
changing its gradient.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from rsir.devices import resolve_precision
from rsir.settings import Settings
from rsir.softmax import SoftTargets, softmax_loss


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


def sampled_softmax_loss(
    hidden_ND: Tensor,
    vectors_VD: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    normaliser: Tensor | float,
    negatives: Tensor,
    *,
    log_q: Tensor | None = None,
    sparse: bool = False,
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
        sparse: give the item vectors, which must be a leaf, a sparse gradient.
    """
    positive = (hidden_ND * _rows(vectors_VD, target_N, sparse)).sum(-1, keepdim=True)
    negative = _negative_scores(hidden_ND, vectors_VD, negatives, sparse)
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
    sparse: bool = False,
) -> Tensor:
    """Binary cross-entropy of the target against sampled negatives.

    `beta` = 1 is SASRec's loss (Kang & McAuley, ICDM 2018; one negative a position, here the mean over
    however many there are). A smaller `beta` raises the positive's probability to that power:
    gBCE (Petrov & Macdonald, RecSys 2023), which undoes the overconfidence of few negatives; see `gbce_beta`.
    """
    positive = (hidden_ND * _rows(vectors_VD, target_N, sparse)).sum(-1).float()
    negative = _negative_scores(hidden_ND, vectors_VD, negatives, sparse).float()
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


def _negative_scores(hidden_ND: Tensor, vectors_VD: Tensor, negatives: Tensor, sparse: bool) -> Tensor:
    """Scores of negatives; (N, M)."""
    rows = _rows(vectors_VD, negatives, sparse)
    return hidden_ND @ rows.T if negatives.dim() == 1 else torch.einsum("nd,nmd->nm", hidden_ND, rows)


def _rows(vectors_VD: Tensor, index: Tensor, sparse: bool) -> Tensor:
    """The vectors of some items; (…, D)."""
    return F.embedding(index, vectors_VD, sparse=True) if sparse else vectors_VD[index]


class Objective:
    """The configured loss over one batch, negatives included.

    Args:
        config: which loss.
        item_counts: int64 (V,), training events of each item.
        device: where it is computed.
        sparse: give the item vectors a sparse gradient; of sampled losses alone.
    """

    def __init__(
        self, config: LossConfig, item_counts: Tensor, device: torch.device | str, sparse: bool = False
    ) -> None:
        self.config, self.num_items, self.sparse = config, len(item_counts), sparse
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
            return sampled_softmax_loss(*args, negatives, log_q=log_q, sparse=self.sparse)
        beta = 1.0
        if config.loss == "gbce":
            beta = gbce_beta(config.num_negatives, self.num_items, config.calibration)
        return bce_loss(*args, negatives, beta=beta, sparse=self.sparse)

    def _draw(self, positions: int, device: torch.device) -> Tensor:
        """Negatives: uniform over the catalogue, or by popularity where logQ corrects for it."""
        count = self.config.num_negatives
        shape = (count,) if self.config.negatives == "shared" else (positions, count)
        if self.popularity is None:
            return torch.randint(self.num_items, shape, device=device)
        total = count if len(shape) == 1 else positions * count
        return torch.multinomial(self.popularity, total, replacement=True).view(shape)
