"""Splits: what is trained on, what selects a model, what is read once at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.ragged import Ragged


@dataclass(frozen=True)
class Cases:
    """Held-out questions: after this history, which item came next?

    Attributes:
        histories: `Ragged` of N rows of item indices, none empty.
        target: int64 (N,), the item that came next.
        user: int64 (N,), whose history it is.
    """

    histories: Ragged
    target: Tensor
    user: Tensor

    def __len__(self) -> int:
        return self.target.numel()

    def to(self, device: str) -> Cases:
        """The same cases on another device."""
        return Cases(self.histories.to(device), self.target.to(device), self.user.to(device))


@dataclass(frozen=True)
class Split:
    """Observed data cut in three. Only `train` is ever handed to generation.

    Attributes:
        train: observed sequences to learn from, one a user.
        valid: cases for model selection.
        test: cases for the final evaluation.
        facts: what the cut did, for the report (kind, counts, cold and repeated targets,
            test events older than the newest training event …); plain JSON values.
    """

    train: Sequences
    valid: Cases
    test: Cases
    facts: dict[str, object] = field(default_factory=dict)
