"""What a recommender is to the rest of the package.

Everything outside `models/` and `train.py` needs one method, `score`. A network that scores
by an inner product of a prefix state with item vectors also offers `encode` and
`item_vectors`, and gets training losses, tiled evaluation and fast generation for free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rsir.data.batches import Batch
from rsir.ragged import Ragged


@runtime_checkable
class Recommender(Protocol):
    """Anything that ranks the catalogue after a history."""

    num_items: int

    def score(self, histories: Ragged) -> Tensor:
        """Scores of all items after each history; float32 (B, V), higher is better, finite.

        Histories hold item indices, oldest first, and are never empty.
        """
        ...


@dataclass(frozen=True)
class Memory:
    """What a network remembers of P prefixes of one length, to go on without reading them again.

    Attributes:
        tensors: each (P, ...), row p belongs to prefix p: keys and values of attention, or a carried state.
        length: items read so far, L.
    """

    tensors: tuple[Tensor, ...]
    length: int

    @classmethod
    def concat(cls, parts: Sequence[Memory]) -> Memory:
        """The prefixes of all parts, one after another; all of one length."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.tensors for part in parts), strict=True)
        return cls(tuple(torch.cat(column) for column in columns), parts[0].length)

    def __len__(self) -> int:
        return len(self.tensors[0])

    @property
    def num_bytes(self) -> int:
        """What the tensors take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def select(self, prefix: Tensor) -> Memory:
        """The memory of some prefixes, in the order given; int64 (R,), repeats allowed."""
        return Memory(tuple(tensor.index_select(0, prefix) for tensor in self.tensors), self.length)


class SequenceModel(nn.Module, ABC):
    """A network that turns each prefix into a state and scores items by inner product.

    Attributes:
        num_items: size of the catalogue V.
        max_length: the most recent events of a history that the network looks at.
        incremental: whether `advance` is there.
        causal: whether the state after an event is the same whatever comes later. A network that is not
            must be trained on the last place of each prefix, `training.targets = "last"`.
        replayable: whether a GPU may record an update once and replay it for other batches (`rsir.replay`):
            `encode` looks at rows by `Ragged.spread`, draws from PyTorch's own generator alone, leaves
            nothing behind on the CPU, and there is no auxiliary loss. Not inherited: a class says so itself.
        row_by_row: whether the item vectors are the weight of an `nn.Embedding` named `item`, and each use
            looks up rows as its `sparse` says, so that with a sampled loss an update need only move the rows
            that it touches (`rsir.touched`). Not inherited either.
    """

    num_items: int
    max_length: int
    incremental: bool = False
    causal: bool = True
    replayable: bool = False
    row_by_row: bool = False

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        for said in ("replayable", "row_by_row"):
            if said not in vars(cls):
                setattr(cls, said, False)

    @abstractmethod
    def encode(self, histories: Ragged) -> Tensor:
        """The state after every event; (N, D). If `causal`, event t sees events ≤ t of its row only.

        The rows must not be longer than `max_length`.
        """

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """What a state is multiplied with to score items; (V, D)."""

    def advance(self, item_P: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """Go on by one item: the states of P prefixes that are each one item longer.

        Equal to `encode_last` of the longer prefixes up to rounding, as long as they have at most
        `max_length` items.

        Args:
            item_P: int64 (P,), the newest item of each prefix.
            memory: of the prefixes without it; None if it is their first.

        Returns:
            The states, (P, D), and the memory of the longer prefixes.
        """
        raise NotImplementedError(f"{type(self).__name__} reads each prefix anew")

    def auxiliary_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """What a network adds to the loss of a training batch; a scalar, None for nothing.

        Args:
            batch: the sequences; a term should be a mean over them, so that it weighs the same for any
                batch size.
            generator: to draw from, on the batch's device; fixed by the seed and the update.
        """
        return None

    def encode_last(self, histories: Ragged) -> Tensor:
        """The state after the last event of each history; (B, D)."""
        clipped = histories.tail(self.max_length)
        return self.encode(clipped).index_select(0, clipped.last)

    def score(self, histories: Ragged) -> Tensor:
        """Scores of all items after each history; float32 (B, V)."""
        return (self.encode_last(histories) @ self.item_vectors().T).float()
