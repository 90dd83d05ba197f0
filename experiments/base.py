"""Which details of the base matter: one factor at a time around the default recipe.

    python experiments/base.py ../shared/data/Toys_and_Games.txt

Each variant is trained with the same seed and at most PASSES passes over the data, in which the
default comes near its best, and judged on all validation users. All but one keep the last weights
and not their running mean, so that what the mean brings is seen, too. A screening: one seed, a
fixed budget; differences under about 2 % are noise. The test split is not read. A stopped
screening goes on where it was: variants already in the results are passed over. Several may run at
once with --part 0/2, --part 1/2.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from rsir import read_log, split
from rsir.bench.clock import commit
from rsir.evaluate import evaluate
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.models.sasrec import SASRecConfig
from rsir.rng import generator_seed
from rsir.train import TrainingConfig, fit, period_of

PASSES = 22
TRAINING = {"max_periods": PASSES // 2, "patience": 4, "ema": None}
SAMPLED = {"loss": "sampled_softmax"}
EACH = {"negatives": "per_position"}

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "d 128": ({"dim": 128}, {}),
    "cosine, scale 20": ({"cosine": 20.0}, {}),
    "mean of weights (.995)": ({}, {"ema": 0.995}),
    "norm after, ReLU": ({"norm": "post", "activation": "relu"}, {}),
    "dropout .4": ({"dropout": 0.4}, {}),
    "batch 128": ({}, {"batch_size": 128}),
    "dropout .6": ({"dropout": 0.6}, {}),
    "1 block": ({"num_blocks": 1}, {}),
    "label smoothing .1": ({}, {"label_smoothing": 0.1}),
    "positions from the end": ({"positions": "from_end"}, {}),
    "positions from the start": ({"positions": "from_start"}, {}),
    "256 negatives, shared": ({}, SAMPLED),
    "256 negatives, shared, logQ": ({}, {**SAMPLED, "log_q": True}),
    "256 negatives each": ({}, {**SAMPLED, **EACH}),
    "256 negatives each, logQ": ({}, {**SAMPLED, **EACH, "log_q": True}),
    "BCE, 1 negative each": ({}, {"loss": "bce", "num_negatives": 1, **EACH}),
    "gBCE, 256 negatives each": ({}, {"loss": "gbce", **EACH}),
    "no positions": ({"positions": "none"}, {}),
    "dropout .2": ({"dropout": 0.2}, {}),
    "initial std .1": ({"init_std": 0.1}, {}),
    "attention dropout .5": ({"attention_dropout": 0.5}, {}),
    "d 256": ({"dim": 256}, {}),
    "3 blocks": ({"num_blocks": 3}, {}),
}


def run(name: str, log: Path, seed: int) -> dict[str, Any]:
    """Train one variant and judge it on validation."""
    shape, training = VARIANTS[name]
    cut = split(read_log(log))
    config = TrainingConfig(**{**TRAINING, **training})
    torch.manual_seed(generator_seed(seed, "initial", 0))
    model = build_model(SASRecConfig(**shape), cut.train.num_items)
    counts = cut.train.item_counts()

    def validate(model: SequenceModel) -> dict[str, float]:
        return evaluate(model, cut.valid, counts, with_lists=False).metrics

    started = time.process_time()
    # the same updates between looks for every variant but those of another batch size
    period = 2 * period_of(cut.train, config, model.max_length)
    fitted = fit(model, cut.train, config, validate, seed=seed, period=period)
    best = next(look for look in fitted.looks if look.updates == fitted.best_updates)
    return {
        "variant": name,
        "data": log.stem,
        "seed": seed,
        "model": shape,
        "training": {**TRAINING, **training},
        "valid": {key: best.metrics[key] for key in ("ndcg@10", "recall@10")},
        "best_pass": 2 * best.period,
        "passes": 2 * len(fitted.looks),
        "cpu_seconds": round(time.process_time() - started, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def main() -> None:
    """Run the variants that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "base.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1", help="this process's share of the variants, such as 0/2")
    parser.add_argument("--only", default="", help="variants whose name holds this")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    mine, parts = map(int, given.part.split("/"))
    for name in [name for name in VARIANTS if given.only in name][mine::parts]:
        lines = given.out.read_text().splitlines() if given.out.exists() else []
        done = [json.loads(line) for line in lines]
        key = (name, given.log.stem, given.seed)
        if any((row["variant"], row["data"], row["seed"]) == key for row in done):
            continue
        row = {**run(name, given.log, given.seed), "machine": platform.machine(), "commit": commit() or ""}
        with open(given.out, "a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")
        print(name, row["valid"], f"{row['cpu_seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
