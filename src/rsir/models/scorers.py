"""What generation asks a model: for distinct prefixes, the best K items and the scores of a few.

`TiledScorer` answers for every `SequenceModel` without ever holding prefixes × items;
`DenseScorer` answers for any `Recommender` from its full score rows.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rsir.devices import at_once
from rsir.errors import ModelError
from rsir.models.base import Memory, Recommender, SequenceModel
from rsir.models.growing import Growing, Trail
from rsir.models.ranking import top_items
from rsir.models.sought import Sought
from rsir.models.topk import Catalogue, exact_order, exact_top_k, paired_scores
from rsir.ragged import Ragged

Remembered = Memory | Trail
"""What a model remembers of some prefixes."""


@dataclass(frozen=True)
class Answers:
    """Answers for P prefixes.

    Attributes:
        items: int64 (P, K), the best items of the whole catalogue in the total order (score
            descending, index ascending); where something was sought, as far as that needs them.
        scores: float64 (P, K), their scores; None if only the order was asked for.
        asked: float64 (M,), the scores of the items asked for, in the order asked; None likewise.
        memory: what the model remembers of the prefixes, for one item more, in parts; None if nothing.
        crowded: whether it would remember fewer prefixes at a time.
    """

    items: Tensor
    scores: Tensor | None
    asked: Tensor | None
    memory: tuple[Remembered, ...] | None = None
    crowded: bool = False


@dataclass(frozen=True)
class Past:
    """What the model remembers of earlier prefixes, and which of them each prefix goes on from.

    Attributes:
        memory: of prefixes one item shorter, in parts one after another.
        parent: int64 (P,), places in `memory`, ascending.
    """

    memory: tuple[Remembered, ...]
    parent: Tensor

    def of(self, rows: slice) -> Remembered:
        """The memory of some of the P prefixes."""
        if len(self.memory) == 1:
            return self.memory[0].select(self.parent[rows])
        parent = self.parent[rows]
        ends = torch.tensor([len(part) for part in self.memory]).cumsum(0)
        cuts = [0, *torch.searchsorted(parent, ends.to(parent.device)).tolist()]
        parts = zip(self.memory, ends.tolist(), pairwise(cuts), strict=True)
        taken = [part.select(parent[a:b] - end + len(part)) for part, end, (a, b) in parts if a < b]
        return Memory.concat([part for part in taken if isinstance(part, Memory)])


@dataclass(frozen=True)
class Batch:
    """What is asked of some of the prefixes; see `PrefixScorer.ask`.

    Attributes:
        prefixes_PL: P of the prefixes.
        queries: P rows of item indices, or None.
        top_k: best items of each.
        memory: what is remembered of them without their last item, or None.
        sought: what will be looked up in their lists, or None.
        of: prefixes in all, these and the others.
    """

    prefixes_PL: Tensor
    queries: Ragged | None
    top_k: int
    memory: Remembered | None
    sought: Sought | None
    of: int


class PrefixScorer(ABC):
    """Scores distinct prefixes, so many at a time; each answer depends on its own prefix only.

    Args:
        num_items: size of the catalogue.
        batch_size: prefixes at a time; None for all at once.
    """

    def __init__(self, num_items: int, batch_size: int | None) -> None:
        self.num_items, self._batch_size = num_items, batch_size

    @torch.no_grad()
    def ask(
        self,
        prefixes_PL: Tensor,
        queries: Ragged | None,
        top_k: int,
        past: Past | None = None,
        sought: Sought | None = None,
    ) -> Answers:
        """Answer for each prefix: its best `top_k` items, and the scores of its queried items.

        Args:
            prefixes_PL: P ≥ 1 distinct prefixes of one length L ≥ 1.
            queries: P rows of item indices; rows may be empty. None if the order is enough: no scores.
            top_k: 1 ≤ top_k ≤ num_items.
            past: what was remembered of the prefixes without their last item; changes speed only.
            sought: what will be looked up in the lists; without queries they may then end earlier.

        Raises:
            ModelError: if a score is not finite.
        """
        size, answers = len(prefixes_PL), list[Answers]()
        step = self._batch_size or size
        for first in range(0, size, step):
            part, cut = slice(first, min(first + step, size)), step < size
            batch = Batch(
                prefixes_PL[part],
                queries.between(part) if queries and cut else queries,
                top_k,
                past.of(part) if past else None,
                sought.between(part) if sought and cut else sought,
                size,
            )
            answers.append(self._answer(batch))
        return _joined(answers)

    @abstractmethod
    def _answer(self, batch: Batch) -> Answers:
        """The answers for one batch."""


class TiledScorer(PrefixScorer):
    """Exact answers of an inner-product model, prefix batch by catalogue tile.

    States come from a float64 copy of the network and are rounded to float32 once, so that they do
    not depend on the batch they were computed in; scores are then exact (see `topk`).
    A network that is `incremental` reads only what it has not read yet of a prefix; what it remembers is
    handed back, unless that would take more than `memory_bytes`: then prefixes are read again, and the
    answers say that they are `crowded`. By default it may take 512 MiB, on a GPU a quarter of what is free
    and 8 GiB at most, and 1024 prefixes are read at a time, there 8192.
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        batch_size: int | None = None,
        tile_size: int = 16384,
        memory_bytes: int | None = None,
        threads: int = 1,
        device: torch.device | str | None = None,
        met: Tensor | None = None,
    ) -> None:
        self._model, self._device = model, device
        self._growing = None if _elsewhere(model, device) else Growing.of(model)
        vectors = self._growing.vectors if self._growing else self._network.item_vectors()
        self._catalogue = Catalogue.of(vectors.float().contiguous(), tile_size, met)
        _ = self._catalogue.codes  # made once, before threads ask for them
        # loops need no batches: they keep to the cache
        size = batch_size or at_once(vectors.device, cpu=1024, cuda=8192)
        super().__init__(model.num_items, None if self._growing else size)
        if memory_bytes is None:
            memory_bytes = _memory_of(vectors.device)
        self._memory_bytes = memory_bytes // threads  # each thread remembers prefixes of its own

    def _answer(self, batch: Batch) -> Answers:
        states, memory = self._states(batch.prefixes_PL, batch.memory)
        fits = memory is not None and memory.num_bytes * batch.of <= self._memory_bytes * len(states)
        kept, crowded = (memory,) if memory and fits else None, memory is not None and not fits
        return Answers(*self._best_and_asked(states, batch), kept, crowded)

    def _states(self, prefixes_PL: Tensor, memory: Remembered | None) -> tuple[Tensor, Remembered | None]:
        """The state after each prefix, rounded to float32, and what is remembered of it."""
        length = prefixes_PL.shape[1]
        if not self._model.incremental or length > self._model.max_length:
            return self._network.encode_last(_rows(prefixes_PL)).float(), None
        advance: Any = self._network.advance if self._growing is None else self._growing.advance
        for place in range(0 if memory is None else memory.length, length):
            states, memory = advance(prefixes_PL[:, place], memory)
        return states.float(), memory

    @cached_property
    def _network(self) -> SequenceModel:
        """A copy in float64; loops have another one."""
        return copy.deepcopy(self._model).to(self._device).double().eval().requires_grad_(False)

    def _best_and_asked(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The best items, their scores and those of the queried ones; no scores if the order is enough."""
        catalogue, queries = self._catalogue, batch.queries
        if queries is None:
            return exact_order(states, catalogue, batch.top_k, batch.sought), None, None
        items, scores = exact_top_k(states, catalogue, batch.top_k)
        return items, scores, paired_scores(states, catalogue.vectors, queries.row, queries.values)


class DenseScorer(PrefixScorer):
    """Answers from the full score rows of any recommender, `batch_size` rows at a time.

    The scores are the model's own: whether they depend on the batch is up to the model.
    """

    def __init__(self, model: Recommender, *, batch_size: int = 512) -> None:
        super().__init__(model.num_items, batch_size)
        self._model = copy.deepcopy(model).eval() if isinstance(model, nn.Module) else model

    def _answer(self, batch: Batch) -> Answers:
        scores = self._model.score(_rows(batch.prefixes_PL)).double()
        if not bool(scores.isfinite().all()):
            raise ModelError(
                "the model gives scores that are not finite; lower the learning rate or train again"
            )
        items, queries = top_items(scores, batch.top_k), batch.queries
        if queries is None:
            return Answers(items, None, None)
        return Answers(items, scores.gather(1, items), scores[queries.row, queries.values])


def scorer_for(
    model: Recommender,
    *,
    batch_size: int | None = None,
    tile_size: int = 16384,
    threads: int = 1,
    device: torch.device | str | None = None,
    met: Tensor | None = None,
) -> PrefixScorer:
    """The scorer that fits a model: tiled and exact for a `SequenceModel`, dense for the rest.

    A tiled one may be asked by so many threads at a time, and meets items in the order `met`.
    """
    if isinstance(model, SequenceModel):
        return TiledScorer(
            model, batch_size=batch_size, tile_size=tile_size, threads=threads, device=device, met=met
        )
    return DenseScorer(model, batch_size=batch_size or 512)


def _memory_of(device: torch.device) -> int:
    """What a model may remember of prefixes there, in bytes."""
    return min(8 << 30, torch.cuda.mem_get_info(device)[0] // 4) if device.type == "cuda" else 512 << 20


def _elsewhere(model: SequenceModel, device: torch.device | str | None) -> bool:
    """Whether states are not computed on a CPU."""
    here = next(model.parameters(), torch.empty(0)).device
    return (here if device is None else torch.device(device)).type != "cpu"


def _rows(prefixes_PL: Tensor) -> Ragged:
    count, length = prefixes_PL.shape
    return Ragged(prefixes_PL.flatten(), torch.arange(count + 1, device=prefixes_PL.device) * length)


def _joined(parts: list[Answers]) -> Answers:
    """The answers of all batches; their memory if all have one."""
    if len(parts) == 1:
        return parts[0]
    items = torch.cat([part.items for part in parts])
    scores = [part.scores for part in parts if part.scores is not None]
    asked = [part.asked for part in parts if part.asked is not None]
    kept = [one for part in parts for one in part.memory or ()]
    memory = tuple(kept) if len(kept) == len(parts) else None
    crowded = any(part.crowded for part in parts)
    return Answers(
        items, torch.cat(scores) if scores else None, torch.cat(asked) if asked else None, memory, crowded
    )
