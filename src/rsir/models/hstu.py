"""HSTU: pointwise attention with gates (Zhai et al., ICML 2024, "Actions Speak Louder than Words").

Equations 2–4 of the paper. Attention weights are SiLU(q·k + bias) over the number of events,
not a softmax, so that how often something was liked is not normalised away. The bias is by
distance and, where the log has times, by the time from one event to the other (`elapsed.py`). When the
next item will be taken is not known to the network.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.models.elapsed import ElapsedBias, forget_times
from rsir.models.layers import DistanceBias, Dropout, append, by_distance, linear, padded
from rsir.models.stack import HeadsConfig, Layer, Stack
from rsir.ragged import Ragged


class HSTUConfig(HeadsConfig):
    """The network's shape."""

    name: Literal["hstu"] = Field("hstu", description="which backbone")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after embedding and every sub-layer")
    time_bias: bool | Literal["auto"] = Field(
        "auto", description="bias attention by elapsed time; auto: a run does where its log has times"
    )
    time_dropout: float = Field(
        0.2, ge=0, lt=1, description="share of rows read without times in training, as rollouts always are"
    )


class HSTU(Stack):
    """Hierarchical sequential transduction units."""

    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: HSTUConfig | None = None) -> None:
        config = config or HSTUConfig()
        super().__init__(num_items, config, (_Unit(config) for _ in range(config.num_blocks)))
        self.time_dropout = config.time_dropout if config.time_bias is True else None

    def encode(self, histories: Ragged) -> Tensor:
        """States after every event; (N, D). While training, some rows are read without times."""
        if self.training and self.time_dropout is not None:
            histories = forget_times(histories, self.time_dropout)
        return super().encode(histories)


class _Unit(Layer):
    """x + f₂(norm(A V) ⊙ U), where U, V, Q, K = SiLU(f₁(norm(x))) and A = SiLU(Q Kᵀ + bias) / events."""

    num_kept = 2

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.norm, self.norm_mixed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        # what a layer adds begins as small as item vectors: else it drowns the items (docs/log.md)
        self.uqkv, self.out = linear(dim, 4 * dim), linear(dim, dim, config.init_std)
        self.bias = DistanceBias(config.max_length, config.num_heads)
        self.elapsed = ElapsedBias(config.num_heads) if config.time_bias is True else None
        self.attention_dropout, self.dropout = Dropout(config.attention_dropout), Dropout(config.dropout)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        gate, qkv = self._project(x)
        time = () if self.elapsed is None or histories.time is None else (histories.time,)
        return self._add(x, gate, padded(qkv, histories, self._attend, *time))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row, read without times; keeps keys and values, each (P, L, D)."""
        gate, qkv = self._project(x)
        query, *now = qkv[:, None].chunk(3, dim=2)
        kept = append(past, tuple(now))
        query, key, value = (part.unflatten(2, (self.num_heads, -1)) for part in (query, *kept))
        weight = F.silu((query * key).sum(3) + self.bias.newest(key.shape[1])) / key.shape[1]
        return self._add(x, gate, (weight[..., None] * value).sum(1).flatten(1)), kept

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate U, (N, D), and Q, K, V side by side, (N, 3D)."""
        dim = x.shape[1]
        gate, qkv = F.silu(self.uqkv(self.norm(x))).split([dim, 3 * dim], dim=1)
        return gate, qkv

    def _attend(self, qkv: Tensor, time_BL: Tensor | None = None) -> Tensor:
        """Rows (B, L, 3D) to (B, L, D)."""
        query, key, value = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        length = qkv.shape[1]
        bias = by_distance(self.bias.weight, length, 0.0)
        if self.elapsed is not None and time_BL is not None:
            bias = bias + self.elapsed(time_BL)
        weight = F.silu(query @ key.transpose(2, 3) + bias).tril()
        count = torch.arange(1, length + 1, device=qkv.device, dtype=qkv.dtype)
        mixed = self.attention_dropout(weight) @ value / count[:, None]
        return mixed.transpose(1, 2).flatten(2)

    def _add(self, x: Tensor, gate: Tensor, mixed: Tensor) -> Tensor:
        return x + self.dropout(self.out(self.norm_mixed(mixed) * gate))
