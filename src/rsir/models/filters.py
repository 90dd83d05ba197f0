"""Frequency filters that are causal: each event gets what the last place of a window would get.

A filter that keeps the band B of the discrete Fourier spectrum of a window of n places is the circular
convolution of the window with g_j = 1/n Σ_{f in B} e^{2πi f j / n}. At the *last* place of the window
it reads y = Σ_j g_j x_{n−1−j}, past events alone, and it is there that the published models predict.
`CausalFilter` gives every event that reading, y_t = Σ_{j ≤ t} g_j x_{t−j}: at the last place it is
the published filter of a window padded with zeros in front, and no event sees a later one, so that one
pass over a row trains all of its places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsir.models.layers import distances


def band_kernel(first: int, stop: int, length: int) -> Tensor:
    """The kernel g of a filter that keeps frequencies first … stop − 1 of a window; float32 (n,).

    Args:
        first: lowest frequency kept, in cycles a window, ≥ 0.
        stop: the one after the highest kept, at most n // 2 + 1.
        length: places n of the window.

    >>> band_kernel(0, 1, 4).tolist()  # the mean
    [0.25, 0.25, 0.25, 0.25]
    >>> band_kernel(0, 3, 4).tolist()  # everything
    [1.0, 0.0, 0.0, 0.0]
    """
    kept = torch.zeros(length // 2 + 1, dtype=torch.float64)
    kept[first:stop] = 1
    return torch.fft.irfft(kept.to(torch.complex128), n=length).float()


def ramp(number: int, num_layers: int, share: float, num_frequencies: int) -> tuple[int, int]:
    """The band of layer `number`, first and stop; the top of the spectrum first, the bottom last.

    The frequency ramp of FEARec (Du et al., SIGIR 2023): bands of one width, evenly placed.

    >>> [ramp(number, 3, 0.5, 10) for number in range(3)]
    [(5, 10), (2, 7), (0, 5)]
    """
    width = max(1, round(share * num_frequencies))
    steps = max(1, num_layers - 1)
    first = (num_frequencies - width) * (steps - number) // steps if num_layers > 1 else 0
    return first, first + width


class CausalFilter(nn.Module):
    """y_t = Σ_{j ≤ t} g_j x_{t−j} with a fixed kernel g; see the head of the file."""

    kernel: Tensor

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter padded rows; (B, L, D) to (B, L, D)."""
        distance = distances(x.shape[1], x.device)
        matrix = self.kernel[distance.clamp(min=0)].masked_fill(distance < 0, 0)
        return matrix @ x

    def newest(self, x: Tensor) -> Tensor:
        """The last place alone; (P, L, D) to (P, D)."""
        return torch.einsum("l,pld->pd", self.kernel[: x.shape[1]].flip(0), x)
