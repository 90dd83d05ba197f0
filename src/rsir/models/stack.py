"""The frame that most backbones share: item vectors, a stack of layers, a norm, item vectors again.

A backbone is then one file with its layer: how flat events mix within their rows, and how to
go on by one event. Item vectors are shared between input and output (tied).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.models.base import Memory, SequenceModel
from rsir.models.layers import Dropout, linear
from rsir.ragged import Ragged
from rsir.settings import Settings


class StackConfig(Settings):
    """What every stacked backbone has."""

    name: str = Field(description="which backbone")
    dim: int = Field(64, ge=1, description="width D of states and item vectors")
    num_blocks: int = Field(2, ge=1, description="layers of the stack")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout after embedding and every sub-layer")
    max_length: int = Field(50, ge=1, description="most recent events the network looks at")
    init_std: float = Field(0.02, gt=0, description="standard deviation of initial item vectors")


class HeadsConfig(StackConfig):
    """What stacked backbones with attention have."""

    num_heads: int = Field(2, ge=1, description="attention heads; divides dim")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of attention weights")

    @model_validator(mode="after")
    def _possible(self) -> HeadsConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of num_heads ({self.num_heads})")
        return self


class Layer(nn.Module, ABC):
    """One layer over flat events, causal.

    Attributes:
        num_kept: tensors it keeps of earlier events when it goes on by one event.
    """

    num_kept: int

    @abstractmethod
    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D); event t of a row sees events ≤ t of it."""

    @abstractmethod
    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of P rows, (P, D), given what was kept of the earlier ones; and what to keep.

        `past` is empty for the first event of a row, else `num_kept` tensors (P, …).
        """


class Stack(SequenceModel):
    """Item vectors, layers, a last norm."""

    incremental = True

    def __init__(self, num_items: int, config: StackConfig, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.config, self.num_items, self.max_length = config, num_items, config.max_length
        self.item = nn.Embedding(num_items, config.dim)
        nn.init.normal_(self.item.weight, std=config.init_std)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(layers)
        self.norm_out = nn.LayerNorm(config.dim)

    def encode(self, histories: Ragged) -> Tensor:
        """States after every event; (N, D)."""
        x = self.dropout(F.embedding(histories.values, self.item.weight, sparse=self.item.sparse))
        for layer in self.layers:
            x = layer(x, histories)
        return self.norm_out(x)

    def advance(self, item_P: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """See `SequenceModel.advance`; the memory holds what the layers keep, one after another."""
        x, kept = self.dropout(F.embedding(item_P, self.item.weight)), list[Tensor]()
        before, length = (memory.tensors, memory.length) if memory is not None else ((), 0)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x, now = layer.advance(x, before[len(kept) : len(kept) + layer.num_kept])
            kept += now
        return self.norm_out(x), Memory(tuple(kept), length + 1)

    def item_vectors(self) -> Tensor:
        """Item vectors; (V, D)."""
        return self.item.weight


class Residual(Layer):
    """A mixing layer, then a feed-forward layer, each added to what went in: x + f(norm(x)).

    Pre-norm residuals (Xiong et al., ICML 2020), the feed-forward layer with GELU.
    """

    def __init__(self, mixer: Layer, config: StackConfig, ffn_factor: int) -> None:
        super().__init__()
        dim, hidden, std = config.dim, config.dim * ffn_factor, config.init_std
        self.num_kept = mixer.num_kept
        self.mixer, self.norm1, self.norm2 = mixer, nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = Dropout(config.dropout)
        self.feed_forward = nn.Sequential(
            linear(dim, hidden, std), nn.GELU(), Dropout(config.dropout), linear(hidden, dim, std)
        )

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        return self._add(x, self.mixer(self.norm1(x), histories))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row."""
        mixed, kept = self.mixer.advance(self.norm1(x), past)
        return self._add(x, mixed), kept

    def _add(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.dropout(mixed)
        return x + self.dropout(self.feed_forward(self.norm2(x)))
