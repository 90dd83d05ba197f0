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

from rsir.errors import ModelError

_BLOCK = 8
_MARGIN = 6
_CACHED_SCORES = 1 << 19
"""Scores made at a time on a CPU: float32 numbers that stay in the second-level cache while they are searched."""
_INPUT_ROUNDOFF = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}
"""How far PyTorch may round the operands of a float32 product, by its global precision switch."""


def exact_dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products over the last dimension in float64, added in one fixed order.

    The second half is added to the first until one number is left (the middle one of an odd width
    waits), with elementwise operations only.

    >>> exact_dot(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 5.0, 6.0]])).tolist()
    [32.0]
    """
    x = left.double() * right.double()
    width = x.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        x[..., : width - half] += x[..., half:width]
        width = half
    return x[..., 0]


def paired_scores(states: Tensor, vectors: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """Exact scores of single (state, item) pairs; `row` and `item` int64 (M,), float64 (M,)."""
    size = max(1, _CACHED_SCORES // (8 * vectors.shape[1]))
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
    best = states.new_empty((len(states), 0))
    items = best.to(torch.int64)
    for start in range(0, len(vectors), tile_size):
        tile_best, places = _best_of_tile(states, vectors[start : start + tile_size], width)
        best, items = torch.cat([best, tile_best], 1), torch.cat([items, places + start], 1)
        if best.shape[1] > width:
            best, kept = best.topk(width, dim=1, sorted=False)
            items = items.gather(1, kept)
    return items, best.amin(1)


def _best_of_tile(states: Tensor, tile: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` items of a tile for each state: scores and places in the tile.

    Scores are made for a few states at a time in one buffer, −inf where it is longer than the tile.
    """
    length = -(-len(tile) // _BLOCK**3) * _BLOCK**3
    rows = len(states) if states.is_cuda else max(16, _CACHED_SCORES // length)
    buffer = states.new_full((min(rows, len(states)), length), float("-inf"))
    tile_DT, parts = tile.T.contiguous(), []
    for part in states.split(rows):
        torch.mm(part, tile_DT, out=buffer[: len(part), : len(tile)])
        parts.append(_best_of(buffer[: len(part)], width))
    scores, places = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(places)


def _best_of(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` of each row and their places, by way of the maxima of small blocks.

    The best `width` stand in the `width` blocks with the largest maxima, so only those are searched, and
    the maxima in the same way. Block n of N is the places n, n + N, n + 2N …: maxima are taken along memory.
    """
    count, rest = divmod(scores.shape[1], _BLOCK)
    if rest or count <= 2 * width:
        return scores.topk(min(width, scores.shape[1]), dim=1, sorted=False)
    blocks = scores.unflatten(1, (_BLOCK, count))
    best = _best_of(blocks.amax(1), width)[1]
    inside = blocks.gather(2, best[:, None].expand(-1, _BLOCK, -1)).flatten(1)
    found, kept = inside.topk(width, dim=1, sorted=False)
    return found, best.gather(1, kept % width) + kept // width * count


def _rescore(states: Tensor, vectors: Tensor, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best `k` of the candidates `items` (B, C) by exact scores."""
    rows = max(1, _CACHED_SCORES // (8 * vectors.shape[1] * items.shape[1]))
    pairs = zip(states[:, None].split(rows), items.split(rows), strict=True)
    scores = torch.cat([exact_dot(vectors[part], state) for state, part in pairs])
    best = order(scores, items)[:, :k]
    return items.gather(1, best), scores.gather(1, best)
