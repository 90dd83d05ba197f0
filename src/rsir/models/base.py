"""What a recommender is to the rest of the package.

Everything outside `models/` and `train.py` needs one method, `score`. A network that scores
by an inner product of a prefix state with item vectors also offers `encode` and
`item_vectors`, and gets training losses, tiled evaluation and fast generation for free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

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


class SequenceModel(nn.Module, ABC):
    """A network that turns each prefix into a state and scores items by inner product.

    Attributes:
        num_items: size of the catalogue V.
        max_length: the most recent events of a history that the network looks at.
    """

    num_items: int
    max_length: int

    @abstractmethod
    def encode(self, histories: Ragged) -> Tensor:
        """The state after every event; (N, D). Causal: event t sees events ≤ t of its row only.

        The rows must not be longer than `max_length`.
        """

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """What a state is multiplied with to score items; (V, D)."""

    def encode_last(self, histories: Ragged) -> Tensor:
        """The state after the last event of each history; (B, D)."""
        clipped = histories.tail(self.max_length)
        return self.encode(clipped).index_select(0, clipped.last)

    def score(self, histories: Ragged) -> Tensor:
        """Scores of all items after each history; float32 (B, V)."""
        return (self.encode_last(histories) @ self.item_vectors().T).float()
