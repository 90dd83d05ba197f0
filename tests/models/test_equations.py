"""Layers against their equations, written out event by event."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rsir.models.fearec import FEARec, FEARecConfig
from rsir.models.gru4rec import GRU4Rec, GRU4RecConfig
from rsir.models.hstu import HSTU, HSTUConfig
from rsir.models.mamba4rec import Mamba4Rec, Mamba4RecConfig
from rsir.ragged import Ragged

LENGTH = 7
ROW = Ragged.from_lists([list(range(LENGTH))])


def events(dim: int) -> Tensor:
    return torch.randn(LENGTH, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_hstu_equations_2_to_4() -> None:
    torch.manual_seed(0)
    unit = HSTU(5, HSTUConfig(dim=4, num_heads=2, max_length=9)).double().eval().layers[0]
    x = events(4)
    u, q, k, v = F.silu(unit.uqkv(unit.norm(x))).chunk(4, dim=1)
    mixed = torch.zeros_like(x)
    for t in range(LENGTH):
        for head in (0, 1):
            part = slice(2 * head, 2 * head + 2)
            for s in range(t + 1):
                weight = F.silu(q[t, part] @ k[s, part] + unit.bias.weight[t - s, head]) / (t + 1)
                mixed[t, part] += weight * v[s, part]
    torch.testing.assert_close(unit(x, ROW), x + unit.out(unit.norm_mixed(mixed) * u))


def test_hstu_bias_by_elapsed_time() -> None:
    """Beside the bias by distance, one by the exponent of the squared time between query and key."""
    torch.manual_seed(0)
    unit = HSTU(5, HSTUConfig(dim=4, num_heads=2, max_length=9, time_bias=True)).double().eval().layers[0]
    torch.nn.init.normal_(unit.elapsed.weight)
    time = torch.tensor([0.0, 3.0, 3.0, 100.0, 4e3, 4.001e3, 9e7], dtype=torch.float64)
    x = events(4)
    u, q, k, v = F.silu(unit.uqkv(unit.norm(x))).chunk(4, dim=1)
    mixed = torch.zeros_like(x)
    for t in range(LENGTH):
        for head in (0, 1):
            part = slice(2 * head, 2 * head + 2)
            for s in range(t + 1):
                elapsed = max(float(time[t] - time[s]), 2.0**-32)
                bucket = math.floor(math.log2(elapsed**2)) + 64
                bias = unit.bias.weight[t - s, head] + unit.elapsed.weight[bucket, head]
                mixed[t, part] += F.silu(q[t, part] @ k[s, part] + bias) / (t + 1) * v[s, part]
    torch.testing.assert_close(unit(x, ROW.with_time(time)), x + unit.out(unit.norm_mixed(mixed) * u))


def test_gru_equations() -> None:
    torch.manual_seed(0)
    layer = GRU4Rec(5, GRU4RecConfig(dim=4, hidden_factor=1)).double().eval().layers[0]
    x, h, found = events(4), torch.zeros(4, dtype=torch.float64), []
    w_in, w_state, b_in, b_state = layer.unit.all_weights[0]
    for event in layer.norm(x):
        reset_i, update_i, new_i = (w_in @ event + b_in).chunk(3)
        reset_h, update_h, new_h = (w_state @ h + b_state).chunk(3)
        update = (update_i + update_h).sigmoid()
        h = (1 - update) * (new_i + (reset_i + reset_h).sigmoid() * new_h).tanh() + update * h
        found.append(h)
    torch.testing.assert_close(layer(x, ROW), x + layer.out(torch.stack(found)))


def test_selective_state_space() -> None:
    torch.manual_seed(0)
    layer = Mamba4Rec(5, Mamba4RecConfig(dim=4, expand=2, num_states=3, conv_width=3)).double().eval()
    mixer = layer.layers[0].mixer
    x = events(4)
    inputs, z = mixer.widen(x).chunk(2, dim=1)
    h, found = torch.zeros(8, 3, dtype=torch.float64), []
    for t in range(LENGTH):
        taps = [mixer.taps[back] * inputs[t - back] for back in range(3) if t >= back]
        u = F.silu(torch.stack(taps).sum(0))
        low, b, c = mixer.read(u).split([mixer.rank, 3, 3])
        delta = F.softplus(mixer.step(low))
        for channel in range(8):
            for state in range(3):
                a = -mixer.log_decay[channel, state].exp()
                h[channel, state] = (delta[channel] * a).exp() * h[channel, state]
                h[channel, state] += delta[channel] * b[state] * u[channel]
        found.append((h @ c + mixer.skip * u).detach() * F.silu(z[t]))
        h = h.detach().clone()
    torch.testing.assert_close(mixer(x, ROW), mixer.narrow(torch.stack(found)))


def test_attention_over_lags() -> None:
    """R_t(τ) is the mean over events up to t of q_u · k_{u−τ}; the best ⌊m ln t⌋ lags share the weight."""
    torch.manual_seed(0)
    config = FEARecConfig(dim=4, num_heads=1, max_length=9, time_share=0.0, band=1.0, lag_factor=1.5)
    mixer = FEARec(5, config).double().eval().layers[0].mixer
    mixer.qkv.weight.data *= 30  # so that lags differ
    x = events(4)
    q, k, v = mixer.qkv(x).chunk(3, dim=1)
    mixed = torch.zeros_like(x)
    for t in range(LENGTH):
        agreement = {
            lag: sum(float((q[u] @ k[u - lag]).detach()) / 2 for u in range(lag, t + 1)) / (t + 1)
            for lag in range(t + 1)
        }
        count = min(t + 1, max(1, math.floor(1.5 * math.log(t + 1))))
        best = sorted(agreement, key=lambda lag: -agreement[lag])[:count]
        weights = torch.tensor([agreement[lag] for lag in best], dtype=torch.float64).softmax(0)
        for lag, weight in zip(best, weights, strict=True):
            mixed[t] += weight * v[t - lag]
    torch.testing.assert_close(mixer(x, ROW), mixer.out(mixed), atol=1e-6, rtol=1e-6)
