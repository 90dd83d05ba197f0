"""HSTU: pointwise attention with gates (Zhai et al., ICML 2024, "Actions Speak Louder than Words").

Equations 2–4 of the paper. Attention weights are SiLU(q·k + bias) over the number of events,
not a softmax, so that how often something was liked is not normalised away. The bias by
distance is here; the paper's bias by elapsed time is not, since sequences reach a network
without their times.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.models.layers import DistanceBias, Dropout, append, distances, linear, padded
from rsir.models.stack import HeadsConfig, Layer, Stack
from rsir.ragged import Ragged


class HSTUConfig(HeadsConfig):
    """The network's shape."""

    name: Literal["hstu"] = Field("hstu", description="which backbone")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after embedding and every sub-layer")


class HSTU(Stack):
    """Hierarchical sequential transduction units."""

    def __init__(self, num_items: int, config: HSTUConfig | None = None) -> None:
        config = config or HSTUConfig()
        super().__init__(num_items, config, (_Unit(config) for _ in range(config.num_blocks)))


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
        self.attention_dropout, self.dropout = Dropout(config.attention_dropout), Dropout(config.dropout)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        gate, qkv = self._project(x)
        return self._add(x, gate, padded(qkv, histories, self._attend))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row; keeps keys and values, each (P, L, D)."""
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

    def _attend(self, qkv: Tensor) -> Tensor:
        """Rows (B, L, 3D) to (B, L, D)."""
        query, key, value = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        length = qkv.shape[1]
        bias = self.bias.weight[distances(length, qkv.device).clamp(min=0)].permute(2, 0, 1)
        weight = F.silu(query @ key.transpose(2, 3) + bias).tril()
        count = torch.arange(1, length + 1, device=qkv.device, dtype=qkv.dtype)
        mixed = self.attention_dropout(weight) @ value / count[:, None]
        return mixed.transpose(1, 2).flatten(2)

    def _add(self, x: Tensor, gate: Tensor, mixed: Tensor) -> Tensor:
        return x + self.dropout(self.out(self.norm_mixed(mixed) * gate))
