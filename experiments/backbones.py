"""The backbones side by side: default settings and variants, the same passes over the data for each.

    python experiments/backbones.py ../shared/data/Toys_and_Games.txt
    python experiments/backbones.py    # writes the table of docs/models.md anew

Each is trained with the default recipe (whole softmax, AdamW, running mean of the weights), the same
seed and at most PASSES passes, and judged on all validation users. A screening: one seed, a fixed
budget in which none is done learning; differences under about 2 % are noise, and a backbone that learns
slowly looks worse than it is. The test split is not read. A stopped screening goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from figures import short

from rsir import read_log, split
from rsir.bench.clock import commit
from rsir.data.splits import Split
from rsir.evaluate import evaluate
from rsir.models import MODELS, build_model
from rsir.models.base import SequenceModel
from rsir.rng import generator_seed
from rsir.train import TrainingConfig, fit, period_of

START, END = "<!-- backbones -->\n", "<!-- end -->"
PASSES = 8
LOOKS = 2

VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{name: (name, {}, {}) for name in MODELS},
    "esasrec, ffn 4": ("esasrec", {"ffn_factor": 4}, {}),
    "hstu, dropout .2": ("hstu", {"dropout": 0.2}, {}),
    "hstu, 3 layers": ("hstu", {"num_blocks": 3}, {}),
    "hstu, attention dropout .2": ("hstu", {"attention_dropout": 0.2}, {}),
    "cl4srec, λ .3": ("cl4srec", {"contrast": 0.3}, {}),
    "cl4srec, temperature 1": ("cl4srec", {"temperature": 1.0}, {}),
    "bsarec, α .3": ("bsarec", {"filter_share": 0.3}, {}),
    "bsarec, α .7": ("bsarec", {"filter_share": 0.7}, {}),
    "bsarec, c 3": ("bsarec", {"low_frequencies": 3}, {}),
    "fearec, contrast .1": ("fearec", {"contrast": 0.1, "spectral": 0.1}, {}),
    "fearec, all in time": ("fearec", {"time_share": 1.0}, {}),
    "fearec, whole spectrum": ("fearec", {"band": 1.0}, {}),
    "gru4rec, dropout .3": ("gru4rec", {"dropout": 0.3}, {}),
    "gru4rec, state 1 × dim": ("gru4rec", {"hidden_factor": 1}, {}),
    "gru4rec, 2 layers": ("gru4rec", {"num_blocks": 2}, {}),
    "mamba4rec, 2 layers": ("mamba4rec", {"num_blocks": 2}, {}),
    "mamba4rec, 32 states": ("mamba4rec", {"num_states": 32}, {}),
}


def run(name: str, cut: Split, seed: int, passes: int) -> dict[str, Any]:
    """Train one variant and judge it on validation."""
    backbone, shape, training = VARIANTS[name]
    config = TrainingConfig(**{"max_periods": LOOKS, "patience": LOOKS, **training})
    torch.manual_seed(generator_seed(seed, "initial", 0))
    model = build_model(MODELS[backbone].config(**shape), cut.train.num_items)
    counts, judging = cut.train.item_counts(), 0.0

    def validate(model: SequenceModel) -> dict[str, float]:
        nonlocal judging
        started = time.process_time()
        metrics = evaluate(model, cut.valid, counts, with_lists=False).metrics
        judging += time.process_time() - started
        return metrics

    started = time.process_time()
    a_pass = period_of(cut.train, config, model.max_length)
    fitted = fit(model, cut.train, config, validate, seed=seed, period=a_pass * passes // LOOKS)
    best = next(look for look in fitted.looks if look.updates == fitted.best_updates)
    training_seconds = time.process_time() - started - judging
    return {
        "variant": name,
        "seed": seed,
        "backbone": backbone,
        "model": shape,
        "training": training,
        "valid": {key: best.metrics[key] for key in ("ndcg@10", "recall@10")},
        "by_pass": {look.updates // a_pass: round(look.value, 5) for look in fitted.looks},
        "passes": passes,
        "cpu_seconds_per_pass": round(training_seconds * a_pass / fitted.updates, 2),
        "cpu_seconds_of_validation": round(judging / len(fitted.looks), 2),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def main() -> None:
    """Run the variants that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "backbones.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="variants, by name")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.log is None:
        write_table(given.out)
        return
    torch.set_num_threads(given.threads)
    cut = split(read_log(given.log))
    for name in given.only:
        lines = given.out.read_text().splitlines() if given.out.exists() else []
        keys = ("variant", "data", "seed", "passes")
        if (name, given.log.stem, given.seed, given.passes) in {
            tuple(row[key] for key in keys) for row in map(json.loads, lines)
        }:
            continue
        row = {"data": given.log.stem, **run(name, cut, given.seed, given.passes)}
        row |= {"machine": platform.machine(), "commit": commit() or ""}
        with open(given.out, "a", encoding="utf-8") as results:
            results.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}: {row['valid']} {row['cpu_seconds_per_pass']} s a pass", flush=True)


def write_table(results: Path) -> None:
    """Put what was found between the markers of docs/models.md, best first."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    head = "| data | variant | NDCG@10 by pass | best NDCG@10 | Recall@10 | CPU s a pass | parameters |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row["data"], row["passes"], -row["valid"]["ndcg@10"])):
        ndcg, recall = (short(row["valid"][key]) for key in ("ndcg@10", "recall@10"))
        course = ", ".join(f"{place}: {short(value)}" for place, value in row["by_pass"].items())
        lines.append(
            f"| {row['data'].replace('_', ' ')} | {row['variant']} | {course} | {ndcg} | {recall} "
            f"| {row['cpu_seconds_per_pass']:.1f} | {row['parameters']:,} |"
        )
    document = Path(__file__).parent.parent / "docs" / "models.md"
    before, _, rest = document.read_text(encoding="utf-8").partition(START)
    table = "\n".join(lines) + "\n"
    document.write_text(before + START + table + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
