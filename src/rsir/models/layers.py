"""Layers that several networks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.ragged import Ragged


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
        if not x.is_cpu:
            return F.dropout(x, self.rate)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * kept.to(x.dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        """The rate, when printed."""
        return f"rate={self.rate}"


def linear(num_in: int, num_out: int, std: float | None = None) -> nn.Linear:
    """A linear layer with bias 0 and normal weights; `std` None: Xavier's, √(2 / (in + out))."""
    layer = nn.Linear(num_in, num_out)
    nn.init.normal_(layer.weight, std=std or (2 / (num_in + num_out)) ** 0.5)
    nn.init.zeros_(layer.bias)
    return layer


def padded(x: Tensor, histories: Ragged, act: Callable[..., Tensor], *along: Tensor) -> Tensor:
    """Apply `act` to padded rows, block by block; flat (N, …) in, flat (N, …) out.

    Args:
        x: float (N, ...), one entry for each event.
        histories: whose rows these are.
        act: (B, L, ...) to (B, L, ...); causal, so that padding, which stands last, changes nothing.
        along: what else `act` takes of each event, padded likewise.
    """
    blocks = zip(*(histories.spread(each) for each in (x, *along)), strict=True)
    return histories.collect([act(*block) for block in blocks])


def distances(length: int, device: torch.device) -> Tensor:
    """How many events back place s lies from place t; int64 (L, L), row t, negative for later ones.

    >>> distances(3, torch.device("cpu")).tolist()
    [[0, -1, -2], [1, 0, -1], [2, 1, 0]]
    """
    place = torch.arange(length, device=device)
    return place[:, None] - place[None, :]


def by_distance(weight: Tensor, length: int, later: float) -> Tensor:
    """A number for each head of every pair of places, by how far back the key lies; (H, L, L).

    On a GPU the gradient of a lookup adds up thousands of equal places one by one; there the numbers are laid
    out from the farthest to those of later keys, and each query sees its window of them.

    Args:
        weight: float (longest, H), of each distance.
        length: L.
        later: the number of a key later than the query.

    >>> by_distance(torch.tensor([[1.0], [2.0]]), 2, 0.0).tolist()
    [[[1.0, 0.0], [2.0, 1.0]]]
    """
    if weight.is_cuda:
        return _windows(weight, length, later)
    distance = distances(length, weight.device)
    return F.embedding(distance.clamp(min=0), weight).permute(2, 0, 1).masked_fill(distance < 0, later)


def _windows(weight: Tensor, length: int, later: float) -> Tensor:
    """`by_distance` for a GPU."""
    along = torch.cat(
        [weight[:length].flip(0), weight.new_full((max(0, length - 1), weight.shape[1]), later)]
    )
    return along.T.unfold(1, length, 1)[:, :length].flip(1)


class DistanceBias(nn.Module):
    """A learned number for each head and distance (Shaw et al., NAACL 2018, as in T5): relative positions."""

    def __init__(self, max_length: int, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_length, num_heads) * 0.02)

    def forward(self, length: int) -> Tensor:
        """The bias of every pair; (H, L, L), −inf where the key is later than the query."""
        return by_distance(self.weight, length, float("-inf"))

    def newest(self, length: int) -> Tensor:
        """The bias of the newest of `length` events towards each of them, oldest first; (L, H)."""
        return self.weight[:length].flip(0)


class CausalAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al., 2017) over own and earlier events, biased by distance."""

    def __init__(self, dim: int, num_heads: int, max_length: int, dropout: float, std: float) -> None:
        super().__init__()
        self.num_heads, self.rate = num_heads, dropout
        self.qkv, self.out = linear(dim, 3 * dim, std), linear(dim, dim, std)
        self.bias = DistanceBias(max_length, num_heads)

    def forward(self, x: Tensor, histories: Ragged) -> Tensor:
        """What each event gathers; (N, D)."""
        return self.out(padded(self.qkv(x), histories, self._attend))

    def _attend(self, qkv: Tensor) -> Tensor:
        """Rows (B, L, 3D) to (B, L, D)."""
        query, key, value = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        bias = self.bias(qkv.shape[1])
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
        return mixed.transpose(1, 2).flatten(2)

    def advance(self, x: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the newest event of each row gathers, (P, D); keeps keys and values, each (P, L, D)."""
        query, *now = self.qkv(x)[:, None].chunk(3, dim=2)
        kept = append(past, tuple(now))
        query, key, value = (part.unflatten(2, (self.num_heads, -1)) for part in (query, *kept))
        scores = (query * key).sum(3) / query.shape[3] ** 0.5 + self.bias.newest(key.shape[1])
        mixed = (scores.softmax(1)[..., None] * value).sum(1)
        return self.out(mixed.flatten(1)), kept


def append(past: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What was kept of earlier events, (P, L, …) each, and the newest, (P, 1, …), behind it."""
    if not past:
        return now
    return tuple(torch.cat([old, new], 1) for old, new in zip(past, now, strict=True))
