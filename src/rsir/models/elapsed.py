"""A learned bias by the time between two events (Zhai et al., ICML 2024).

Elapsed times fall into buckets, each √2 times as long as the one before, from 2⁻³² to 2⁶⁴ units. So any
unit of a log will do, years or nanoseconds: another one shifts all buckets alike, and all begin at 0. An
unknown time has a bucket of its own, whose bias stays 0: what stands beside, the bias by distance, is then
all there is, as in a log without times.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.ragged import Ragged

_LEAST, _MOST = 2.0**-32, 2.0**64
_FIRST = 64
"""Added to the exponent of the least squared time it gives bucket 1; bucket 0 is for unknown times."""
NUM_BUCKETS = 193
"""Buckets of known times."""


def buckets(time_BL: Tensor) -> Tensor:
    """The bucket of the time between any two events of a row; int64 (B, L, L), row t, 0 for an unknown time.

    The exponent of the squared time in base 2: exact, whatever the device.

    >>> buckets(torch.tensor([[0.0, 1.0, 3.0, torch.nan]]).double())[0, 2].tolist()
    [68, 67, 1, 0]
    """
    elapsed = (time_BL[:, :, None] - time_BL[:, None, :]).abs()
    bucket = torch.frexp(elapsed.clamp(_LEAST, _MOST).square()).exponent.long() + _FIRST
    return bucket.masked_fill(elapsed.isnan(), 0)


class ElapsedBias(nn.Module):
    """A learned number for each head and bucket of elapsed time; nothing is drawn, it begins at 0."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(NUM_BUCKETS, num_heads))

    def forward(self, time_BL: Tensor) -> Tensor:
        """The bias of every pair of events of a row; (B, H, L, L)."""
        weight = F.pad(self.weight, (0, 0, 1, 0))  # 0 for unknown times
        return F.embedding(buckets(time_BL), weight).permute(0, 3, 1, 2)


def forget_times(histories: Ragged, rate: float) -> Ragged:
    """The same rows, a share of them without times: whoever reads rollouts must know how to go without.

    Draws from PyTorch's global generator, as dropout does, where there are times.
    """
    if histories.time is None or rate == 0:
        return histories
    forgotten = torch.rand(len(histories), device=histories.values.device) < rate
    return histories.with_time(histories.time.masked_fill(forgotten[histories.row], torch.nan))
