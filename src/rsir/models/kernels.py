"""The exact best K on a CPU by compiled loops, where they can be had.

numba is optional (`rsir[fast]`), and bytes are multiplied only on a processor that has instructions for
it. Without, the same answers come from PyTorch's own operations, several times slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsir.compiled import loops
from rsir.models.sought import NOTHING, Sought

_TILE_BYTES = 1 << 20
"""Numbers of items that stay in the second-level cache beside their sums."""
_MAX_DIM = 1 << 15
"""Wider sums of products of bytes could leave 32 bits."""


def found() -> bool:
    """Whether there are compiled kernels."""
    return loops("rsir.models.settle") is not None


def bytes_pay() -> bool:
    """Whether products of bytes are to be had: with numba, on a processor with AVX-512 VNNI."""
    vnni = loops("rsir.models.vnni")
    return vnni is not None and vnni.supported()


@dataclass(frozen=True)
class Codes:
    """Item vectors in whole numbers of 8 bits, w = scale · q + s.

    One scale serves all items, so that sums of products can be compared.

    Attributes:
        packed: q + 128, uint8 in the layout of `rsir.models.vnni`, aligned to 64 bytes.
        met: int64 (V,), the items in the order in which they stand there.
        scale: of all numbers.
        largest: max ‖w‖.
        residual: max ‖s‖.
    """

    packed: np.ndarray
    met: np.ndarray
    scale: float
    largest: float
    residual: float

    @classmethod
    def of(cls, vectors: Tensor, met: Tensor) -> Codes | None:
        """The codes of float32 (V, D), in the order `met`; None if they are too wide or not finite."""
        widest = float(vectors.abs().max())
        if vectors.shape[1] > _MAX_DIM or not np.isfinite(widest):
            return None
        from rsir.models.by_bytes import pack
        from rsir.models.vnni import BLOCK, GROUP

        scale = widest / 127 if widest else 1.0
        packed = _aligned(-(-len(vectors) // BLOCK), -(-vectors.shape[1] // GROUP), BLOCK, GROUP)
        packed[:] = 128
        largest, residual = pack(vectors.numpy(), met.numpy(), scale, packed)
        return cls(packed, met.numpy(), scale, largest, residual)

    def best(
        self,
        states: Tensor,
        vectors: Tensor,
        bound: Tensor,
        k: int,
        scored: bool,
        tile_size: int,
        sought: Sought | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The exact best `k` items of each state, as far as `sought` asks; see `rsir.models.by_bytes`.

        Returns:
            items int64 (B, k), their scores float64 (B, k) if `scored`, and the rows not done, int64.
        """
        from rsir.models.by_bytes import best_by_bytes
        from rsir.models.search import FOLD
        from rsir.models.vnni import BLOCK

        tile = min(tile_size, _TILE_BYTES // vectors.shape[1], len(vectors))
        tile = -(-tile // (FOLD * BLOCK)) * FOLD
        items, scores = np.empty((len(states), k), np.int64), np.empty((len(states), k))
        codes = (self.packed, self.met, self.scale, self.largest, self.residual)
        arrays = states.numpy(), vectors.numpy(), bound.numpy()
        sought = sought or NOTHING
        sets = tuple(x.numpy() for x in (sought.row, sought.items.values, sought.items.offsets))
        done = best_by_bytes(*arrays, scored, codes, tile, sets, items, scores)
        return torch.from_numpy(items), torch.from_numpy(scores), torch.from_numpy(np.flatnonzero(~done))


def _aligned(*shape: int) -> np.ndarray:
    """Bytes that begin where a line of cache does."""
    memory = np.zeros(int(np.prod(shape)) + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + int(np.prod(shape))].reshape(shape)


class Kept:
    """What some states keep of the tiles that they have met, scored in float32."""

    def __init__(self, states: Tensor, bound: Tensor, k: int) -> None:
        from rsir.models.search import room

        self._states, self._bound, self._k = states.numpy(), bound.numpy(), k
        rows = len(states)
        self._reached = np.full(rows, -np.inf)
        self._items, self._scores = np.empty((rows, room(k)), np.int32), np.empty((rows, room(k)), np.float32)
        self._count = np.zeros(rows, np.int64)

    def meet(self, row: int, scores: Tensor, length: int, first: int) -> None:
        """Keep what a tile has to offer to some states.

        Args:
            row: the first of the states.
            scores: float32, in rows that are `padded`.
            length: of the tile.
            first: its first item.
        """
        from rsir.models.search import keep_rows

        rows = slice(row, row + len(scores))
        kept = (part[rows] for part in (self._reached, self._items, self._scores, self._count))
        keep_rows(scores.numpy(), length, first, self._k, 2 * self._bound[rows], *kept)

    def best(self, vectors: Tensor, scored: bool) -> tuple[Tensor, Tensor, Tensor]:
        """As `Codes.best`."""
        from rsir.models.settle import settle

        items, scores = (
            np.zeros((len(self._states), self._k), np.int64),
            np.zeros((len(self._states), self._k)),
        )
        settle(self._states, vectors.numpy(), self._bound, scored, self._items, self._count, items, scores)
        left = np.flatnonzero(self._count < 0)
        return torch.from_numpy(items), torch.from_numpy(scores), torch.from_numpy(left)


def exact_pairs(states: Tensor, vectors: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """Exact scores of single (state, item) pairs, float64 (M,)."""
    from rsir.models.settle import exact_pairs as pairs

    scores = np.empty(len(row))
    pairs(states.numpy(), vectors.numpy(), row.numpy(), item.numpy(), scores)
    return torch.from_numpy(scores)


def bounds(states: Tensor, longest: float, factor: float, extra: float) -> tuple[Tensor, bool]:
    """Of float32 h (B, D) factor · ‖h‖ · longest + extra, float64; whether all ‖h‖ · longest are float32."""
    from rsir.models.settle import bounds as filled

    found = np.empty(len(states))
    finite = filled(states.numpy(), longest, factor, extra, found)
    return torch.from_numpy(found), finite
