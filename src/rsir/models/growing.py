"""States of growing prefixes by compiled loops, where they can be had; else PyTorch's operations make them.

What a network remembers of a prefix is written once and never copied: prefixes that go on from it hold
its place. See `rsir.models.forward`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsir.compiled import loops
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.models.sasrec import SASRec


@dataclass(frozen=True)
class Trail:
    """What networks remember of P prefixes of one length.

    Attributes:
        kept: for each length so far and each network, keys and values of the newest items, float64
            (…, 2 blocks, D).
        bases: int64 (networks, L), the addresses of these arrays.
        place: int64 (P, L), where each prefix stands among those of each length.
    """

    kept: tuple[tuple[np.ndarray, ...], ...]
    bases: np.ndarray
    place: Tensor

    @property
    def length(self) -> int:
        """Items read so far, L."""
        return len(self.kept)

    def __len__(self) -> int:
        return len(self.place)

    @property
    def num_bytes(self) -> int:
        """What is remembered, of prefixes that do not go on, too."""
        return sum(array.nbytes for arrays in self.kept for array in arrays)

    def select(self, prefix: Tensor) -> Trail:
        """The trail of some prefixes, in the order given; int64 (R,), repeats allowed."""
        return replace(self, place=self.place[prefix])


@dataclass(frozen=True)
class Growing:
    """Networks that read growing prefixes side by side, by loops.

    Attributes:
        networks: what the loops ask for of each network: its shape and its weights.
        widths: of their states, D.
    """

    networks: tuple[tuple[Any, Any], ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, network: SequenceModel) -> Growing | None:
        """The loops for a network in float64 on a CPU; None if there are none."""
        fma = loops("rsir.models.fma")
        members = list(network.members) if isinstance(network, Ensemble) else [network]
        if fma is None or not fma.supported() or not all(_can(member) for member in members):
            return None
        networks = [member for member in members if isinstance(member, SASRec)]
        return cls(tuple(map(_packed, networks)), tuple(one.config.dim for one in networks))

    def advance(self, item_P: Tensor, past: Trail | None) -> tuple[Tensor, Trail]:
        """As `SequenceModel.advance`, but for states that are rounded to float32; (P, D₁ + …)."""
        from rsir.models.forward import advance

        nothing = np.empty((len(self.networks), 0), np.int64)
        past = past or Trail((), nothing, item_P.new_empty(len(item_P), 0))
        states = np.empty((len(item_P), sum(self.widths)), np.float32)
        item, place, column, newest = item_P.contiguous().numpy(), past.place.numpy(), 0, list[np.ndarray]()
        for number, ((shape, weights), width) in enumerate(zip(self.networks, self.widths, strict=True)):
            newest.append(np.empty((len(item), 2 * len(weights[1]), width)))
            scratch = _scratch(weights, shape[0], past.length)
            advance(item, place, past.bases[number], shape, weights, scratch, newest[-1], states, column)
            column += width
        here = torch.arange(len(item_P))[:, None]
        added = np.array([[array.ctypes.data] for array in newest], np.int64)
        trail = Trail(
            (*past.kept, tuple(newest)),
            np.concatenate([past.bases, added], 1),
            torch.cat([past.place, here], 1),
        )
        return torch.from_numpy(states), trail


def _can(network: nn.Module) -> bool:
    """Whether the loops do what this network does."""
    if not isinstance(network, SASRec) or network.item.weight.is_cuda:
        return False
    config = network.config
    relative = config.positions in ("relative", "none")
    return relative and config.norm == "pre" and not config.scale_embedding and config.cosine is None


def _packed(network: SASRec) -> tuple[tuple[int, bool], tuple[np.ndarray, ...]]:
    """Heads, whether there is GELU, and the weights in the order and layout that the loops ask for."""
    from rsir.models.forward import erf_table

    named = {name: value.numpy() for name, value in network.state_dict().items()}
    config = network.config

    def of_blocks(name: str) -> np.ndarray:
        return np.stack([named[f"blocks.{number}.{name}"] for number in range(config.num_blocks)])

    def linear(name: str, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return _panels(of_blocks(f"{name}.weight"), of_blocks(f"{name}.bias"), parts)

    norms = [[of_blocks(f"{name}.{kind}") for kind in ("weight", "bias")] for name in ("norm1", "norm2")]
    biased = config.positions == "relative"
    weights = (
        named["item.weight"],
        np.ascontiguousarray(np.transpose(norms, (2, 0, 1, 3))),
        np.stack([named["norm_out.weight"], named["norm_out.bias"]]),
        *linear("attention.qkv", 3),
        *linear("attention.out"),
        *linear("feed_forward.0"),
        *linear("feed_forward.3"),
        of_blocks("attention.distance_bias.weight") if biased else np.empty((config.num_blocks, 0, 1)),
        erf_table().ravel(),
    )
    return (config.num_heads, config.activation == "gelu"), weights


def _scratch(weights: tuple[np.ndarray, ...], heads: int, length: int) -> tuple[np.ndarray, ...]:
    """Room for some rows of each layer, and for the attention weights of one row after `length` items."""
    from rsir.models.fma import COLUMNS
    from rsir.models.forward import ROWS_AT_ONCE

    _, _, _, qkv, _, mix, _, wide, *_ = weights
    widths = [len(panels[0]) * COLUMNS for panels in (mix, mix, mix, qkv, wide)]
    memory, ends = _aligned(ROWS_AT_ONCE * sum(widths)), accumulate(ROWS_AT_ONCE * width for width in widths)
    rows = [memory[a:b].reshape(ROWS_AT_ONCE, -1) for a, b in pairwise([0, *ends])]
    return *rows, np.empty((heads, length + 1))


def _panels(weight: np.ndarray, bias: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, O, I) as (N, O / COLUMNS, I, COLUMNS) and biases (N, O), parts of O padded with zeros."""
    from rsir.models.fma import COLUMNS

    count, out, depth = weight.shape
    padded = -(-out // parts // COLUMNS) * COLUMNS
    panels, biases = _aligned(count, parts, padded, depth), _aligned(count, parts, padded)
    panels[:, :, : out // parts] = weight.reshape(count, parts, -1, depth)
    biases[:, :, : out // parts] = bias.reshape(count, parts, -1)
    columns = panels.reshape(count, -1, COLUMNS, depth)
    found = _aligned(*columns.shape[:2], depth, COLUMNS)
    found[:] = columns.swapaxes(2, 3)
    return found, biases.reshape(count, -1)


def _aligned(*shape: int) -> np.ndarray:
    """Zeros in float64 that begin where a line of cache does."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 8)
    first = -memory.ctypes.data % 64 // 8
    return memory[first : first + size].reshape(shape)
