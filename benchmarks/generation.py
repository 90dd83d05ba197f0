"""Steps a processor second of generation, beside two rivals; prints one JSON object.

    python benchmarks/generation.py --data Toys_and_Games.txt

The model is a SASRec (d 64) trained for a few passes. Rivals make the same rollouts (the same keyed draws)
on the first sources only: `row_loop` scores one prefix at a time; `dense` moves all rollouts
together but scores rollouts × items in float32, repeated prefixes too.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from rsir.config import load_config
from rsir.data.read import from_frame, read_log
from rsir.data.sequences import Sequences
from rsir.data.simulate import simulate
from rsir.data.splits import split
from rsir.generate import GenerationConfig, generate
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged
from rsir.rng import uniform, uniform_scalar
from rsir.train import TrainingConfig, fit

SEED, ROUND = 0, 1
Made = tuple[list[list[int]], int]
"""Rollouts, source by source, and the number of steps judged."""


def trained(data: Sequences, passes: int) -> SASRec:
    torch.manual_seed(SEED)
    model = SASRec(data.num_items, SASRecConfig(dim=64))
    config = TrainingConfig(max_periods=passes, patience=passes)
    looks = count()  # rising, so that the newest weights are kept
    budget = passes * len(data) // config.batch_size
    fit(model, data, config, lambda _: {"ndcg@10": float(next(looks))}, seed=SEED, budget=budget)
    return model.eval()


@torch.no_grad()
def row_loop(model: SASRec, sources: list[list[int]], config: GenerationConfig) -> Made:
    """One prefix at a time; the paper's rule, k 1."""
    made: list[list[int]] = []
    steps = 0
    for row, source in enumerate(sources):
        for number in range(config.num_rollouts):
            x = [source[0]]
            while remaining := set(source) - set(x):
                scores = model.score(Ragged.from_lists([x]))[0]
                scores[torch.tensor(x)] = float("-inf")
                own = max(remaining, key=lambda item: float(scores[item]))
                steps += 1
                if int((scores > scores[own]).sum()) >= (config.max_rank or len(scores)):
                    x = x[:-1] or x
                    break
                if len(x) == config.max_length:
                    break
                draw = uniform_scalar(SEED, "pool", ROUND, row, number, len(x) - 1)
                x.append(own if draw < config.own_pool_probability else int(scores.argmax()))
            made.append(x)
    return made, steps


@torch.no_grad()
def dense(model: SASRec, sources: list[list[int]], config: GenerationConfig) -> Made:
    """All rollouts side by side, rollouts × items scored 512 rows at a time."""
    own_SV = torch.zeros(len(sources), model.num_items, dtype=torch.bool)
    for place, source in enumerate(sources):
        own_SV[place, torch.tensor(source)] = True
    row = torch.arange(len(sources)).repeat_interleave(config.num_rollouts)
    number = torch.arange(config.num_rollouts).repeat(len(sources))
    made = [[sources[int(r)][0]] for r in row]
    active, x = torch.arange(len(row)), torch.tensor(made)
    steps = 0
    while len(active):
        parts = [
            _dense_step(model, x[part], own_SV, row[active[part]], config) for part in _parts(len(active))
        ]
        own, best, judged, held = (torch.cat(column) for column in zip(*parts, strict=True))
        steps += int(judged.sum())
        for place in (judged & ~held).nonzero().flatten().tolist():
            made[int(active[place])] = x[place].tolist()[:-1] or x[place].tolist()
        for place in (~judged | held).nonzero().flatten().tolist():
            made[int(active[place])] = x[place].tolist()
        going = judged & held & (x.shape[1] < config.max_length)
        draw = uniform(SEED, "pool", ROUND, row[active], number[active], x.shape[1] - 1)
        item = torch.where(draw < config.own_pool_probability, own, best)
        x, active = torch.cat([x, item[:, None]], 1)[going], active[going]
    return made, steps


def _parts(total: int) -> tuple[Tensor, ...]:
    return torch.arange(total).split(512)


def _dense_step(
    model: SASRec, x: Tensor, own_SV: Tensor, row: Tensor, config: GenerationConfig
) -> tuple[Tensor, ...]:
    """Best own item, best item, whether an own item is left, whether it ranks high enough."""
    scores = model.score(Ragged.from_lists(x.tolist())).scatter(1, x, float("-inf"))
    own_score, own = scores.masked_fill(~own_SV[row], float("-inf")).max(1)
    ahead = (scores > own_score[:, None]).sum(1)
    return own, scores.argmax(1), own_score > float("-inf"), ahead < (config.max_rank or model.num_items)


def rival(
    act: Callable[..., Made], model: SASRec, sources: list[list[int]], truth: list[list[int]]
) -> dict[str, float]:
    started = time.process_time()
    made, steps = act(model, sources, GenerationConfig())
    seconds = time.process_time() - started
    same = sum(a == b for a, b in zip(made, truth, strict=False)) / len(made)
    return {"steps": steps, "steps_per_cpu_second": round(steps / seconds), "same_rollouts": round(same, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--passes", type=int, default=3)
    asked = parser.parse_args()
    settings = load_config(None, [])
    log = read_log(asked.data) if asked.data else from_frame(simulate(settings.simulation, SEED).frame)
    data = split(log, settings.split).train
    model, sources = trained(data, asked.passes), data.events.tolists()
    started = time.process_time()
    rollouts = generate(model, data, GenerationConfig(), seed=SEED, round_index=ROUND)
    seconds = time.process_time() - started
    truth, rate = rollouts.events.tolists(), rollouts.steps / seconds
    rivals: dict[str, dict[str, float]] = {
        "row_loop": rival(row_loop, model, sources[:100], truth),
        "dense": rival(dense, model, sources[:1000], truth),
    }
    ratios = {f"speedup_vs_{n}": round(rate / r["steps_per_cpu_second"], 1) for n, r in rivals.items()}
    facts = {"threads": torch.get_num_threads(), "sources": len(data), "items": data.num_items}
    ours = {"steps": rollouts.steps, "distinct_prefixes": rollouts.distinct_prefixes}
    speed = {"cpu_seconds": round(seconds, 2), "steps_per_cpu_second": round(rate)}
    peak = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    print(json.dumps({**facts, **ours, **speed, **rivals, **ratios, **peak}, indent=2))


if __name__ == "__main__":
    main()
