"""Causal filters against the published ones, which transform a whole window."""

import pytest
import torch

from rsir.models.bsarec import BSARecConfig
from rsir.models.filters import CausalFilter, band_kernel, ramp


@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.parametrize("band", [(0, 1), (0, 3), (2, 5), (1, 4)])
def test_each_place_gets_what_the_last_place_of_a_window_would(length: int, band: tuple[int, int]) -> None:
    x = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    filtered = CausalFilter(band_kernel(*band, length)).double()(x)
    for place in range(length):
        window = torch.zeros(2, length, 3, dtype=torch.float64)
        window[:, length - 1 - place :] = x[:, : place + 1]  # zeros in front
        spectrum = torch.fft.rfft(window, dim=1)
        kept = torch.zeros_like(spectrum)
        kept[:, slice(*band)] = spectrum[:, slice(*band)]
        published = torch.fft.irfft(kept, n=length, dim=1)[:, -1]
        torch.testing.assert_close(filtered[:, place], published, atol=1e-6, rtol=0)


def test_the_bands_of_a_spectrum_add_up() -> None:
    parts = [band_kernel(first, stop, 10) for first, stop in ((0, 2), (2, 3), (3, 6))]
    torch.testing.assert_close(sum(parts), band_kernel(0, 6, 10))
    assert band_kernel(0, 6, 10)[0] == pytest.approx(1)


def test_the_newest_place_alone() -> None:
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    layer = CausalFilter(band_kernel(0, 3, 8))
    torch.testing.assert_close(layer.newest(x), layer(x)[:, -1])


def test_the_ramp_goes_from_the_top_of_the_spectrum_to_its_bottom() -> None:
    bands = [ramp(number, 4, 0.4, 26) for number in range(4)]
    assert bands[0][1] == 26
    assert bands[-1][0] == 0
    assert all(stop - first == 10 for first, stop in bands)
    assert sorted(bands, reverse=True) == bands
    assert ramp(0, 1, 0.4, 26) == (0, 10)


def test_a_filter_that_keeps_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4"):
        BSARecConfig(max_length=8, low_frequencies=5)
    assert BSARecConfig(max_length=8, low_frequencies=4).low_frequencies == 4
