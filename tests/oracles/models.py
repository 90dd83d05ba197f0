"""Models that need no training: what they answer is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsir.models.base import SequenceModel
from rsir.ragged import Ragged


class DecayedMean(SequenceModel):
    """State = sum of the item vectors of the prefix, each halved with every step back."""

    def __init__(self, num_items: int, dim: int = 8, max_length: int = 50, seed: int = 0) -> None:
        super().__init__()
        self.num_items, self.max_length = num_items, max_length
        draws = torch.randn(2, num_items, dim, generator=torch.Generator().manual_seed(seed))
        self.inputs, self.outputs = nn.Parameter(draws[0]), nn.Parameter(draws[1])

    def encode(self, histories: Ragged) -> Tensor:
        padded = histories.pad(self.inputs[histories.values])
        state, states = torch.zeros_like(padded[:, 0]), []
        for column in padded.unbind(1):
            state = 0.5 * state + column
            states.append(state)
        return histories.flatten(torch.stack(states, 1))

    def item_vectors(self) -> Tensor:
        return self.outputs


class MarkovTable:
    """Scores of the next item depend on the last item only, by a table (V, V)."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.num_items = table.float(), len(table)

    def score(self, histories: Ragged) -> Tensor:
        return self.table[histories.values[histories.last]]
