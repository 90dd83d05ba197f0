"""Generation: all rollouts of a round at once, one item further at each step.

RSIR §1 (arXiv 2602.15659). Rollouts of the same length move together; those that stand on the
same prefix share one scoring, whoever's they are. Where the model cannot remember so many prefixes, they
move in parts, one part to its end before the next.

Shape suffixes: see `rsir.data.fronts`; K best items of the catalogue.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rsir.data.fronts import Front, Pairs, contains, own_item_sets
from rsir.data.rollouts import Chosen, Rollouts, StopReason, join
from rsir.data.sequences import OBSERVED, Sequences
from rsir.errors import DataError
from rsir.explore import BoundedExploration, Candidates
from rsir.fidelity import RankFidelity
from rsir.models.base import Memory, Recommender
from rsir.models.scorers import Past, PrefixScorer, TiledScorer, scorer_for
from rsir.models.topk import order
from rsir.models.workers import undivided
from rsir.ragged import Ragged
from rsir.rng import uniform
from rsir.settings import Settings

_FEWEST = 64
"""Prefixes of a front that is not halved further."""

__all__ = ["GenerationConfig", "Rollouts", "StopReason", "generate"]


class GenerationConfig(Settings):
    """How rollouts are made and judged; names of the paper in the descriptions."""

    num_rollouts: int = Field(5, ge=1, description="m: rollouts of each source sequence")
    own_pool_probability: float = Field(
        0.5, ge=0, le=1, description="p: probability that a step draws from the source's own items"
    )
    top_k: int = Field(1, ge=1, description="k: the item is drawn among the k best; 1 takes the best")
    temperature: float | None = Field(
        None, gt=0, description="draw by softmax(scores / temperature) among the k best; none = uniformly"
    )
    max_rank: int | None = Field(
        100, ge=1, description="τ: an own item must rank this high at each step; none = no fidelity control"
    )
    rank_among: Literal["unseen", "all"] = Field(
        "unseen", description="items that count for a rank: those outside the prefix, or all"
    )
    failing_step: Literal["drop", "keep"] = Field(
        "drop", description="the last item before a failed check: dropped (paper) or kept (release)"
    )
    max_length: int = Field(50, ge=2, description="longest rollout, the start item included")
    min_length: int = Field(3, ge=2, description="shortest rollout that is accepted")
    starts: Literal["first", "random"] = Field(
        "first", description="a rollout begins with its source's first item, or with one drawn from it"
    )
    sources: Literal["observed", "all"] = Field(
        "observed", description="generate from observed sequences only, or from all of D_k"
    )

    def exploration(self) -> BoundedExploration:
        """The rule that chooses items."""
        return BoundedExploration(self.own_pool_probability, self.top_k, self.temperature)

    def fidelity(self) -> RankFidelity | None:
        """The rule that judges steps; None for off."""
        return None if self.max_rank is None else RankFidelity(self.max_rank, self.rank_among)


def generate(
    model: Recommender,
    sources: Sequences,
    config: GenerationConfig,
    *,
    seed: int,
    round_index: int,
    device: torch.device | str | None = None,
    batch_size: int | None = None,
    tile_size: int = 16384,
    progress: Callable[[int, int], None] | None = None,
) -> Rollouts:
    """Generate `num_rollouts` rollouts from each source sequence and judge every step.

    The same arguments give the same rollouts for any `batch_size`, `tile_size`, and number of
    threads; for a `SequenceModel` scores are exact (see `rsir.models.topk`).

    Args:
        model: the trained model θ_k; it is copied, not changed.
        sources: D_k, training data only. Empty sequences have no first item and are passed over.
        config: what to do.
        seed: of all randomness here, together with round, source row, rollout and step.
        round_index: the round k + 1 the rollouts are for.
        device: where to compute; default where the sources are.
        batch_size: prefixes scored at once; default by kind of model.
        tile_size: items scored at once.
        progress: called with (step, active rollouts) before each step.

    Returns:
        The rollouts, on the device of the sources.

    Raises:
        DataError: if there is no source sequence, or the model has another catalogue.
        ModelError: if the model gives a score that is not finite.
    """
    started = time.perf_counter()
    home = sources.events.values.device
    where = torch.device(device) if device is not None else home
    rows = _source_rows(model, sources, config).to(where)
    data = sources.to(where)
    scorer = scorer_for(model, batch_size=batch_size, tile_size=tile_size, device=where)
    run = _Run(scorer, config, data, rows, (seed, round_index))
    with undivided() if isinstance(scorer, TiledScorer) else nullcontext():
        waiting = [run.start()]
        while waiting:
            front = waiting.pop()
            if progress is not None:
                progress(front.length - 1, len(front))
            waiting += run.step(front)
        return run.finish(started, home)


def _source_rows(model: Recommender, sources: Sequences, config: GenerationConfig) -> Tensor:
    """Rows to generate from; int64."""
    if model.num_items != sources.num_items:
        raise DataError(
            f"the model ranks {model.num_items} items but the sources have {sources.num_items}; "
            "generate from the data the model was trained on"
        )
    wanted = sources.events.lengths > 0
    if config.sources == "observed":
        wanted = wanted & (sources.round_index == OBSERVED)
    rows = wanted.nonzero().squeeze(1)
    if not rows.numel():
        raise DataError(
            f"none of {len(sources)} sequences can be a source with sources='{config.sources}'; "
            "give observed sequences that are not empty"
        )
    return rows


@dataclass(frozen=True)
class _Scored:
    """What one step knows before it chooses.

    Attributes:
        pairs: the distinct (prefix, source) pairs.
        place: int64 (Q,), where the first of a pair's remaining items stands among the best; K if nowhere.
        own: the candidates of each pair among these items.
        items_PK: the best items of each prefix.
        scores_PK: their scores; zeros where no draw looks at them.
        seen_PK: which of them stand in the prefix.
    """

    pairs: Pairs
    place: Tensor
    own: Candidates
    items_PK: Tensor
    scores_PK: Tensor
    seen_PK: Tensor


class _Run:
    """One call of `generate`: what never changes, and the growing record."""

    def __init__(
        self,
        scorer: PrefixScorer,
        config: GenerationConfig,
        data: Sequences,
        rows: Tensor,
        keys: tuple[int, int],
    ) -> None:
        self.scorer, self.config, self.data, self.keys = scorer, config, data, keys
        self.fidelity, self.exploration = config.fidelity(), config.exploration()
        self.own = own_item_sets(data)
        self.source = rows.repeat_interleave(config.num_rollouts)
        self.number = torch.arange(config.num_rollouts, device=rows.device).repeat(len(rows))
        self.stop = torch.full_like(self.source, StopReason.MAX_LENGTH, dtype=torch.uint8)
        self.chosen: list[Chosen] = []
        self.checks: dict[int, tuple[int, int]] = {}
        self.distinct_prefixes = 0
        self.top_k = min(config.top_k, scorer.num_items)
        self.memory: tuple[Memory, ...] | None = None
        self.crowded = False

    def start(self) -> Front:
        """Every rollout with the first item of its source."""
        front = Front.start(self.data.events.values[self._start_places()])
        zero = torch.zeros_like(front.prefix)
        self.chosen.append(Chosen(front.rollout, front.prefixes_PL[front.prefix, 0], zero, zero.bool()))
        return front

    def _start_places(self) -> Tensor:
        """Where in the flat events each rollout's first item stands."""
        first = self.data.events.offsets[self.source]
        if self.config.starts == "first":
            return first
        seed, round_index = self.keys
        draw = uniform(seed, "start", round_index, self.source, self.number)
        return first + (draw * self.data.events.lengths[self.source]).long()

    def step(self, front: Front) -> list[Front]:
        """One item further; what goes on, in parts of which the last is to be followed to its end first.

        A front that is too crowded for the model to remember falls in halves: then each is read once more
        and remembered from there, where the whole would be read anew at every step.
        """
        further = self._step(front)
        if not len(further):
            self.memory = None  # it was of a front that has come to its end
            return []
        halve = self.crowded and len(further.prefixes_PL) >= 2 * _FEWEST
        return list(further.halves()) if halve else [further]

    def _step(self, front: Front) -> Front:
        """Own items left? Judge. Not at the maximal length? Choose. Those that go on, one item longer."""
        front, pairs = self._drop_exhausted(front)
        full = front.length == self.config.max_length
        if not len(front) or (full and self.fidelity is None):
            return front.keep(torch.zeros_like(front.rollout, dtype=torch.bool))
        scored = self._score(front, pairs)
        rank, held = self._judge(front, scored)
        going = torch.zeros_like(held) if full else held
        item, own = self._choose(front, scored, going)
        self.chosen.append(Chosen(front.rollout[going], item, rank[going], own))
        return front.extend(going, item, self.scorer.num_items)

    def _drop_exhausted(self, front: Front) -> tuple[Front, Pairs]:
        pairs = Pairs.of(front, self.source[front.rollout], self.own)
        left = (pairs.remaining.lengths > 0)[pairs.of_rollout]
        self.stop[front.rollout[~left]] = StopReason.EXHAUSTED
        if bool(left.all()):
            return front, pairs
        front = front.keep(left)
        return front, Pairs.of(front, self.source[front.rollout], self.own)

    def _score(self, front: Front, pairs: Pairs) -> _Scored:
        """One scoring for each distinct prefix answers the rank test and both choices."""
        num_prefixes = len(front.prefixes_PL)
        needed = max(self.config.max_rank or 0, self.config.top_k) + front.length
        best = min(needed, self.scorer.num_items)
        # The one best own item of a step that holds stands in the list; else own items must be scored.
        listed = self.config.top_k == 1 and self.fidelity is not None
        queries = None if listed else pairs.by_prefix(num_prefixes)
        answers = self.scorer.ask(front.prefixes_PL, queries, best, self._past(front))
        self.memory, self.crowded = answers.memory, answers.crowded
        self.distinct_prefixes += num_prefixes
        items_PK, scores_PK, asked = answers.items, answers.scores, answers.asked
        each = torch.arange(num_prefixes, device=items_PK.device)[:, None].expand_as(items_PK)
        seen_PK = contains(front.prefixes_PL, each, items_PK)
        place = pairs.first_place(items_PK)
        if scores_PK is None or asked is None:
            scores_PK = torch.zeros((), dtype=torch.float64, device=items_PK.device).expand_as(items_PK)
            own = Candidates.listed(items_PK[pairs.prefix], place)
        else:
            own = Candidates.own(*_best_first(pairs.remaining, asked), self.top_k)
        return _Scored(pairs, place, own, items_PK, scores_PK, seen_PK)

    def _past(self, front: Front) -> Past | None:
        """What the model remembers of the prefixes that these go on from."""
        if self.memory is None or front.parent is None:
            return None
        return Past(self.memory, front.parent)

    def _judge(self, front: Front, scored: _Scored) -> tuple[Tensor, Tensor]:
        """The best rank of a remaining own item for each rollout, and whether its step holds."""
        if self.fidelity is None:
            rank = torch.zeros_like(front.rollout)
            held = torch.ones_like(rank, dtype=torch.bool)
        else:
            rank_Q = self.fidelity.best_rank(scored.place, scored.seen_PK[scored.pairs.prefix])
            rank = rank_Q[scored.pairs.of_rollout]
            held = self.fidelity.holds(rank)
        checked, passed = self.checks.get(front.length, (0, 0))
        self.checks[front.length] = checked + len(held), passed + int(held.sum())
        self.stop[front.rollout[~held]] = StopReason.LOW_FIDELITY
        return rank, held

    def _choose(self, front: Front, scored: _Scored, going: Tensor) -> tuple[Tensor, Tensor]:
        """The next item of each rollout that goes on, and whether it came from the own pool."""
        rollout = front.rollout[going]
        own = scored.own.select(scored.pairs.of_rollout[going])
        free = Candidates.free(scored.items_PK, scored.scores_PK, scored.seen_PK, self.top_k)
        from_own = self.exploration.own_pool(self._draw("pool", rollout, front.length))
        candidates = own.where(from_own, free.select(front.prefix[going]))
        return self.exploration.choose(candidates, self._draw("choice", rollout, front.length)), from_own

    def _draw(self, purpose: str, rollout: Tensor, length: int) -> Tensor:
        seed, round_index = self.keys
        return uniform(seed, purpose, round_index, self.source[rollout], self.number[rollout], length - 1)

    def finish(self, started: float, home: torch.device) -> Rollouts:
        """The record of all rollouts, on the device `home`."""
        failed = self.stop == StopReason.LOW_FIDELITY
        events, rank, own = join(self.chosen, failed & (self.config.failing_step == "drop"))
        return Rollouts(
            events=events.to(home),
            num_items=self.scorer.num_items,
            source=self.source.to(home),
            rollout=self.number.to(home),
            user=self.data.user[self.source].to(home),
            stop_reason=self.stop.to(home),
            rank=rank.to(home),
            own=own.to(home),
            min_length=self.config.min_length,
            checks=tuple(self.checks[length] for length in sorted(self.checks)),
            distinct_prefixes=self.distinct_prefixes,
            seconds=time.perf_counter() - started,
        )


def _best_first(rows: Ragged, scores: Tensor) -> tuple[Ragged, Tensor]:
    """Items and scores with each row in the total order."""
    by_score = order(scores, rows.values)
    best_first = by_score[rows.row[by_score].argsort(stable=True)]
    return Ragged(rows.values[best_first], rows.offsets), scores[best_first]
