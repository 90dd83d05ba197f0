"""Generation as plain programs write it: the rivals of a benchmark, and the oracle it is held to.

All make the rollouts of RSIR §1 (arXiv 2602.15659) with the choice of the best item (k 1), ranks among
the unseen, and the failing item dropped; all take the same keyed draws.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rsir.data.sequences import Sequences
from rsir.generate import GenerationConfig
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import uniform, uniform_scalar

Score = Callable[[list[list[int]]], Tensor]
"""Scores of all items after each prefix, (B, V)."""


@dataclass(frozen=True)
class Task:
    """What is asked: `config.num_rollouts` rollouts of some sources.

    Attributes:
        rows: of the sources in the data; part of the keys of the draws.
        sources: their items, oldest first.
        config: k 1; the other choices as in the module's docstring.
        keys: seed and round.
        chunk: rollouts scored at a time.
    """

    rows: list[int]
    sources: list[list[int]]
    config: GenerationConfig
    keys: tuple[int, int]
    chunk: int = 512

    @classmethod
    def evenly(
        cls, data: Sequences, count: int, config: GenerationConfig, keys: tuple[int, int], chunk: int = 512
    ) -> Task:
        """The task for `count` sources taken at even distances."""
        rows = torch.linspace(0, len(data) - 1, min(count, len(data))).round().long()
        return cls(rows.tolist(), data.events.select(rows).tolists(), config, keys, chunk)


@dataclass(frozen=True)
class Made:
    """Rollouts, source by source and by number, and how many steps were judged for them."""

    rollouts: list[list[int]]
    steps: int


@dataclass
class _Walk:
    """One rollout on its way."""

    keys: tuple[int, int, int, int]
    own: set[int]
    items: list[int]
    steps: int = 0

    def remaining(self) -> list[int]:
        """The source's items outside the rollout, ascending."""
        return sorted(self.own - set(self.items))

    def move(self, scores_V: Tensor, config: GenerationConfig) -> bool:
        """Judge, choose, append; False at the end. Among equal scores the lower item is first."""
        self.steps += 1
        scores_V[self.items] = float("-inf")
        remaining = self.remaining()
        own_scores = scores_V[remaining]
        place = int(own_scores.argmax())  # the first of equal ones
        ahead = int((scores_V > own_scores[place]).sum())
        ahead += int((scores_V[: remaining[place]] == own_scores[place]).sum())
        if config.max_rank is not None and ahead >= config.max_rank:
            self.items = self.items[:-1] or self.items
            return False
        if len(self.items) == config.max_length:
            return False
        own = uniform_scalar(self.keys[0], "pool", *self.keys[1:], len(self.items) - 1)
        from_own = own < config.own_pool_probability
        self.items.append(remaining[place] if from_own else int(scores_V.argmax()))
        return True


@torch.no_grad()
def row_loop(score: Score, task: Task) -> Made:
    """Rollouts scored side by side, then a Python loop over the rows of every step, as in the release."""
    walks = [
        _Walk((*task.keys, row, number), set(source), source[:1])
        for row, source in zip(task.rows, task.sources, strict=True)
        for number in range(task.config.num_rollouts)
    ]
    active = walks
    while active := [walk for walk in active if walk.remaining()]:
        active = [
            walk for walk, scores in _scored(score, active, task.chunk) if walk.move(scores, task.config)
        ]
    return Made([walk.items for walk in walks], sum(walk.steps for walk in walks))


def _scored(score: Score, walks: list[_Walk], chunk: int) -> Iterator[tuple[_Walk, Tensor]]:
    for start in range(0, len(walks), chunk):
        part = walks[start : start + chunk]
        yield from zip(part, score([walk.items for walk in part]).unbind(), strict=True)


def plain_scores(model: SequenceModel) -> Score:
    """Scores in float32 as the model gives them, whatever rounding does to near ties."""
    device = next(model.parameters()).device
    return lambda prefixes: model.score(Ragged.from_lists(prefixes).to(device))


def exact_scores(model: SequenceModel) -> Score:
    """Scores as the library defines them, one prefix at a time, each remembered.

    The state in float64, rounded to float32; the inner product in float64 by adding halves.
    """
    network = copy.deepcopy(model).cpu().double().eval()
    vectors_VD = network.item_vectors().detach().float().double()
    known: dict[tuple[int, ...], Tensor] = {}

    def score(prefix: tuple[int, ...]) -> Tensor:
        if prefix not in known:
            state_D = network.encode_last(Ragged.from_lists([list(prefix)]))[0].float().double()
            known[prefix] = _by_halves(vectors_VD * state_D)
        return known[prefix].clone()

    return lambda prefixes: torch.stack([score(tuple(prefix)) for prefix in prefixes])


def _by_halves(terms_VD: Tensor) -> Tensor:
    """Sums over the last dimension: the second half is added to the first until one number is left."""
    while (width := terms_VD.shape[1]) > 1:
        half = (width + 1) // 2
        terms_VD = terms_VD[:, :half] + functional.pad(terms_VD[:, half:], (0, 2 * half - width))
    return terms_VD[:, 0]


@torch.no_grad()
def dense(model: SequenceModel, task: Task) -> Made:
    """No loop over rows: rollouts × items in float32 at every step, repeated prefixes too."""
    device, m = next(model.parameters()).device, task.config.num_rollouts
    sources = Ragged.from_lists([sorted(set(source)) for source in task.sources]).to(device)
    own_SW = sources.pad(sources.values, fill=-1)
    source = torch.arange(len(task.rows), device=device).repeat_interleave(m)
    row, number = torch.tensor(task.rows, device=device)[source], torch.arange(m, device=device)
    number = number.repeat(len(task.rows))
    x = torch.tensor([items[0] for items in task.sources], device=device)[source][:, None]
    active, made, steps = torch.arange(len(source), device=device), [list[int]() for _ in source], 0
    while len(active):
        parts = [
            _dense_step(model, x[part], own_SW[source[active[part]]], task.config)
            for part in torch.arange(len(active), device=device).split(task.chunk)
        ]
        own, best, left, held = (torch.cat(column) for column in zip(*parts, strict=True))
        steps += int(left.sum())
        going = left & held & (x.shape[1] < task.config.max_length)
        dropped = left & ~held
        _keep(made, active, x, ~going & ~dropped)
        _keep(made, active, x[:, : max(1, x.shape[1] - 1)], dropped)
        draw = uniform(task.keys[0], "pool", task.keys[1], row[active], number[active], x.shape[1] - 1)
        item = torch.where(draw < task.config.own_pool_probability, own, best)
        x, active = torch.cat([x, item[:, None]], 1)[going], active[going]
    return Made(made, steps)


def _keep(made: list[list[int]], active: Tensor, x: Tensor, which: Tensor) -> None:
    for place, items in zip(active[which].tolist(), x[which].tolist(), strict=True):
        made[place] = items


def _dense_step(
    model: SequenceModel, x_BL: Tensor, own_BW: Tensor, config: GenerationConfig
) -> tuple[Tensor, ...]:
    """Best own item, best item, whether an own item is left, whether it ranks high enough."""
    offsets = torch.arange(len(x_BL) + 1, device=x_BL.device) * x_BL.shape[1]
    scores_BV = model.score(Ragged(x_BL.flatten(), offsets)).scatter_(1, x_BL, float("-inf"))
    own_scores = scores_BV.gather(1, own_BW.clamp(min=0)).masked_fill_(own_BW < 0, float("-inf"))
    own_score, place = own_scores.max(1, keepdim=True)
    ahead = (scores_BV > own_score).sum(1, dtype=torch.int32)
    held = ahead < (config.max_rank or model.num_items)
    left = own_score[:, 0] > float("-inf")
    return own_BW.gather(1, place)[:, 0], scores_BV.argmax(1), left, held
