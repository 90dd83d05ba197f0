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


class Reading:
    """What one network uses again as prefixes grow: scratch, and what its first block made of items.

    Attributes:
        read: int64 (V,), the address of what was made of each item; 0 where it was not read.
        num_bytes: of what was made.
    """

    def __init__(self, heads: int, weights: tuple[np.ndarray, ...]) -> None:
        self._heads, self._weights = heads, weights
        self._made: list[np.ndarray] = []
        self.read, self.num_bytes = np.zeros(len(weights[0]), np.int64), 0
        self.scratch = _scratch(weights, heads, 16)

    def prepare(self, item_P: np.ndarray, length: int) -> None:
        """Read items, and make room for prefixes of a length."""
        from rsir.models.forward import read_items

        if length > self.scratch[-1].shape[2]:
            self.scratch = _scratch(self._weights, self._heads, 2 * length)
        made = read_items(item_P, self._weights, self.scratch, self.read)
        if len(made):
            self._made.append(made)
            self.num_bytes += made.nbytes


@dataclass(frozen=True)
class Trail:
    """What networks remember of P prefixes of one length.

    Attributes:
        held: for each length so far the prefix that each goes on from and the newest item, int64, and of each
            network its keys and values behind the first block, float64 (…, 2 (blocks − 1), D).
        addresses: int64 (2 + networks, L), of these arrays.
        held_bytes: of these arrays, of prefixes that do not go on, too.
        readings: of each network, shared with trails of other lengths.
        prefix: int64 (P,), which of the newest prefixes these are; None for all.
    """

    held: tuple[tuple[np.ndarray, ...], ...]
    addresses: np.ndarray
    held_bytes: int
    readings: tuple[Reading, ...]
    prefix: Tensor | None = None

    @property
    def length(self) -> int:
        """Items read so far, L."""
        return len(self.held)

    def __len__(self) -> int:
        return len(self.held[-1][0]) if self.prefix is None else len(self.prefix)

    @property
    def num_bytes(self) -> int:
        """What is remembered."""
        return self.held_bytes + sum(reading.num_bytes for reading in self.readings)

    def select(self, prefix: Tensor) -> Trail:
        """The trail of some prefixes, in the order given; int64 (R,), repeats allowed."""
        return replace(self, prefix=prefix if self.prefix is None else self.prefix[prefix])

    def further(self, newest: list[np.ndarray]) -> Trail:
        """One item further, with what is `held` of that length."""
        added = np.array([[array.ctypes.data] for array in newest], np.int64)
        held_bytes = self.held_bytes + sum(array.nbytes for array in newest)
        addresses = np.concatenate([self.addresses, added], 1)
        return Trail((*self.held, tuple(newest)), addresses, held_bytes, self.readings)


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
        """The loops for a network, on a CPU and in float64; None if there are none."""
        fma = loops("rsir.models.fma")
        members = list(network.members) if isinstance(network, Ensemble) else [network]
        if fma is None or not fma.supported() or not all(_can(member) for member in members):
            return None
        networks = [member for member in members if isinstance(member, SASRec)]
        return cls(tuple(map(_packed, networks)), tuple(one.config.dim for one in networks))

    @property
    def vectors(self) -> Tensor:
        """Item vectors as `SequenceModel.item_vectors`, float64 (V, D₁ + …)."""
        vectors = [torch.from_numpy(weights[0]) for _, weights in self.networks]
        return torch.cat(vectors, 1) / len(vectors) if len(vectors) > 1 else vectors[0]

    def advance(self, item_P: Tensor, past: Trail | None) -> tuple[Tensor, Trail]:
        """As `SequenceModel.advance`, but for states that are rounded to float32; (P, D₁ + …)."""
        from rsir.models.forward import advance

        past = self._start() if past is None else past
        item, column = np.ascontiguousarray(item_P.numpy()), 0
        parent = np.arange(len(item)) if past.prefix is None else past.prefix.contiguous().numpy()
        states, newest = np.empty((len(item), sum(self.widths)), np.float32), [parent, item]
        parents, items, *kept = past.addresses
        for (shape, weights), width, reading, bases in zip(
            self.networks, self.widths, past.readings, kept, strict=True
        ):
            newest.append(np.empty((len(item), 2 * len(weights[1]) - 2, width)))
            reading.prepare(item, past.length + 1)
            path = parent, parents, items, bases
            given = reading.read, shape, weights, reading.scratch
            advance(item, path, *given, newest[-1], states, column)
            column += width
        return torch.from_numpy(states), past.further(newest)

    def _start(self) -> Trail:
        """Of prefixes without an item."""
        readings = tuple(Reading(shape[0], weights) for shape, weights in self.networks)
        return Trail((), np.empty((2 + len(readings), 0), np.int64), 0, readings)


def _can(network: nn.Module) -> bool:
    """Whether the loops do what this network does."""
    if not isinstance(network, SASRec):
        return False
    config = network.config
    relative = config.positions in ("relative", "none")
    return relative and config.norm == "pre" and not config.scale_embedding and config.cosine is None


def _packed(network: SASRec) -> tuple[tuple[int, float, bool], tuple[np.ndarray, ...]]:
    """What the loops ask for: heads, what scores are multiplied by, whether there is GELU; the weights."""
    from rsir.models.gelu import half_erf

    named = {name: value.to("cpu", torch.float64).numpy() for name, value in network.state_dict().items()}
    config = network.config

    def of_blocks(name: str) -> np.ndarray:
        return np.stack([named[f"blocks.{number}.{name}"] for number in range(config.num_blocks)])

    def linear(name: str, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return _panels(of_blocks(f"{name}.weight"), of_blocks(f"{name}.bias"), parts)

    norms = [[of_blocks(f"{name}.{kind}") for kind in ("weight", "bias")] for name in ("norm1", "norm2")]
    biased = config.positions == "relative"
    weights = (
        named["item.weight"][: network.num_items],  # what stands behind is never scored
        np.ascontiguousarray(np.transpose(norms, (2, 0, 1, 3))),
        np.stack([named["norm_out.weight"], named["norm_out.bias"]]),
        *linear("attention.qkv", 3),
        *linear("attention.out"),
        *linear("feed_forward.0"),
        *linear("feed_forward.3"),
        of_blocks("attention.distance_bias.weight") if biased else np.empty((config.num_blocks, 0, 1)),
        _lined_up(half_erf()),
    )
    scale = (config.dim // config.num_heads) ** -0.5
    return (config.num_heads, scale, config.activation == "gelu"), weights


def _scratch(weights: tuple[np.ndarray, ...], heads: int, length: int) -> tuple[np.ndarray, ...]:
    """Room for some rows of each layer, for the attention weights of one, and for where each looks."""
    from rsir.models.fma import COLUMNS
    from rsir.models.forward import ROWS_AT_ONCE

    _, _, _, qkv, _, mix, _, wide, *_ = weights
    widths = [len(panels[0]) * COLUMNS for panels in (mix, mix, mix, qkv, wide)]
    memory, ends = _aligned(ROWS_AT_ONCE * sum(widths)), accumulate(ROWS_AT_ONCE * width for width in widths)
    rows = [memory[a:b].reshape(ROWS_AT_ONCE, -1) for a, b in pairwise([0, *ends])]
    return *rows, np.empty((heads, length)), np.empty((ROWS_AT_ONCE, 2, length), np.int64)


def _panels(weight: np.ndarray, bias: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, O, I) as (N, O / COLUMNS, I, COLUMNS) and biases (N, O), parts of O padded with zeros."""
    from rsir.models.fma import COLUMNS

    count, out, depth = weight.shape
    padded = -(-out // parts // COLUMNS) * COLUMNS
    panels, biases = _aligned(count, parts, padded, depth), _aligned(count, parts, padded)
    panels[:, :, : out // parts] = weight.reshape(count, parts, -1, depth)
    biases[:, :, : out // parts] = bias.reshape(count, parts, -1)
    columns = panels.reshape(count, -1, COLUMNS, depth)
    return _lined_up(columns.swapaxes(2, 3)), biases.reshape(count, -1)


def _lined_up(values: np.ndarray) -> np.ndarray:
    """A copy in float64 that begins where a line of cache does."""
    found = _aligned(*values.shape)
    found[:] = values
    return found


def _aligned(*shape: int) -> np.ndarray:
    """Zeros in float64 that begin where a line of cache does."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 8)
    first = -memory.ctypes.data % 64 // 8
    return memory[first : first + size].reshape(shape)
