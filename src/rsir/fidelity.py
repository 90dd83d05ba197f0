"""Fidelity control: a step holds while the model still ranks one of the user's own items high.

RSIR §1 (arXiv 2602.15659): at prefix x with source set S, the step holds if
`∃ j ∈ S − set(x): rank(j | x) ≤ τ`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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

    def best_rank(
        self, items_QK: Tensor, scores_QK: Tensor, seen_QK: Tensor, own_item_Q: Tensor, own_score_Q: Tensor
    ) -> Tensor:
        """The rank of each row's best remaining own item, `max_rank + 1` for anything later.

        Args:
            items_QK: the best items of the catalogue in the total order; at least
                `max_rank` of them outside the prefix, or all that there are.
            scores_QK: their scores.
            seen_QK: which of them stand in the prefix.
            own_item_Q: the best remaining own item.
            own_score_Q: its score.

        Returns:
            int64 (Q,), 1 is best.

        >>> import torch
        >>> items, scores = torch.tensor([[4, 2, 7]]), torch.tensor([[3.0, 2.0, 1.0]])
        >>> seen = torch.tensor([[True, False, False]])
        >>> rule = RankFidelity(max_rank=2)
        >>> rule.best_rank(items, scores, seen, torch.tensor([7]), torch.tensor([1.0])).tolist()
        [2]
        """
        own_score, own_item = own_score_Q[:, None], own_item_Q[:, None]
        ahead = (scores_QK > own_score) | ((scores_QK == own_score) & (items_QK < own_item))
        if self.among == "unseen":
            ahead = ahead & ~seen_QK
        return (1 + ahead.sum(1)).clamp(max=self.max_rank + 1)

    def holds(self, rank: Tensor) -> Tensor:
        """Whether a step with this best rank is accepted; bool."""
        return rank <= self.max_rank
