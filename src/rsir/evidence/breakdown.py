"""Error recursion and breakdown point of RSIR §4 (arXiv 2602.15659), measured on simulated users.

    E(θ_{k+1}) ≤ (1 − λ) E_0 + λ [ (1 − p̃_k) ρ E(θ_k) + p̃_k E_max ],        ρ < 1,

with E the error, λ the weight of synthetic data, p̃ the leakage (share of admitted data off the true
preferences) and ρ the contraction on what does not leak. Past the leakage

    p̃* = (1 − ρ) E_0 / (E_max − ρ E_k)

a round makes the model worse than the base. Where users are simulated the law of the next item is known, so E
can be measured: here it is the total variation between the model's distribution and the true law, mean over
validation cases, with E_max = 1. ρ is what makes the recursion hold with equality in a round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rsir.data.interactions import Interactions
from rsir.data.splits import Cases
from rsir.data.truth import Truth
from rsir.models.base import Recommender
from rsir.ragged import Ragged

E_MAX = 1.0
"""The largest total variation of two distributions."""


def contraction(
    after: float, error: float, base: float, leakage: float, weight: float, worst: float = E_MAX
) -> float:
    """ρ that takes `error` to `after` in one round; NaN if nothing contracts (λ = 0, p̃ = 1 or no error).

    Negative, or above 1, where the recursion does not describe what happened.

    >>> round(contraction(0.4664, 0.4, 0.5, 0.1, 0.3), 12)
    0.8
    """
    share = weight * (1 - leakage) * error
    if share <= 0:
        return float("nan")
    return (after - (1 - weight) * base - weight * leakage * worst) / share


def breakdown_point(base: float, error: float, rho: float, worst: float = E_MAX) -> float:
    """p̃* predicted: the leakage past which recursion diverges; NaN if ρ E_k reaches E_max.

    >>> round(breakdown_point(base=0.5, error=0.5, rho=0.8), 4)
    0.1667
    """
    left = worst - rho * error
    return (1 - rho) * base / left if left > 0 else float("nan")


@torch.no_grad()
def true_error(
    model: Recommender, cases: Cases, log: Interactions, truth: Truth, *, batch: int = 256, most: int = 2000
) -> float:
    """E(θ): mean total variation between softmax(scores) and the true law of the next item; in [0, 1].

    Items already in the history are struck out of both unless the simulated users repeat. What the law gives
    to items that the log does not hold counts as missed.

    Args:
        model: the recommender.
        cases: histories that are prefixes of what the users did.
        log: for the ids.
        truth: the law.
        batch: cases at a time.
        most: cases looked at, the first ones.
    """
    item = truth.item_indices(log.items.ids)
    total, rows = 0.0, torch.arange(min(len(cases), most))
    for row in rows.split(batch):
        histories = cases.histories.select(row)
        user = truth.user_indices(log.users.ids_of(cases.user[row]))
        law = truth.score(user, _in_truth(histories, item))[:, item]
        scores = model.score(histories).double().cpu()
        if not truth.config.repeats:
            scores[histories.row, histories.values] = -torch.inf
        apart = (scores.softmax(1) - law).abs().sum(1) + (1 - law.sum(1)).clamp(min=0)
        total += float(apart.sum()) / 2
    return total / max(1, len(rows))


def _in_truth(histories: Ragged, item: Tensor) -> Ragged:
    return Ragged(item[histories.values], histories.offsets)
