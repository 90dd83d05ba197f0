"""SASRec: self-attention over the history (Kang & McAuley, ICDM 2018), trained well.

The network works on flat events: every layer but attention is row-wise, so no arithmetic is
spent on padding; attention alone pads, in blocks of rows of like length.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.models.base import Memory, SequenceModel
from rsir.models.layers import Dropout, by_distance, padded
from rsir.ragged import Ragged
from rsir.settings import Settings


class SASRecConfig(Settings):
    """The network's shape."""

    name: Literal["sasrec"] = Field("sasrec", description="which backbone")
    dim: int = Field(64, ge=1, description="width D of states and item vectors")
    num_blocks: int = Field(2, ge=1, description="attention blocks")
    num_heads: int = Field(2, ge=1, description="attention heads; divides dim")
    ffn_factor: int = Field(1, ge=1, description="width of the feed-forward layer over dim")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout after embedding and every sub-layer")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of attention weights")
    max_length: int = Field(50, ge=1, description="most recent events the network looks at")
    positions: Literal["from_end", "from_start", "relative", "none"] = Field(
        "relative", description="a learned bias by distance, or vectors by place from the end or start"
    )
    norm: Literal["pre", "post"] = Field("pre", description="layer norm before or after a sub-layer")
    activation: Literal["relu", "gelu"] = Field("gelu", description="of the feed-forward layer")
    init_std: float = Field(0.02, gt=0, description="standard deviation of initial weights")
    scale_embedding: bool = Field(False, description="multiply item vectors by sqrt(dim) on input")
    cosine: float | None = Field(
        None, gt=0, description="score by cosine times this scale instead of inner product"
    )

    @model_validator(mode="after")
    def _possible(self) -> SASRecConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of num_heads ({self.num_heads})")
        return self


class SASRec(SequenceModel):
    """Causal self-attention with item vectors shared between input and output."""

    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: SASRecConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SASRecConfig()
        self.num_items = num_items
        self.max_length = config.max_length
        self.item = nn.Embedding(num_items, config.dim)
        self.incremental = config.positions != "from_end"  # those places change with every new item
        absolute = config.positions in ("from_end", "from_start")
        self.position = nn.Embedding(config.max_length, config.dim) if absolute else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_blocks))
        self.norm_in = nn.LayerNorm(config.dim) if config.norm == "post" else nn.Identity()
        self.norm_out = nn.LayerNorm(config.dim) if config.norm == "pre" else nn.Identity()
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def encode(self, histories: Ragged) -> Tensor:
        """States after every event; (N, D)."""
        from_end = self.config.positions == "from_end"
        x = self._embed(histories.values, histories.from_end if from_end else histories.position)
        for block in self.blocks:
            x = block(x, histories)
        return self._finish(x)

    def _embed(self, items: Tensor, place: Tensor) -> Tensor:
        x = F.embedding(items, self.item.weight, sparse=self.item.sparse)
        if self.config.scale_embedding:
            x = x * self.config.dim**0.5
        if self.position is not None:
            x = x + self.position(place)
        return self.norm_in(self.dropout(x))

    def _finish(self, x: Tensor) -> Tensor:
        x = self.norm_out(x)
        return x if self.config.cosine is None else F.normalize(x, dim=-1) * self.config.cosine

    def advance(self, item_P: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """See `SequenceModel.advance`; the memory holds keys and values, (P, L, D), of each block."""
        if not self.incremental:
            return super().advance(item_P, memory)
        length = 0 if memory is None else memory.length
        x = self._embed(item_P, torch.full_like(item_P, length))
        kept: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            past = () if memory is None else memory.tensors[2 * number : 2 * number + 2]
            x, now = block.advance(x, past)
            kept += now
        return self._finish(x), Memory(tuple(kept), length + 1)

    def item_vectors(self) -> Tensor:
        """Item vectors; (V, D)."""
        weight = self.item.weight
        return weight if self.config.cosine is None else F.normalize(weight, dim=-1)


class _Block(nn.Module):
    """Attention, then a feed-forward layer, each with residual, norm and dropout."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        hidden = config.dim * config.ffn_factor
        self.pre = config.norm == "pre"
        self.attention = _CausalAttention(config)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.dim, hidden),
            nn.GELU() if config.activation == "gelu" else nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(hidden, config.dim),
        )
        self.norm1, self.norm2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        return self._combine(x, self.attention(self.norm1(x) if self.pre else x, histories))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row, given keys and values of the earlier ones; and all of these."""
        mixed, kept = self.attention.advance(self.norm1(x) if self.pre else x, past)
        return self._combine(x, mixed), kept

    def _combine(self, x: Tensor, mixed: Tensor) -> Tensor:
        if self.pre:
            x = x + self.dropout(mixed)
            return x + self.dropout(self.feed_forward(self.norm2(x)))
        x = self.norm1(x + self.dropout(mixed))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class _CausalAttention(nn.Module):
    """Multi-head attention of each event over itself and the earlier events of its row."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        relative = config.positions == "relative"
        self.distance_bias = nn.Embedding(config.max_length, config.num_heads) if relative else None

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        heads = self.qkv(x).view(x.shape[0], 3, self.num_heads, -1)
        return self.out(padded(heads, histories, self._attend))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Attention of the newest event of each row; `x` is (P, D), `past` keys and values (P, L, D)."""
        query, *now = self.qkv(x)[:, None].chunk(3, dim=-1)
        if past:
            now = [torch.cat([old, new], 1) for old, new in zip(past, now, strict=True)]
        query, key, value = (part.unflatten(2, (self.num_heads, -1)) for part in (query, *now))
        scores = (query * key).sum(3) / query.shape[3] ** 0.5  # (P, L + 1, H)
        if self.distance_bias is not None:
            scores = scores + self.distance_bias.weight[: key.shape[1]].flip(0)
        mixed = (scores.softmax(1)[..., None] * value).sum(1)
        return self.out(mixed.flatten(1)), tuple(now)

    def _attend(self, heads: Tensor) -> Tensor:
        """Attention within each row; `heads` is (B, L, 3, H, D/H), the result (B, L, D)."""
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, L, D/H)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self._bias(query.shape[2]),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.distance_bias is None,
        )
        return mixed.transpose(1, 2).flatten(2)

    def _bias(self, length: int) -> Tensor | None:
        """Learned bias by distance, −inf for later events; (H, L, L)."""
        if self.distance_bias is None:
            return None
        return by_distance(self.distance_bias.weight, length, float("-inf"))
