"""Generation in plain Python, one rollout at a time: the slow truth the library must equal."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from rsir.data.sequences import Sequences
from rsir.generate import GenerationConfig, StopReason
from rsir.models.base import Recommender, SequenceModel
from rsir.ragged import Ragged
from rsir.rng import uniform_scalar

Score = Callable[[list[int]], list[float]]


@dataclass(frozen=True)
class OracleRollout:
    items: list[int]
    rank: list[int]
    own: list[bool]
    stop: StopReason


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    """The inner product by adding halves, as the library defines it."""
    x = [a * b for a, b in zip(left, right, strict=True)]
    while len(x) > 1:
        x = [*x, 0.0] if len(x) % 2 else x
        half = len(x) // 2
        x = [x[i] + x[half + i] for i in range(half)]
    return x[0]


def score_function(model: Recommender) -> Score:
    """All scores after one prefix, one row at a time."""
    if not isinstance(model, SequenceModel):
        return lambda prefix: model.score(Ragged.from_lists([prefix]))[0].tolist()
    network = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        vectors = network.item_vectors().float().tolist()

    def score(prefix: list[int]) -> list[float]:
        with torch.no_grad():
            state = network.encode_last(Ragged.from_lists([prefix]))[0].float().tolist()
        return [dot(state, vector) for vector in vectors]

    return score


def rollout(
    score: Score, source: list[int], config: GenerationConfig, keys: tuple[int, int, int, int]
) -> OracleRollout:
    """One rollout; keys are seed, round, source row and number of the rollout."""
    own_set, start = set(source), 0
    if config.starts == "random":
        seed, round_index, row, number = keys
        start = int(uniform_scalar(seed, "start", round_index, row, number) * len(source))
    x, rank, own = [source[start]], [0], [False]
    while True:
        remaining = own_set - set(x)
        if not remaining:
            return OracleRollout(x, rank, own, StopReason.EXHAUSTED)
        scores = score(x)
        ranking = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
        unseen = [item for item in ranking if item not in x]
        best = 0
        if config.max_rank is not None:
            among = unseen if config.rank_among == "unseen" else ranking
            best = min(among.index(item) + 1 for item in remaining)
            if best > config.max_rank:
                drop = len(x) - 1 if config.failing_step == "drop" and len(x) > 1 else len(x)
                return OracleRollout(x[:drop], rank[:drop], own[:drop], StopReason.LOW_FIDELITY)
        if len(x) == config.max_length:
            return OracleRollout(x, rank, own, StopReason.MAX_LENGTH)
        item, from_own = _choose(scores, unseen, remaining, config, keys, len(x) - 1)
        x, rank, own = [*x, item], [*rank, best], [*own, from_own]


def _choose(
    scores: list[float],
    unseen: list[int],
    remaining: set[int],
    config: GenerationConfig,
    keys: tuple[int, int, int, int],
    step: int,
) -> tuple[int, bool]:
    seed, round_index, row, number = keys
    from_own = uniform_scalar(seed, "pool", round_index, row, number, step) < config.own_pool_probability
    pool = [item for item in unseen if item in remaining] if from_own else unseen
    best = pool[: config.top_k]
    draw = uniform_scalar(seed, "choice", round_index, row, number, step)
    if config.temperature is None:
        return best[int(draw * len(best))], from_own
    weights = [
        math.exp(scores[item] / config.temperature - scores[best[0]] / config.temperature) for item in best
    ]
    reached, total = 0.0, sum(weights)
    for item, weight in zip(best, weights, strict=True):
        reached += weight
        if reached > draw * total:
            return item, from_own
    return best[-1], from_own


def generate(
    model: Recommender, data: Sequences, config: GenerationConfig, *, seed: int, round_index: int
) -> list[OracleRollout]:
    """All rollouts of a round, source by source."""
    score = score_function(model)
    memo: dict[tuple[int, ...], list[float]] = {}

    def remembered(prefix: list[int]) -> list[float]:
        key = tuple(prefix)
        if key not in memo:
            memo[key] = score(prefix)
        return memo[key]

    rows = [
        row
        for row in range(len(data))
        if int(data.events.lengths[row]) > 0 and (config.sources == "all" or int(data.round_index[row]) == 0)
    ]
    sources = data.events.tolists()
    return [
        rollout(remembered, sources[row], config, (seed, round_index, row, number))
        for row in rows
        for number in range(config.num_rollouts)
    ]
