"""Mamba4Rec: a selective state space over the history (Liu et al., 2024; Gu & Dao, 2023).

    h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t u_t,   y_t = C_t · h_t + D u_t

with Δ, B and C read from the event itself. The recurrence runs from event to event over all rows at
once, longest rows first (`time_major.py`): no padding, and no products of decays that could overflow. On a
GPU rows are padded in blocks, so that an update can be recorded (`rsir.replay`).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.models.layers import linear, padded
from rsir.models.stack import Layer, Residual, Stack, StackConfig
from rsir.models.time_major import TimeMajor
from rsir.ragged import Ragged


class Mamba4RecConfig(StackConfig):
    """The network's shape."""

    name: Literal["mamba4rec"] = Field("mamba4rec", description="which backbone")
    num_blocks: int = Field(1, ge=1, description="layers of the stack")
    ffn_factor: int = Field(1, ge=1, description="width of the feed-forward layer over dim")
    expand: int = Field(2, ge=1, description="width of the state space's channels over dim")
    num_states: int = Field(16, ge=1, description="states of each channel")
    conv_width: int = Field(4, ge=1, description="events that the convolution before it sees")


class Mamba4Rec(Stack):
    """Selective state spaces."""

    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: Mamba4RecConfig | None = None) -> None:
        config = config or Mamba4RecConfig()
        layers = (Residual(_Selective(config), config, config.ffn_factor) for _ in range(config.num_blocks))
        super().__init__(num_items, config, layers)


class _Selective(Layer):
    """W₂ (y ⊙ SiLU(z)), y the state space over SiLU(conv(u)), and u, z = W₁ x; C channels, S states."""

    num_kept = 2

    def __init__(self, config: Mamba4RecConfig) -> None:
        super().__init__()
        channels, states = config.dim * config.expand, config.num_states
        self.rank, self.states = math.ceil(config.dim / 16), states
        self.widen = linear(config.dim, 2 * channels)
        self.narrow = linear(channels, config.dim, config.init_std)
        self.taps = nn.Parameter(torch.randn(config.conv_width, channels) * config.conv_width**-0.5)
        self.read = linear(channels, self.rank + 2 * states)
        self.step = linear(self.rank, channels)
        # steps begin between .001 and .1, and decay rates at 1 … S, as Gu & Dao propose
        steps = torch.exp(torch.rand(channels) * math.log(100.0) + math.log(1e-3))
        self.step.bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1))
        self.skip = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        u, z = self.widen(x).chunk(2, dim=1)
        u = F.silu(self._convolve(u, histories.position))
        decay, drive, readout = self._select(u)
        if x.is_cuda:
            states = padded(decay, histories, scan_rows, drive)
        else:
            by_time = TimeMajor.of(histories)
            states = scan(decay[by_time.order], drive[by_time.order], by_time.sizes)[by_time.back]
        return self._finish(u, z, states, readout)

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row; keeps the convolution's inputs, (P, W, C), and states (P, C, S)."""
        u, z = self.widen(x).chunk(2, dim=1)
        width = self.taps.shape[0]
        before = past[0] if past else u.new_zeros(u.shape[0], width, u.shape[1])
        window = torch.cat([before[:, 1:], u[:, None]], 1)
        u = F.silu((window * self.taps.flip(0)).sum(1))
        decay, drive, readout = self._select(u)
        state = decay * past[1] + drive if past else drive
        return self._finish(u, z, state, readout), (window, state)

    def _convolve(self, u: Tensor, position: Tensor) -> Tensor:
        """Each channel over the last events of its row; (N, C)."""
        mixed = u * self.taps[0]
        for back in range(1, min(len(self.taps), len(u))):
            earlier = u.roll(back, 0).masked_fill((position < back)[:, None], 0)
            mixed = mixed + earlier * self.taps[back]
        return mixed

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """exp(ΔA) and Δ B u, (N, C, S) each, and C, (N, S)."""
        low, drive, readout = self.read(u).split([self.rank, self.states, self.states], dim=1)
        step = F.softplus(self.step(low))
        decay = torch.exp(step[:, :, None] * -self.log_decay.exp())
        return decay, (step * u)[:, :, None] * drive[:, None, :], readout

    def _finish(self, u: Tensor, z: Tensor, states: Tensor, readout: Tensor) -> Tensor:
        y = torch.bmm(states, readout[:, :, None])[:, :, 0] + self.skip * u
        return self.narrow(y * F.silu(z))


def scan(decay: Tensor, drive: Tensor, sizes: list[int]) -> Tensor:
    """h_t = decay_t h_{t−1} + drive_t, by time (see `TimeMajor`); all float (N, …).

    >>> scan(torch.tensor([0.5, 0.5, 0.5]), torch.ones(3), [1, 1, 1]).tolist()
    [1.0, 1.5, 1.75]
    """
    steps = zip(sizes, decay.split(sizes), drive.split(sizes), strict=True)
    states = list[Tensor]()
    for size, decay_t, drive_t in steps:
        states.append(drive_t if not states else torch.addcmul(drive_t, decay_t, states[-1][:size]))
    return torch.cat(states)


def scan_rows(decay: Tensor, drive: Tensor) -> Tensor:
    """The same over padded rows; all float (B, L, …).

    >>> scan_rows(torch.full((1, 3), 0.5), torch.ones(1, 3)).tolist()
    [[1.0, 1.5, 1.75]]
    """
    states = list[Tensor]()
    for decay_t, drive_t in zip(decay.unbind(1), drive.unbind(1), strict=True):
        states.append(drive_t if not states else torch.addcmul(drive_t, decay_t, states[-1]))
    return torch.stack(states, 1)
