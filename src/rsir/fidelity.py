"""Fidelity control: a step holds while the model still ranks one of the user's own items high.

RSIR §1 (arXiv 2602.15659): at prefix x with source set S, the step holds if
`∃ j ∈ S − set(x): rank(j | x) ≤ τ`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class RankFidelity:
    """The paper's rank test.

    Attributes:
        max_rank: τ ≥ 1, the last rank that still counts as faithful.
        among: "unseen" ranks among the items outside the prefix; "all" counts the items of
            the prefix too (the release does).
    """

    max_rank: int = 10
    among: Literal["unseen", "all"] = "unseen"

    def best_rank(self, place_Q: Tensor, seen_QK: Tensor) -> Tensor:
        """The rank of each row's best remaining own item, `max_rank + 1` for anything later.

        Args:
            place_Q: where it stands among the best K items of the catalogue, from 0; K if it is not there.
            seen_QK: which of these stand in the prefix. At least `max_rank` of them must not, unless K
                is the whole catalogue.

        Returns:
            int64 (Q,), 1 is best.

        >>> seen = torch.tensor([[True, False, False]])
        >>> RankFidelity(max_rank=2).best_rank(torch.tensor([2]), seen).tolist()
        [2]
        """
        ahead = place_Q
        if self.among == "unseen":
            before = torch.arange(seen_QK.shape[1], device=place_Q.device) < place_Q[:, None]
            ahead = place_Q - (seen_QK & before).sum(1)
        return (1 + ahead).clamp(max=self.max_rank + 1)

    def holds(self, rank: Tensor) -> Tensor:
        """Whether a step with this best rank is accepted; bool."""
        return rank <= self.max_rank
