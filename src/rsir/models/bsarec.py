"""BSARec: attention beside a frequency filter (Shin et al., AAAI 2024, "An Attentive Inductive Bias …").

Equation: α · (low(x) + β² ⊙ high(x)) + (1 − α) · attention(x), where low keeps the c lowest frequencies of
the window, high the rest, and β is learned. The published filter mixes a whole window, later
events included, and so can only be trained on its last place; here it is causal (`filters.py`), the same
reading at the last place and one for every other.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rsir.models.filters import CausalFilter, band_kernel
from rsir.models.layers import CausalAttention, append, padded
from rsir.models.stack import HeadsConfig, Layer, Residual, Stack
from rsir.ragged import Ragged


class BSARecConfig(HeadsConfig):
    """The network's shape."""

    name: Literal["bsarec"] = Field("bsarec", description="which backbone")
    ffn_factor: int = Field(1, ge=1, description="width of the feed-forward layer over dim")
    filter_share: float = Field(0.5, gt=0, lt=1, description="α: share of the filter beside attention")
    low_frequencies: int = Field(5, ge=1, description="c: lowest frequencies of the window kept as they are")

    @model_validator(mode="after")
    def _something_is_high(self) -> BSARecConfig:
        if self.low_frequencies > self.max_length // 2:
            raise ValueError(
                f"low_frequencies is {self.low_frequencies}; so that max_length = {self.max_length} places "
                f"have a higher one left, it must be at most {self.max_length // 2}"
            )
        return self


class BSARec(Stack):
    """A frequency filter and attention side by side."""

    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: BSARecConfig | None = None) -> None:
        config = config or BSARecConfig()
        layers = (Residual(_Mixer(config), config, config.ffn_factor) for _ in range(config.num_blocks))
        super().__init__(num_items, config, layers)


class _Mixer(Layer):
    """The equation at the head of the file."""

    num_kept = 3

    def __init__(self, config: BSARecConfig) -> None:
        super().__init__()
        rate, length = config.attention_dropout, config.max_length
        self.share = config.filter_share
        self.attention = CausalAttention(config.dim, config.num_heads, length, rate, config.init_std)
        self.low = CausalFilter(band_kernel(0, config.low_frequencies, length))
        self.beta = nn.Parameter(torch.ones(config.dim))

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        return self._blend(x, padded(x, histories, self.low), self.attention(x, histories))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row; keeps inputs, keys and values, each (P, L, D)."""
        (inputs,) = append(past[:1], (x[:, None],))
        mixed, kept = self.attention.advance(x, past[1:])
        return self._blend(x, self.low.newest(inputs), mixed), (inputs, *kept)

    def _blend(self, x: Tensor, low: Tensor, mixed: Tensor) -> Tensor:
        filtered = low + self.beta.square() * (x - low)
        return self.share * filtered + (1 - self.share) * mixed
