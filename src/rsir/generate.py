"""Generation: all rollouts of a round at once, one item further at each step.

RSIR §1 (arXiv 2602.15659). Rollouts of the same length move together; those that stand on the
same prefix share one scoring, whoever's they are. Where the model cannot remember so many prefixes, they
move in parts, one part to its end before the next.

Shape suffixes: see `rsir.data.fronts`; K best items of the catalogue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rsir.compiled import loops
from rsir.data.fronts import Front, Pairs, own_item_sets, seen
from rsir.data.rollouts import Chosen, Rollouts, StopReason, join
from rsir.data.sequences import OBSERVED, Sequences
from rsir.errors import DataError
from rsir.explore import BoundedExploration, Candidates
from rsir.fidelity import RankFidelity
from rsir.models.base import Recommender, SequenceModel
from rsir.models.scorers import Answers, Past, PrefixScorer, Remembered, scorer_for
from rsir.models.sought import Sought
from rsir.models.topk import order
from rsir.models.workers import side_by_side, undivided
from rsir.ragged import Ragged
from rsir.rng import hash_scalar, uniform
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
    with undivided() if isinstance(model, SequenceModel) else nullcontext(1) as given:
        threads = given if where.type == "cpu" else 1
        scorer = scorer_for(
            model,
            batch_size=batch_size,
            tile_size=tile_size,
            threads=threads,
            device=where,
            met=sources.item_counts().argsort(descending=True, stable=True),
        )
        run = _Run(scorer, config, data, rows, (seed, round_index), progress)
        front = run.start()
        walks = [_Walk(run) for _ in range(min(threads, len(front.prefixes_PL)))]
        side_by_side(
            lambda n: walks[n].to_the_end(front.part(n, len(walks))), range(len(walks)), threads, run.give_up
        )
        return run.finish(walks, started, home)


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


class _Run:
    """One call of `generate`: what never changes, and where each rollout writes its own end."""

    def __init__(
        self,
        scorer: PrefixScorer,
        config: GenerationConfig,
        data: Sequences,
        rows: Tensor,
        keys: tuple[int, int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.scorer, self.config, self.data, self.keys = scorer, config, data, keys
        self.fidelity, self.exploration = config.fidelity(), config.exploration()
        self.own = own_item_sets(data)
        self.source = rows.repeat_interleave(config.num_rollouts)
        self.number = torch.arange(config.num_rollouts, device=rows.device).repeat(len(rows))
        self.stop = torch.full_like(self.source, StopReason.MAX_LENGTH, dtype=torch.uint8)
        self.first = self.data.events.values[self._start_places()]
        # The one best own item of a step that holds stands in the list; else own items must be scored.
        self.listed = config.top_k == 1 and self.fidelity is not None
        self.pool_draw = np.uint64(hash_scalar(keys[0], "pool", keys[1]))
        self.given_up = False
        self._progress, self._one_at_a_time = progress, Lock()

    def start(self) -> Front:
        """Every rollout with the first item of its source."""
        return Front.start(self.first, self.scorer.num_items)

    def _start_places(self) -> Tensor:
        """Where in the flat events each rollout's first item stands."""
        first = self.data.events.offsets[self.source]
        if self.config.starts == "first":
            return first
        seed, round_index = self.keys
        draw = uniform(seed, "start", round_index, self.source, self.number)
        return first + (draw * self.data.events.lengths[self.source]).long()

    def tell(self, front: Front) -> None:
        """Progress, before a step."""
        if self._progress is not None:
            with self._one_at_a_time:
                self._progress(front.length - 1, len(front))

    def give_up(self) -> None:
        """No further step."""
        self.given_up = True

    def finish(self, walks: list[_Walk], started: float, home: torch.device) -> Rollouts:
        """The record of all rollouts, on the device `home`."""
        failed = self.stop == StopReason.LOW_FIDELITY
        everyone, zero = (
            torch.arange(len(self.source), device=self.source.device),
            torch.zeros_like(self.source),
        )
        chosen = [
            Chosen(everyone, self.first, zero, zero.bool()),
            *(one for walk in walks for one in walk.chosen),
        ]
        events, rank, own = join(chosen, failed & (self.config.failing_step == "drop"))
        checks = sum((walk.checks for walk in walks), Counter[int]())
        passed = sum((walk.passed for walk in walks), Counter[int]())
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
            checks=tuple((checks[length], passed[length]) for length in sorted(checks)),
            distinct_prefixes=sum(walk.distinct_prefixes for walk in walks),
            seconds=time.perf_counter() - started,
        )


class _Walk:
    """Some rollouts of a run on their way to the end; no other walk has their prefixes."""

    def __init__(self, run: _Run) -> None:
        self.run, self.waiting = run, list[Front]()
        self.chosen: list[Chosen] = []
        self.checks, self.passed = Counter[int](), Counter[int]()
        self.distinct_prefixes = 0
        self.memory: tuple[Remembered, ...] | None = None
        self.crowded = False

    def to_the_end(self, front: Front) -> None:
        """Step by step; of fronts in parts the last first."""
        self.waiting.append(front)
        while self.waiting and not self.run.given_up:
            front = self.waiting.pop()
            self.run.tell(front)
            self.waiting += self._parts(self._step(front))

    def _parts(self, further: Front | None) -> list[Front]:
        """What goes on, in parts of which the last is to be followed to its end first.

        A front that is too crowded for the model to remember falls in halves: then each is read once more
        and remembered from there, where the whole would be read anew at every step.
        """
        if further is None or not len(further):
            self.memory = None  # it was of a front that has come to its end
            return []
        halve = self.crowded and len(further.prefixes_PL) >= 2 * _FEWEST
        return list(further.halves()) if halve else [further]

    def _step(self, front: Front) -> Front | None:
        """Own items left? Judge. Not at the maximal length? Choose. Those that go on, one item longer."""
        run = self.run
        front, pairs, exhausted = Pairs.open(front, run.source, run.own)
        if len(exhausted):
            run.stop[exhausted] = StopReason.EXHAUSTED
        full = front.length == run.config.max_length
        if not len(front) or (full and run.fidelity is None):
            return None
        answers = self._ask(front, pairs)
        chosen, prefix = self._follow(front, pairs, answers.items) or self._choose(front, pairs, answers)
        self.checks[front.length] += len(front)
        self.passed[front.length] += len(prefix)
        if full:
            return None
        self.chosen.append(chosen)
        return front.extend(chosen.rollout, prefix, chosen.item, run.scorer.num_items)

    def _ask(self, front: Front, pairs: Pairs) -> Answers:
        """One scoring for each distinct prefix answers the rank test and both choices."""
        run, num_prefixes = self.run, len(front.prefixes_PL)
        needed = max(run.config.max_rank or 0, run.config.top_k) + front.length
        queries = None if run.listed else pairs.by_prefix(num_prefixes)
        best = min(needed, run.scorer.num_items)
        sought = Sought(pairs.prefix, pairs.remaining) if run.listed else None
        answers = run.scorer.ask(front.prefixes_PL, queries, best, self._past(front), sought)
        self.memory, self.crowded = answers.memory, answers.crowded
        self.distinct_prefixes += num_prefixes
        return answers

    def _past(self, front: Front) -> Past | None:
        """What the model remembers of the prefixes that these go on from."""
        if self.memory is None or front.parent is None:
            return None
        return Past(self.memory, front.parent)

    def _follow(self, front: Front, pairs: Pairs, items_PK: Tensor) -> tuple[Chosen, Tensor] | None:
        """`_choose` by a compiled loop, where there is one for this rule."""
        run = self.run
        steps = None if items_PK.is_cuda or not run.listed else loops("rsir.steps")
        if steps is None:
            return None
        config, failed, step = run.config, int(StopReason.LOW_FIDELITY), front.length - 1
        rule = config.max_rank, config.rank_among == "all", config.own_pool_probability, run.pool_draw, step
        of = pairs.of_rollout, pairs.prefix, pairs.remaining.values, pairs.remaining.offsets
        given = (items_PK, front.prefixes_PL), of, (front.rollout, run.source, run.number)
        arrays = (tuple(x.numpy() for x in part) for part in given)
        found, own = steps.follow(*arrays, rule, (run.stop.numpy(), failed))
        rollout, prefix, item, rank = map(torch.from_numpy, found)
        return Chosen(rollout, item, rank, torch.from_numpy(own)), prefix

    def _choose(self, front: Front, pairs: Pairs, answers: Answers) -> tuple[Chosen, Tensor]:
        """What the rollouts that hold take next, and their prefixes; why the others end."""
        run, top_k = self.run, min(self.run.config.top_k, self.run.scorer.num_items)
        items_PK, scores_PK, asked = answers.items, answers.scores, answers.asked
        seen_PK, place = seen(front.prefixes_PL, items_PK), pairs.first_place(items_PK)
        if scores_PK is None or asked is None:  # no draw looks at scores
            scores_PK = torch.zeros((), dtype=torch.float64, device=items_PK.device).expand_as(items_PK)
            own = Candidates.listed(items_PK[pairs.prefix], place)
        else:
            own = Candidates.own(*_best_first(pairs.remaining, asked), top_k)
        rank = torch.zeros_like(place)
        if run.fidelity is not None:
            rank = run.fidelity.best_rank(place, seen_PK[pairs.prefix])
        free = Candidates.free(items_PK, scores_PK, seen_PK, top_k).select(front.prefix)
        from_own = run.exploration.own_pool(self._draw("pool", front))
        candidates = own.select(pairs.of_rollout).where(from_own, free)
        if top_k == 1:
            item = candidates.items_RK[:, 0]
        else:
            item = run.exploration.choose(candidates, self._draw("choice", front))
        return self._judge(front, rank[pairs.of_rollout], item, from_own)

    def _judge(self, front: Front, rank: Tensor, item: Tensor, own: Tensor) -> tuple[Chosen, Tensor]:
        fidelity = self.run.fidelity
        held = torch.ones_like(own) if fidelity is None else fidelity.holds(rank)
        self.run.stop[front.rollout[~held]] = StopReason.LOW_FIDELITY
        return Chosen(front.rollout[held], item[held], rank[held], own[held]), front.prefix[held]

    def _draw(self, purpose: str, front: Front) -> Tensor:
        (seed, round_index), rollout = self.run.keys, front.rollout
        source, number = self.run.source[rollout], self.run.number[rollout]
        return uniform(seed, purpose, round_index, source, number, front.length - 1)


def _best_first(rows: Ragged, scores: Tensor) -> tuple[Ragged, Tensor]:
    """Items and scores with each row in the total order."""
    by_score = order(scores, rows.values)
    best_first = by_score[rows.row[by_score].argsort(stable=True)]
    return Ragged(rows.values[best_first], rows.offsets), scores[best_first]
