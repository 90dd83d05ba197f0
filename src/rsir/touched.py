"""Item vectors of which an update moves those alone that it touches.

With a sampled loss most items of a large catalogue have no part in an update, but AdamW, its gradient and the
running mean pass over all of them. Here the gradient is sparse, and rows are moved by Adam without the first
moment (Kingma & Ba, ICLR 2015, β₁ = 0): then a row without a gradient does not move, and what becomes of it
meanwhile is known. Its second moment only decays, v ← v β₂ⁿ, and while its weight w rests, its running mean m
only nears it, m ← w + (m − w) Π (1 − step). So all is as if each update had passed over all rows; both catch
up when the row is touched again, the mean also when it is asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rsir.errors import ConfigError

_DECAY, _EPSILON = 0.999, 1e-8
"""β₂ and ε of Adam, as AdamW has them for all other weights."""
_MOST = 1 - 1e-12
"""Of a step of the mean; what is left of it has a logarithm."""


class TouchedRows:
    """Moves the rows of a table; use it in place of an optimiser for that one parameter.

    Args:
        table: whose gradient is sparse from now on, until `release`.
        averaged: whether there is a running mean.
    """

    def __init__(self, table: nn.Embedding, averaged: bool) -> None:
        self._table, self._weight, self._was_sparse = table, table.weight, table.sparse
        table.sparse = True
        self._rate, self._updates = 0.0, 0
        self._square = torch.zeros_like(table.weight, requires_grad=False)
        self._touched_V = torch.zeros(len(table.weight), dtype=torch.int64, device=table.weight.device)
        self._mean = table.weight.detach().clone() if averaged else None
        self._rested = 0.0  # log Π (1 − step) of all updates so far
        self._rested_V = torch.zeros_like(self._touched_V, dtype=torch.float64)

    def pace(self, rate: float) -> None:
        """Set the learning rate of the next update."""
        self._rate = rate

    @torch.no_grad()
    def step(self, mean_step: float) -> None:
        """Move the rows that have a gradient, and their mean by `mean_step` towards them."""
        gradient = self._weight.grad
        if gradient is None or not gradient.is_sparse:
            raise ConfigError(
                "the network uses all item vectors in an update, so these cannot be moved row by row: "
                "set training.item_updates=all"
            )
        gradient = gradient.coalesce()
        (rows,), slope = gradient.indices(), gradient.values()
        before = self._weight[rows]
        now = before - self._rate * self._direction(rows, slope)
        self._weight[rows] = now
        if self._mean is not None:
            mean = self._caught_up(self._mean[rows], before, rows)
            self._rested += math.log1p(-min(mean_step, _MOST))
            self._mean[rows] = mean.lerp(now, mean_step)
            self._rested_V[rows] = self._rested

    def _direction(self, rows: Tensor, slope: Tensor) -> Tensor:
        """Adam's, with a second moment that has decayed since the rows were last touched."""
        self._updates += 1
        gap = self._updates - self._touched_V[rows]
        square = self._square[rows] * (_DECAY ** gap.double()).to(slope.dtype)[:, None]
        square.addcmul_(slope, slope, value=1 - _DECAY)
        self._square[rows], self._touched_V[rows] = square, self._updates
        return slope / ((square / (1 - _DECAY**self._updates)).sqrt_() + _EPSILON)

    def _caught_up(self, mean: Tensor, weight: Tensor, rows: Tensor | slice) -> Tensor:
        """The mean of some rows now, which have not moved since they were last touched."""
        rested = (self._rested - self._rested_V[rows]).exp().to(weight.dtype)
        return weight + (mean - weight) * rested[:, None]

    @torch.no_grad()
    def mean(self) -> Tensor | None:
        """The running mean of all rows; (V, D)."""
        if self._mean is not None:
            self._mean.copy_(self._caught_up(self._mean, self._weight, slice(None)))
            self._rested, self._rested_V = 0.0, self._rested_V.zero_()
        return self._mean

    def snapshot(self) -> dict[str, Tensor]:
        """All but the mean that a later process needs to go on."""
        updates = torch.tensor(self._updates)
        return {"step": updates, "exp_avg_sq": self._square, "touched": self._touched_V}

    def resume(self, kept: dict[str, Tensor], mean: Tensor | None) -> None:
        """Go on from a snapshot, and the mean of that time."""
        self._updates, self._square, self._touched_V = int(kept["step"]), kept["exp_avg_sq"], kept["touched"]
        self._mean = mean
        self._rested, self._rested_V = 0.0, self._rested_V.zero_()

    def release(self) -> None:
        """Give the table the gradient again that it had."""
        self._table.sparse = self._was_sparse
