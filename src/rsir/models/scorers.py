"""What generation asks a model: for distinct prefixes, the best K items and the scores of a few.

`TiledScorer` answers for every `SequenceModel` without ever holding prefixes × items;
`DenseScorer` answers for any `Recommender` from its full score rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from rsir.errors import ModelError
from rsir.models.base import Recommender, SequenceModel
from rsir.models.topk import exact_top_k, paired_scores
from rsir.ragged import Ragged


@dataclass(frozen=True)
class Answers:
    """Answers for P prefixes.

    Attributes:
        items: int64 (P, K), the best items of the whole catalogue in the total order (score
            descending, index ascending).
        scores: float64 (P, K), their scores.
        asked: float64 (M,), the scores of the items asked for, in the order asked.
    """

    items: Tensor
    scores: Tensor
    asked: Tensor


class PrefixScorer(Protocol):
    """Scores distinct prefixes; each answer depends on its own prefix only."""

    num_items: int

    def ask(self, prefixes: Ragged, queries: Ragged, top_k: int) -> Answers:
        """Answer for each prefix: its best `top_k` items, and the scores of its queried items.

        Args:
            prefixes: P distinct prefixes, none empty.
            queries: P rows of item indices; rows may be empty.
            top_k: 1 ≤ top_k ≤ num_items.
        """
        ...


class TiledScorer:
    """Exact answers of an inner-product model, prefix batch by catalogue tile.

    States come from a float64 copy of the network and are rounded to float32 once, so that they do
    not depend on the batch they were computed in; scores are then exact (see `topk`).
    The prefix is encoded anew at each step; a decoder with a cache would take its place in `_states`.
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        batch_size: int = 512,
        tile_size: int = 8192,
        device: torch.device | str | None = None,
    ) -> None:
        self.num_items = model.num_items
        self._network = copy.deepcopy(model).to(device).double().eval()
        self._batch_size = batch_size
        self._tile_size = tile_size
        with torch.no_grad():
            self._vectors = self._network.item_vectors().float().contiguous()
            self._max_norm = torch.stack(
                [part.double().norm(dim=1).max() for part in self._vectors.split(65536)]
            )
            self._max_norm = self._max_norm.max()

    @torch.no_grad()
    def ask(self, prefixes: Ragged, queries: Ragged, top_k: int) -> Answers:
        """See `PrefixScorer.ask`."""
        return _in_batches(self._ask_batch, prefixes, queries, top_k, self._batch_size)

    def _ask_batch(self, prefixes: Ragged, queries: Ragged, top_k: int) -> Answers:
        states = self._states(prefixes)
        items, scores = exact_top_k(
            states, self._vectors, top_k, tile_size=self._tile_size, max_norm=self._max_norm
        )
        return Answers(items, scores, paired_scores(states, self._vectors, queries.row, queries.values))

    def _states(self, prefixes: Ragged) -> Tensor:
        return self._network.encode_last(prefixes).float()


class DenseScorer:
    """Answers from the full score rows of any recommender, `batch_size` rows at a time.

    The scores are the model's own: whether they depend on the batch is up to the model.
    """

    def __init__(self, model: Recommender, *, batch_size: int = 512) -> None:
        self.num_items = model.num_items
        self._model = copy.deepcopy(model).eval() if isinstance(model, nn.Module) else model
        self._batch_size = batch_size

    @torch.no_grad()
    def ask(self, prefixes: Ragged, queries: Ragged, top_k: int) -> Answers:
        """See `PrefixScorer.ask`.

        Raises:
            ModelError: if a score is not finite.
        """
        return _in_batches(self._ask_batch, prefixes, queries, top_k, self._batch_size)

    def _ask_batch(self, prefixes: Ragged, queries: Ragged, top_k: int) -> Answers:
        scores = self._model.score(prefixes).double()
        if not bool(scores.isfinite().all()):
            raise ModelError(
                "the model gives scores that are not finite; lower the learning rate or train again"
            )
        best = scores.sort(dim=1, descending=True, stable=True)
        return Answers(best.indices[:, :top_k], best.values[:, :top_k], scores[queries.row, queries.values])


def scorer_for(
    model: Recommender,
    *,
    batch_size: int = 512,
    tile_size: int = 8192,
    device: torch.device | str | None = None,
) -> PrefixScorer:
    """The scorer that fits a model: tiled and exact for a `SequenceModel`, dense for the rest."""
    if isinstance(model, SequenceModel):
        return TiledScorer(model, batch_size=batch_size, tile_size=tile_size, device=device)
    return DenseScorer(model, batch_size=batch_size)


def _in_batches(
    ask: Callable[[Ragged, Ragged, int], Answers],
    prefixes: Ragged,
    queries: Ragged,
    top_k: int,
    batch_size: int,
) -> Answers:
    """The answers of all rows, `batch_size` rows at a time."""
    rows = torch.arange(len(prefixes), device=prefixes.values.device).split(batch_size)
    parts = [ask(prefixes.select(r), queries.select(r), top_k) for r in rows]
    return Answers(
        torch.cat([part.items for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.asked for part in parts]),
    )
