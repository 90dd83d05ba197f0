"""Bounded exploration: which pool a step draws from, and which of its best items it takes.

RSIR §1 (arXiv 2602.15659): with probability p the candidates are the source's own items, else
the whole catalogue; the choice is the best candidate (release) or a draw among the k best (paper).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.ragged import Ragged


@dataclass(frozen=True)
class Candidates:
    """The best items a step may take, for each of R rows.

    Attributes:
        items_RK: int64, best first; only the first `count` of a row are candidates.
        scores_RK: float64, their scores.
        count_R: int64, from 1 to K.
    """

    items_RK: Tensor
    scores_RK: Tensor
    count_R: Tensor

    @classmethod
    def own(cls, ranked: Ragged, scores: Tensor, k: int) -> Candidates:
        """The first `k` of each row of own items, which stand best first; rows are not empty."""
        count = ranked.lengths.clamp(max=k)
        ahead = torch.minimum(torch.arange(k, device=count.device), count[:, None] - 1)
        place = ranked.offsets[:-1, None] + ahead
        return cls(ranked.values[place], scores[place], count)

    @classmethod
    def listed(cls, items_QK: Tensor, place_Q: Tensor) -> Candidates:
        """One item of each row: that at `place`, or any where `place` is K; without scores."""
        item_Q1 = items_QK.gather(1, place_Q.clamp(max=items_QK.shape[1] - 1)[:, None])
        return cls(item_Q1, torch.zeros_like(item_Q1, dtype=torch.float64), torch.ones_like(place_Q))

    @classmethod
    def free(cls, items_PK: Tensor, scores_PK: Tensor, seen_PK: Tensor, k: int) -> Candidates:
        """The first `k` unseen of the best items of the catalogue."""
        place = seen_PK.to(torch.uint8).sort(dim=1, stable=True).indices[:, :k]
        count = (~seen_PK).sum(1).clamp(max=k)
        return cls(items_PK.gather(1, place), scores_PK.gather(1, place), count)

    def select(self, rows: Tensor) -> Candidates:
        """The given rows."""
        return Candidates(self.items_RK[rows], self.scores_RK[rows], self.count_R[rows])

    def where(self, mine_R: Tensor, other: Candidates) -> Candidates:
        """These candidates in the rows where `mine_R` is true, those of `other` elsewhere."""
        return Candidates(
            torch.where(mine_R[:, None], self.items_RK, other.items_RK),
            torch.where(mine_R[:, None], self.scores_RK, other.scores_RK),
            torch.where(mine_R, self.count_R, other.count_R),
        )


@dataclass(frozen=True)
class BoundedExploration:
    """Chooses the next item of a rollout; all randomness is handed in as uniform draws.

    Attributes:
        own_pool_probability: p in [0, 1]; 1 never leaves the user's own items.
        top_k: k ≥ 1, the draw is among the k best candidates; 1 takes the best.
        temperature: None draws uniformly among them; T > 0 by softmax(scores / T).
    """

    own_pool_probability: float = 0.5
    top_k: int = 1
    temperature: float | None = None

    def own_pool(self, draw_R: Tensor) -> Tensor:
        """Which rows take their candidates from the source's own items; bool (R,)."""
        return draw_R < self.own_pool_probability

    def choose(self, candidates: Candidates, draw_R: Tensor) -> Tensor:
        """The chosen item of each row; `draw_R` in [0, 1), int64 (R,).

        >>> items, scores = torch.tensor([[4, 2], [9, 9]]), torch.zeros(2, 2, dtype=torch.float64)
        >>> candidates = Candidates(items, scores, torch.tensor([2, 1]))
        >>> BoundedExploration(top_k=2).choose(candidates, torch.tensor([0.7, 0.7])).tolist()
        [2, 9]
        """
        count = candidates.count_R.clamp(max=self.top_k)
        if self.temperature is None:
            place = (draw_R * count).long()
        else:
            place = _softmax_place(candidates.scores_RK / self.temperature, count, draw_R)
        return candidates.items_RK.gather(1, place[:, None]).squeeze(1)


def _softmax_place(logits_RK: Tensor, count_R: Tensor, draw_R: Tensor) -> Tensor:
    """The first place whose share of the softmax, added up from the best, exceeds the draw."""
    weight = (logits_RK - logits_RK[:, :1]).exp()
    beyond = torch.arange(logits_RK.shape[1], device=logits_RK.device) >= count_R[:, None]
    reached = weight.masked_fill(beyond, 0.0).cumsum(1)
    place = (reached <= draw_R[:, None] * reached[:, -1:]).sum(1)
    return torch.minimum(place, count_R - 1)
