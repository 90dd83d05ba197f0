"""FEARec: attention in time and over lags, within a frequency band (Du et al., SIGIR 2023).

Each layer keeps one band of the spectrum of queries, keys and values, from high in the first layer to
low in the last (the paper's frequency ramp), and mixes two attentions with share γ:

- in time: softmax over earlier events, as in SASRec;
- over lags (auto-correlation, Wu et al., NeurIPS 2021): how well the row agrees with itself τ events
  back, R(τ) = mean_u q_u · k_{u−τ}; the best lags are kept, and the value τ back has weight softmax R(τ).

The published band filter and auto-correlation read a whole window, later events included. Here
both are causal: the filter as in `filters.py`, and R_t(τ) counts the pairs up to event t, without wrapping
round the window. So every event predicts, in one pass. Of the paper's further losses, the one that
pulls together two dropout views of a sequence is here, in time and in frequency; the one over sequences
with the same target is not.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from rsir.data.batches import Batch
from rsir.models.contrast import info_nce
from rsir.models.filters import CausalFilter, band_kernel, ramp
from rsir.models.layers import DistanceBias, append, distances, linear, padded
from rsir.models.stack import HeadsConfig, Layer, Residual, Stack
from rsir.ragged import Ragged


class FEARecConfig(HeadsConfig):
    """The network's shape and the weights of its further losses."""

    name: Literal["fearec"] = Field("fearec", description="which backbone")
    ffn_factor: int = Field(1, ge=1, description="width of the feed-forward layer over dim")
    band: float = Field(0.8, gt=0, le=1, description="α: share of the spectrum that a layer keeps")
    time_share: float = Field(0.5, ge=0, le=1, description="γ: share of attention in time beside lags")
    lag_factor: float = Field(2.0, gt=0, description="m: lags kept are m · ln(events), at least one")
    contrast: float = Field(0.0, ge=0, description="λ₁: weight of the loss between two dropout views")
    temperature: float = Field(0.2, gt=0, description="of that loss")
    spectral: float = Field(0.0, ge=0, description="λ₂: weight of the distance of the views' spectra")


class FEARec(Stack):
    """Frequency-enhanced hybrid attention."""

    config: FEARecConfig
    replayable = True
    row_by_row = True

    def __init__(self, num_items: int, config: FEARecConfig | None = None) -> None:
        config = config or FEARecConfig()
        mixers = (_Mixer(config, number) for number in range(config.num_blocks))
        super().__init__(num_items, config, (Residual(mixer, config, config.ffn_factor) for mixer in mixers))
        self.replayable = type(self).replayable and not (config.contrast or config.spectral)

    def auxiliary_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """λ₁ · InfoNCE of two dropout views of each sequence + λ₂ · mean |spectrum difference|."""
        config = self.config
        if not (config.contrast or config.spectral):
            return None
        last = batch.histories.last
        one, other = (self.encode(batch.histories)[last] for _ in range(2))
        spectra = torch.fft.rfft(one, norm="ortho") - torch.fft.rfft(other, norm="ortho")
        loss = config.contrast * info_nce(one, other, config.temperature)
        return loss + config.spectral * torch.view_as_real(spectra).abs().mean()


class _Mixer(Layer):
    """One hybrid attention; both kinds read the same products of queries and keys."""

    num_kept = 3
    lags_after: Tensor

    def __init__(self, config: FEARecConfig, number: int) -> None:
        super().__init__()
        dim, length, std = config.dim, config.max_length, config.init_std
        band = ramp(number, config.num_blocks, config.band, length // 2 + 1)
        self.num_heads, self.rate = config.num_heads, config.attention_dropout
        self.share, self.factor = config.time_share, config.lag_factor
        lags = torch.tensor([self._lags(events) for events in range(1, length + 1)])
        self.register_buffer("lags_after", lags, persistent=False)
        self.qkv, self.out = linear(dim, 3 * dim, std), linear(dim, dim, std)
        self.filter = CausalFilter(band_kernel(*band, length))
        self.bias = DistanceBias(length, config.num_heads)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """Events (N, D) to (N, D)."""
        return self.out(padded(self.qkv(x), histories, self._attend))

    def _attend(self, qkv: Tensor) -> Tensor:
        """Rows (B, L, 3D) to (B, L, D)."""
        banded = self.filter(qkv)
        query, key, value = banded.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        products = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (B, H, L, L)
        in_time = (products + self.bias(qkv.shape[1])).softmax(3)
        weight = self.share * in_time + (1 - self.share) * self._over_lags(products)
        if self.training and self.rate:
            weight = F.dropout(weight, self.rate)
        return (weight @ value).transpose(1, 2).flatten(2)

    def _over_lags(self, products: Tensor) -> Tensor:
        """Weights by lag, laid out by event: (B, H, L, L), row t."""
        length = products.shape[3]
        distance = distances(length, products.device)
        # lag and place are each other's mirror image: column τ of row t is place t − τ, and back
        mirror = distance.clamp(min=0).expand_as(products)
        agreement = products.tril().gather(3, mirror).masked_fill(distance < 0, 0).cumsum(2)
        events = torch.arange(1, length + 1, device=products.device)
        most, lags = self._lags(length), self.lags_after[:length]
        weight = lag_weights(agreement / events[:, None], lags, most, distance < 0)
        return weight.gather(3, mirror).masked_fill(distance < 0, 0)

    def _lags(self, events: int) -> int:
        """Lags kept after so many events; never fewer after more."""
        return min(events, max(1, int(self.factor * math.log(events))))

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest event of each row; keeps projections, banded ones (P, L, 3D), lag sums (P, L, H)."""
        (plain,) = append(past[:1], (self.qkv(x)[:, None],))
        (banded,) = append(past[1:2], (self.filter.newest(plain)[:, None],))
        query, key, value = banded.unflatten(2, (3, self.num_heads, -1)).unbind(2)  # each (P, L, H, D/H)
        products = (query[:, -1:] * key).sum(3) / query.shape[3] ** 0.5  # (P, L, H)
        length = products.shape[1]
        before = F.pad(past[2], (0, 0, 0, 1)) if past else torch.zeros_like(products)
        sums = before + products.flip(1)
        in_time = (products + self.bias.newest(length)).softmax(1)
        agreement = (sums / length).transpose(1, 2)[:, :, None]  # (P, H, 1, lags)
        none = torch.zeros(1, length, dtype=torch.bool, device=x.device)
        lags = self.lags_after[length - 1 : length]
        by_lag = lag_weights(agreement, lags, self._lags(length), none)[:, :, 0].transpose(1, 2).flip(1)
        weight = self.share * in_time + (1 - self.share) * by_lag
        return self.out((weight[..., None] * value).sum(1).flatten(1)), (plain, banded, sums)


def lag_weights(agreement: Tensor, kept: Tensor, most: int, barred: Tensor) -> Tensor:
    """Softmax over the best lags of each row.

    Args:
        agreement: float (..., L, lags), R of each event and lag.
        kept: int64 (L,), lags to keep for each of the events, ≥ 1.
        most: the largest of them, so that a GPU need not be asked.
        barred: bool (L, lags), lags that reach behind the first event.

    >>> rows = torch.tensor([[1.0, 9.0], [1.0, 1.0]])
    >>> lag_weights(rows, torch.tensor([1, 2]), 2, torch.tensor([[False, True], [False, False]])).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    agreement = agreement.masked_fill(barred, float("-inf"))
    best = agreement.detach().topk(most, dim=-1).values
    least = best.gather(-1, (kept[:, None] - 1).expand(*best.shape[:-1], 1))
    return agreement.masked_fill(agreement < least, float("-inf")).softmax(-1)
