"""The exact best K of a large catalogue under inner-product scores, tile by tile.

The score of an item is defined here once: the inner product of two float32 vectors, computed
in float64 by adding halves (`exact_dot`). Products of float32 numbers are exact in float64 and the
additions have one fixed order, so a score has the same bits for any batch, tile, thread
count or device. Items are ordered by (score descending, index ascending).

A fast float32 matrix product only *proposes* candidates. Its error is bounded, so whether the
best K are among the candidates is proven for each row; rows without proof get more candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rsir.errors import ModelError

_BLOCK = 32
_MARGIN = 6
_RESCORE_ELEMENTS = 1 << 19
_INPUT_ROUNDOFF = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}
"""How far PyTorch may round the operands of a float32 product, by its global precision switch."""


def exact_dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products over the last dimension in float64, added in one fixed order.

    The second half is added to the first until one number is left (an odd width is
    filled with a zero), with elementwise operations only.

    >>> exact_dot(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 5.0, 6.0]])).tolist()
    [32.0]
    """
    x = left.double() * right.double()
    while x.shape[-1] > 1:
        x = functional.pad(x, (0, 1)) if x.shape[-1] % 2 else x
        half = x.shape[-1] // 2
        x = x[..., :half] + x[..., half:]
    return x.squeeze(-1)


def paired_scores(states: Tensor, vectors: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """Exact scores of single (state, item) pairs; `row` and `item` int64 (M,), float64 (M,)."""
    size = max(1, _RESCORE_ELEMENTS // vectors.shape[1])
    parts = [exact_dot(states[r], vectors[i]) for r, i in zip(row.split(size), item.split(size), strict=True)]
    return torch.cat(parts)


def order(scores: Tensor, items: Tensor) -> Tensor:
    """Places that sort the last dimension by (score descending, item ascending)."""
    by_item = items.argsort(dim=-1, stable=True)
    by_score = scores.gather(-1, by_item).argsort(dim=-1, descending=True, stable=True)
    return by_item.gather(-1, by_score)


def exact_top_k(
    states: Tensor, vectors: Tensor, k: int, *, tile_size: int, max_norm: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The exact best `k` items of each state under the total order.

    Args:
        states: float32 (B, D).
        vectors: float32 (V, D); never multiplied with more than `tile_size` rows at once.
        k: how many items, 1 ≤ k ≤ V.
        tile_size: items scored at a time; changes speed and memory, never the result.
        max_norm: the largest norm of an item vector, where the caller has it already.

    Returns:
        items int64 (B, k) and their scores float64 (B, k), best first.

    Raises:
        ModelError: if a score is not finite.
    """
    max_norm = vectors.double().norm(dim=1).max() if max_norm is None else max_norm
    bound = _error_bound(states, max_norm)
    items = states.new_zeros((len(states), k), dtype=torch.int64)
    scores = states.new_zeros((len(states), k), dtype=torch.float64)
    todo = torch.arange(len(states), device=states.device)
    width = min(k + _MARGIN, len(vectors))
    while todo.numel():
        proposed, rest = _candidates(states[todo], vectors, width, tile_size)
        items[todo], scores[todo] = _rescore(states[todo], vectors, proposed, k)
        proven = scores[todo, -1] > rest.double() + bound[todo]
        todo = todo[:0] if width == len(vectors) else todo[~proven]
        width = min(2 * width, len(vectors))
    return items, scores


def _error_bound(states: Tensor, max_norm: Tensor) -> Tensor:
    """How far a float32 score of each state can be from the exact one; float64 (B,).

    For any order of additions |fl(h·w) − h·w| ≤ γ |h|·|w| ≤ γ ‖h‖‖w‖, γ = D u / (1 − D u)
    (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1); operands may be rounded first.
    """
    terms = (states.shape[1] + 2) * 2.0**-24
    rounded = _INPUT_ROUNDOFF[torch.get_float32_matmul_precision()]
    scale = states.double().norm(dim=1) * max_norm
    if not bool((scale < torch.finfo(torch.float32).max).all()):
        raise ModelError("the model gives scores that are not finite; lower the learning rate or train again")
    underflow = states.shape[1] * 2.0**-125
    return (2 * rounded + rounded**2 + terms / (1 - terms)) * (1 + rounded) ** 2 * scale + underflow


def _candidates(states: Tensor, vectors: Tensor, width: int, tile_size: int) -> tuple[Tensor, Tensor]:
    """The best `width` items by float32 scores (B, width), and the least of those scores (B,)."""
    scores = states.new_empty((len(states), 0))
    items = scores.to(torch.int64)
    for start in range(0, len(vectors), tile_size):
        tile_scores, places = _best_of_tile(states @ vectors[start : start + tile_size].T, width)
        scores = torch.cat([scores, tile_scores], 1)
        items = torch.cat([items, places + start], 1)
        if scores.shape[1] > width:
            scores, kept = scores.topk(width, dim=1, sorted=False)
            items = items.gather(1, kept)
    return items, scores.amin(1)


def _best_of_tile(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` of each row and their places, by way of the maxima of short blocks.

    The best `width` items stand in the `width` blocks with the largest maxima, so only
    those blocks are searched.
    """
    if scores.shape[1] <= _BLOCK * width:
        return scores.topk(min(width, scores.shape[1]), dim=1, sorted=False)
    missing = -scores.shape[1] % _BLOCK
    scores = functional.pad(scores, (0, missing), value=float("-inf")) if missing else scores
    blocks = scores.view(len(scores), -1, _BLOCK)
    best = blocks.amax(2).topk(width, dim=1, sorted=False).indices
    row = torch.arange(len(scores), device=scores.device)[:, None] * blocks.shape[1]
    inside = blocks.flatten(0, 1).index_select(0, (row + best).flatten()).view(len(scores), -1)
    kept_scores, kept = inside.topk(width, dim=1, sorted=False)
    return kept_scores, best.gather(1, kept // _BLOCK) * _BLOCK + kept % _BLOCK


def _rescore(states: Tensor, vectors: Tensor, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best `k` of the candidates `items` (B, C) by exact scores."""
    row = torch.arange(len(states), device=states.device).repeat_interleave(items.shape[1])
    scores = paired_scores(states, vectors, row, items.flatten()).view(items.shape)
    best = order(scores, items)[:, :k]
    return items.gather(1, best), scores.gather(1, best)
