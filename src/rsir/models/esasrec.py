"""eSASRec: SASRec with LiGR layers (Tikhonovich et al., RecSys 2025; layers of Borisyuk et al., 2025).

The authors train it with a sampled softmax; here the whole softmax is the default, as for every
backbone (see docs/base.md), and `training.loss = "sampled_softmax"` is theirs.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.models.layers import CausalAttention, Dropout, linear
from rsir.models.stack import HeadsConfig, Layer, Stack
from rsir.ragged import Ragged


class ESASRecConfig(HeadsConfig):
    """The network's shape."""

    name: Literal["esasrec"] = Field("esasrec", description="which backbone")
    ffn_factor: int = Field(1, ge=1, description="width of the feed-forward layer over dim")


class ESASRec(Stack):
    """Attention and SwiGLU, each behind a gate."""

    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: ESASRecConfig | None = None) -> None:
        config = config or ESASRecConfig()
        super().__init__(num_items, config, (LiGR(config) for _ in range(config.num_blocks)))


class LiGR(Layer):
    """x + f(n) ⊙ σ(n W) with n = norm(x), for f = attention and then f = SwiGLU.

    SwiGLU (Shazeer, 2020): f(n) = (SiLU(n W₁) ⊙ n W₂) W₃.
    """

    num_kept = 2

    def __init__(self, config: ESASRecConfig) -> None:
        super().__init__()
        dim, hidden, std = config.dim, config.dim * config.ffn_factor, config.init_std
        rate, length = config.attention_dropout, config.max_length
        self.attention = CausalAttention(dim, config.num_heads, length, rate, std)
        self.gate1, self.gate2 = linear(dim, dim, std), linear(dim, dim, std)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.swish, self.narrow = linear(dim, 2 * hidden, std), linear(hidden, dim, std)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        normed = self.norm1(x)
        return self._add(x, normed, self.attention(normed, histories))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row."""
        normed = self.norm1(x)
        mixed, kept = self.attention.advance(normed, past)
        return self._add(x, normed, mixed), kept

    def _add(self, x: Tensor, normed: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.dropout(mixed * self.gate1(normed).sigmoid())
        normed = self.norm2(x)
        swish, plain = self.swish(normed).chunk(2, dim=-1)
        fed = self.narrow(self.dropout(F.silu(swish) * plain))
        return x + self.dropout(fed * self.gate2(normed).sigmoid())
