"""Layers that several networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al., JMLR 2014), cheap on a CPU.

    There, eight masks are cut from each 64-bit draw instead of one draw a value, which rounds
    the rate to a multiple of 1/256; the scale uses the rounded rate, so that expectations stay exact.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.threshold = round(256 * rate)

    def forward(self, x: Tensor) -> Tensor:
        """Drop values while training; any shape."""
        if not self.training or self.threshold == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.rate)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * kept.to(x.dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        """The rate, when printed."""
        return f"rate={self.rate}"
