"""The exact best K of a large catalogue under inner-product scores, tile by tile.

The score of an item is defined here once: the inner product of two float32 vectors, computed
in float64 by adding halves (`exact_dot`). Products of float32 numbers are exact in float64 and the
additions have one fixed order, so a score has the same bits for any batch, tile, thread
count or device. Items are ordered by (score descending, index ascending).

A fast matrix product, of bytes or in float32, only *proposes* candidates. Its error is bounded, so whether
the best K are among the candidates, or even in their order, is proven for each row; rows without proof
get more candidates and exact scores. On a CPU compiled kernels do all this where they can be had
(`rsir.models.kernels`); what is here in PyTorch's operations does the rest, and everything on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rsir.devices import at_once
from rsir.errors import ModelError
from rsir.models import kernels
from rsir.models.sought import Sought

_BLOCK = 8
_MARGIN = 6
_CACHED_SCORES = 1 << 19
"""Scores made at a time on a CPU; they stay in the second-level cache while they are searched."""
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


def rows_in_cache(states: Tensor, width: int) -> int:
    """How many states to score at a time against `width` items: on a CPU what its cache holds, else all."""
    return len(states) if states.is_cuda else max(16, _CACHED_SCORES // width)


def _products_at_once(states: Tensor) -> int:
    """How many float64 products to hold at a time: what a CPU's cache holds, on a GPU half a gigabyte."""
    return at_once(states.device, cpu=_CACHED_SCORES // 8, cuda=1 << 26)


def paired_scores(states: Tensor, vectors: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """Exact scores of single (state, item) pairs; `row` and `item` int64 (M,), float64 (M,)."""
    if not states.is_cuda and kernels.found():
        return kernels.exact_pairs(states, vectors, row, item)
    size = max(1, _products_at_once(states) // vectors.shape[1])
    parts = [exact_dot(states[r], vectors[i]) for r, i in zip(row.split(size), item.split(size), strict=True)]
    return torch.cat(parts)


def order(scores: Tensor, items: Tensor) -> Tensor:
    """Places that sort the last dimension by (score descending, item ascending)."""
    by_item = items.argsort(dim=-1, stable=True)
    by_score = scores.gather(-1, by_item).argsort(dim=-1, descending=True, stable=True)
    return by_item.gather(-1, by_score)


@dataclass(frozen=True)
class Catalogue:
    """The item vectors, and what is known of them.

    Attributes:
        vectors: float32 (V, D).
        max_norm: float64, the largest norm of a vector.
        tile_size: items scored at a time; changes speed and memory, never a result.
        met: int64 (V,), the items, those that stand in most lists first; changes speed only.
    """

    vectors: Tensor
    max_norm: Tensor
    tile_size: int
    met: Tensor

    @classmethod
    def of(cls, vectors: Tensor, tile_size: int = 16384, met: Tensor | None = None) -> Catalogue:
        """The catalogue of some vectors."""
        norms = [part.double().norm(dim=1).max() for part in vectors.split(1 << 16)]
        met = torch.arange(len(vectors)) if met is None else met
        return cls(vectors, torch.stack(norms).max(), tile_size, met)

    @cached_property
    def codes(self) -> kernels.Codes | None:
        """The vectors in bytes; None where that would not pay."""
        if self.vectors.is_cuda or not kernels.bytes_pay():
            return None
        return kernels.Codes.of(self.vectors, self.met)

    def __len__(self) -> int:
        return len(self.vectors)


def exact_top_k(states: Tensor, catalogue: Catalogue, k: int) -> tuple[Tensor, Tensor]:
    """The exact best `k` items of each state under the total order.

    Args:
        states: float32 (B, D).
        catalogue: V items.
        k: how many items, 1 ≤ k ≤ V.

    Returns:
        items int64 (B, k) and their scores float64 (B, k), best first.

    Raises:
        ModelError: if a score is not finite.
    """
    bound = _error_bound(states, catalogue.max_norm)
    items, scores, todo = _by_kernels(states, catalogue, bound, k, scored=True)
    width = min(k + _MARGIN, len(catalogue))
    while todo.numel():
        proposed, fast = _candidates(states[todo], catalogue, width)
        items[todo], scores[todo] = _rescore(states[todo], catalogue.vectors, proposed, k)
        proven = scores[todo, -1] > fast.amin(1).double() + bound[todo]
        todo = todo[:0] if width == len(catalogue) else todo[~proven]
        width = min(2 * width, len(catalogue))
    return items, scores


def exact_order(states: Tensor, catalogue: Catalogue, k: int, sought: Sought | None = None) -> Tensor:
    """The items of `exact_top_k` without their scores: most rows need no exact score at all.

    Where each of the best k + 1 float32 scores is further from the next than two errors, their order is
    the exact one; only the other rows are settled in float64. Arguments and errors as there.

    Returns:
        items int64 (B, k), best first; where `sought` is given, lists may end as it says.
    """
    bound = _error_bound(states, catalogue.max_norm)
    items, _, todo = _by_kernels(states, catalogue, bound, k, scored=False, sought=sought)
    if len(todo):
        items[todo] = _order_by_gaps(states[todo], catalogue, bound[todo], k)
    return items


def _by_kernels(
    states: Tensor, catalogue: Catalogue, bound: Tensor, k: int, scored: bool, sought: Sought | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What compiled kernels find: items (B, k), scores (B, k), and the rows that they leave, int64."""
    if states.is_cuda or not kernels.found() or not len(states):
        items = states.new_zeros((len(states), k), dtype=torch.int64)
        return items, items.double(), torch.arange(len(states), device=states.device)
    if catalogue.codes is None:
        return _by_products(states, catalogue, bound, k, scored)
    given = states, catalogue.vectors, bound, k, scored
    items, scores, todo = catalogue.codes.best(*given, catalogue.tile_size, sought)
    if len(todo):
        items[todo], scores[todo], left = _by_products(states[todo], catalogue, bound[todo], k, scored)
        todo = todo[left]
    return items, scores, todo


def _by_products(
    states: Tensor, catalogue: Catalogue, bound: Tensor, k: int, scored: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, proposed by float32 products."""
    kept = kernels.Kept(states, bound, k)
    for number, tile in enumerate(catalogue.vectors.split(catalogue.tile_size)):
        for row, scores in _scores_of_tile(states, tile):
            kept.meet(row, scores, len(tile), number * catalogue.tile_size)
    return kept.best(catalogue.vectors, scored)


def _order_by_gaps(states: Tensor, catalogue: Catalogue, bound: Tensor, k: int) -> Tensor:
    """`exact_order` in PyTorch's operations."""
    items, fast = _candidates(states, catalogue, min(k + 1, len(catalogue)))
    fast, best = fast.sort(1, descending=True)
    items = items.gather(1, best)[:, :k]
    gaps = fast[:, :-1].double() - fast[:, 1:]
    close = (gaps <= 2 * bound[:, None]).any(1).nonzero().squeeze(1)
    if close.numel():
        items[close] = exact_top_k(states[close], catalogue, k)[0]
    return items


def _error_bound(states: Tensor, max_norm: Tensor) -> Tensor:
    """How far a float32 score of each state can be from the exact one; float64 (B,).

    For any order of additions |fl(h·w) − h·w| ≤ γ |h|·|w| ≤ γ ‖h‖‖w‖, γ = D u / (1 − D u)
    (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1); operands may be rounded first.
    """
    terms = (states.shape[1] + 2) * 2.0**-24
    rounded = _INPUT_ROUNDOFF[torch.get_float32_matmul_precision()]
    factor = (2 * rounded + rounded**2 + terms / (1 - terms)) * (1 + rounded) ** 2
    underflow = states.shape[1] * 2.0**-125
    if not states.is_cuda and kernels.found():
        bound, finite = kernels.bounds(states, float(max_norm), factor, underflow)
    else:
        scale = torch.linalg.vector_norm(states, dim=1, dtype=torch.float64) * max_norm
        bound, finite = factor * scale + underflow, bool((scale < torch.finfo(torch.float32).max).all())
    if not finite:
        raise ModelError("the model gives scores that are not finite; lower the learning rate or train again")
    return bound


def _candidates(states: Tensor, catalogue: Catalogue, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` items by float32 scores and those scores, in no order; both (B, width)."""
    best = states.new_empty((len(states), 0))
    items = best.to(torch.int64)
    for number, tile in enumerate(catalogue.vectors.split(catalogue.tile_size)):
        tile_best, places = _best_of_tile(states, tile, width)
        best = torch.cat([best, tile_best], 1)
        items = torch.cat([items, places + number * catalogue.tile_size], 1)
        if best.shape[1] > width:
            best, kept = best.topk(width, dim=1, sorted=False)
            items = items.gather(1, kept)
    return items, best


def _best_of_tile(states: Tensor, tile: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` items of a tile for each state: scores and places in the tile."""
    parts = [_best_of(scores, width) for _, scores in _scores_of_tile(states, tile)]
    scores, places = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(places)


def _scores_of_tile(states: Tensor, tile: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Float32 scores of a few states at a time, with the first of these; −inf beyond the tile's length.

    They are made in one buffer, so they must be used before the next.
    """
    length = -(-len(tile) // _BLOCK**3) * _BLOCK**3
    rows = rows_in_cache(states, length)
    buffer = states.new_empty((min(rows, len(states)), length))
    buffer[:, len(tile) :] = float("-inf")
    tile_DT = tile.T.contiguous() if len(states) > rows else tile.T
    for first in range(0, len(states), rows):
        part = states[first : first + rows]
        torch.mm(part, tile_DT, out=buffer[: len(part), : len(tile)])
        yield first, buffer[: len(part)]


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
    rows = max(1, _products_at_once(states) // (vectors.shape[1] * items.shape[1]))
    pairs = zip(states[:, None].split(rows), items.split(rows), strict=True)
    scores = torch.cat([exact_dot(vectors[part], state) for state, part in pairs])
    best = order(scores, items)[:, :k]
    return items.gather(1, best), scores.gather(1, best)
