"""Several networks as one: the mean of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from rsir.errors import ConfigError
from rsir.models.base import Memory, SequenceModel
from rsir.ragged import Ragged


class Ensemble(SequenceModel):
    """The mean of the scores of M networks, itself a network with states side by side.

    A mean of scores is, up to a constant, the geometric mean of the distributions. As an inner
    product of width D₁ + … + D_M it is trained from, generated with and evaluated as any other.

    Args:
        models: of one catalogue; they are held, not copied.

    Raises:
        ConfigError: if there is none, or the catalogues differ.
    """

    def __init__(self, models: Sequence[SequenceModel]) -> None:
        super().__init__()
        if len({model.num_items for model in models}) != 1:
            sizes = sorted({model.num_items for model in models})
            raise ConfigError(f"an ensemble needs networks of one catalogue; these have {sizes} items")
        self.members = nn.ModuleList(models)
        self.num_items = models[0].num_items
        self.max_length = min(model.max_length for model in models)
        self.incremental = all(model.incremental for model in models)
        self.causal = all(model.causal for model in models)

    @property
    def _models(self) -> list[SequenceModel]:
        return [model for model in self.members if isinstance(model, SequenceModel)]

    def encode(self, histories: Ragged) -> Tensor:
        """States side by side; (N, D₁ + … + D_M)."""
        return torch.cat([model.encode(histories) for model in self._models], 1)

    def item_vectors(self) -> Tensor:
        """Item vectors side by side over M; (V, D₁ + … + D_M)."""
        return torch.cat([model.item_vectors() for model in self._models], 1) / len(self.members)

    def advance(self, item_P: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """See `SequenceModel.advance`; the memories stand one after another."""
        rest, length = ((), 0) if memory is None else (memory.tensors, memory.length)
        states: list[Tensor] = []
        kept: list[Tensor] = []
        for model, size in zip(self._models, self._memories, strict=True):
            mine, rest = rest[:size], rest[size:]
            state, now = model.advance(item_P, Memory(mine, length) if mine else None)
            states.append(state)
            kept += now.tensors
        return torch.cat(states, 1), Memory(tuple(kept), length + 1)

    @cached_property
    def _memories(self) -> list[int]:
        """How many tensors each member remembers."""
        first = torch.zeros(1, dtype=torch.int64, device=self.item_vectors().device)
        return [len(model.advance(first, None)[1].tensors) for model in self._models]
