"""Item vectors of which an update moves those alone that it touches.

With a sampled loss most items of a large catalogue have no part in an update, but AdamW, its gradient and the
running mean pass over all of them. Here the gradient is sparse, and Adam moves the rows it has entries for
(its moments of the others wait; `torch.optim.SparseAdam`). A row's running mean catches up when the row is
touched again or the mean is asked for: while a weight w rests, its mean m only nears it,
m ← w + (m − w) Π (1 − step).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rsir.errors import ConfigError

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
        self.adam = torch.optim.SparseAdam([table.weight])
        self._mean = table.weight.detach().clone() if averaged else None
        self._rested = 0.0  # log Π (1 − step) of all updates so far
        self._rested_V = torch.zeros(len(table.weight), dtype=torch.float64, device=table.weight.device)

    def pace(self, rate: float) -> None:
        """Set the learning rate of the next update."""
        self.adam.param_groups[0]["lr"] = rate

    @torch.no_grad()
    def step(self, mean_step: float) -> None:
        """Move the rows that have a gradient, and their mean by `mean_step` towards them."""
        gradient = self._weight.grad
        if gradient is None or not gradient.is_sparse:
            raise ConfigError(
                "the network uses all item vectors in an update, so these cannot be moved row by row: "
                "set training.item_updates=all"
            )
        self._weight.grad = gradient.coalesce()
        rows = self._weight.grad.indices()[0]
        if self._mean is not None:
            mean = self._caught_up(self._mean[rows], self._weight[rows], rows)
        self.adam.step()
        if self._mean is not None:
            self._rested += math.log1p(-min(mean_step, _MOST))
            self._mean[rows] = mean.lerp(self._weight[rows], mean_step)
            self._rested_V[rows] = self._rested

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
        """Adam's moments and its count of updates."""
        (state,) = self.adam.state_dict()["state"].values()
        return {**state, "step": torch.tensor(state["step"])}

    def resume(self, moments: dict[str, Tensor], mean: Tensor | None) -> None:
        """Go on from a snapshot, and the mean of that time."""
        state = self.adam.state_dict()
        state["state"] = {0: {**moments, "step": int(moments["step"])}}
        self.adam.load_state_dict(state)
        self._mean = mean
        self._rested, self._rested_V = 0.0, self._rested_V.zero_()

    def release(self) -> None:
        """Give the table the gradient again that it had."""
        self._table.sparse = self._was_sparse
