"""GRU4Rec: a gated recurrent unit over the history (Hidasi et al., ICLR 2016; unit of Cho et al., 2014).

The paper trains on sessions in parallel with pairwise losses; here it gets the objective of
every backbone, the softmax over the catalogue at each event, under which it was later found
strong. Rows go through the unit packed by time, without padding; on a GPU they are padded in blocks, so that
an update can be recorded (`rsir.replay`).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rsir.models.layers import Dropout, linear, padded
from rsir.models.stack import Layer, Stack, StackConfig
from rsir.models.time_major import TimeMajor
from rsir.ragged import Ragged


class GRU4RecConfig(StackConfig):
    """The network's shape."""

    name: Literal["gru4rec"] = Field("gru4rec", description="which backbone")
    num_blocks: int = Field(1, ge=1, description="recurrent layers")
    hidden_factor: int = Field(2, ge=1, description="width of the recurrent state over dim")


class GRU4Rec(Stack):
    """Recurrent layers with residuals."""

    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: GRU4RecConfig | None = None) -> None:
        config = config or GRU4RecConfig()
        super().__init__(num_items, config, (_Recurrent(config) for _ in range(config.num_blocks)))


class _Recurrent(Layer):
    """x + W h with h = GRU(norm(x)); the state h is all there is to keep."""

    num_kept = 1

    def __init__(self, config: GRU4RecConfig) -> None:
        super().__init__()
        hidden = config.dim * config.hidden_factor
        self.norm, self.unit = nn.LayerNorm(config.dim), nn.GRU(config.dim, hidden)
        self.out, self.dropout = linear(hidden, config.dim, config.init_std), Dropout(config.dropout)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        if x.is_cuda:
            return self._add(x, padded(self.norm(x), histories, self._over_rows))
        by_time = TimeMajor.of(histories)
        packed = PackedSequence(self.norm(x)[by_time.order], torch.tensor(by_time.sizes))
        state, _ = self.unit(packed)
        return self._add(x, state.data[by_time.back])

    def _over_rows(self, x: Tensor) -> Tensor:
        """The states of padded rows; (B, L, D) to (B, L, H)."""
        states, _ = self.unit(x.transpose(0, 1))
        return states.transpose(0, 1)

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row; keeps the state, (P, H)."""
        before = past[0] if past else x.new_zeros(x.shape[0], self.unit.hidden_size)
        state = torch.gru_cell(self.norm(x), before, *self.unit.all_weights[0])
        return self._add(x, state), (state,)

    def _add(self, x: Tensor, state: Tensor) -> Tensor:
        return x + self.dropout(self.out(self.dropout(state)))
