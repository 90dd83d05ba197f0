"""What a successor gains from its teachers' distributions, and from synthetic prefixes to ask them at.

    python experiments/successors.py ../shared/data/Toys_and_Games.txt --bases runs/toys-0 runs/toys-1

Each base is a run of `rsir run LOG --rounds 0` with its own seed. An arm trains a successor of one of
them for a fixed number of updates, the same for every arm; it differs from the control "observed" in
what its name says.
Only validation is read, but for the arms named by --test. Resumable: results are JSON lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsir.acquire import RetainAll
from rsir.data.sequences import OBSERVED, Sequences
from rsir.evaluate import evaluate
from rsir.generate import GenerationConfig, generate
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.rng import generator_seed
from rsir.run import Run
from rsir.train import Teacher, fit, period_of

PAPER: dict[str, Any] = {}
FREE: dict[str, Any] = {"starts": "random", "top_k": 20, "temperature": 1.0, "num_rollouts": 3}
UNVERIFIED = {**FREE, "max_rank": None, "max_length": 8}
WARM = {"learning_rate": 3e-4, "passes": 12}
COLD = {"start": "cold", "learning_rate": 2e-3, "passes": 26}


@dataclass(frozen=True)
class Arm:
    """How a successor is made.

    Attributes:
        teachers: how many bases teach: 0 for none, 1 for its own predecessor, more for an ensemble.
        observed: the teacher's share of the targets of observed sequences.
        synthetic: the same of synthetic sequences; None for no synthetic sequences.
        weight: λ, weight of a synthetic sequence.
        generation: settings of the rollouts; the teacher generates and judges.
        how: start, learning rate and passes.
    """

    teachers: int = 0
    observed: float = 0.0
    synthetic: float | None = None
    weight: float = 1.0
    generation: dict[str, Any] = field(default_factory=lambda: dict(FREE))
    how: dict[str, Any] = field(default_factory=lambda: dict(WARM))


ARMS = {
    "observed": Arm(),
    "retain-all": Arm(synthetic=0.0, generation=PAPER),
    "own teacher, observed": Arm(1, 0.5),
    "own teacher, observed + synthetic": Arm(1, 0.5, 1.0),
    "2 teachers, observed": Arm(2, 0.5),
    "2 teachers, observed + synthetic": Arm(2, 0.5, 1.0),
    "3 teachers, observed": Arm(3, 0.5),
    "3 teachers, observed + synthetic": Arm(3, 0.5, 1.0),
    "3 teachers, synthetic alone": Arm(3, 0.0, 1.0),
    "3 teachers, observed .8 + synthetic": Arm(3, 0.8, 1.0),
    "3 teachers, observed + unverified": Arm(3, 0.5, 1.0, generation=UNVERIFIED),
    "3 teachers, observed + synthetic x 3": Arm(3, 0.5, 1.0, generation={**FREE, "num_rollouts": 9}),
}


def cold(arm: Arm) -> Arm:
    return Arm(arm.teachers, arm.observed, arm.synthetic, arm.weight, arm.generation, dict(COLD))


ARMS |= {f"{name}, cold": cold(arm) for name, arm in ARMS.items()}


@cache
def base(folder: Path) -> tuple[Run, SequenceModel]:
    run = Run.open(folder)
    return run, run.model(0)


def teacher_of(bases: list[Path], first: int, count: int) -> SequenceModel:
    """The base itself, or an ensemble that begins with it."""
    chosen = [base(bases[(first + i) % len(bases)])[1] for i in range(count)]
    return chosen[0] if count == 1 else Ensemble(chosen)


def successor(arm: Arm, bases: list[Path], first: int) -> tuple[SequenceModel, dict[str, Any]]:
    run, predecessor = base(bases[first])
    seed, cut = run.config.seed, run.split()
    data, facts = cut.train, {}
    teacher = teacher_of(bases, first, max(1, arm.teachers))
    if arm.synthetic is not None:
        keys = {"seed": seed, "round_index": 1}
        rollouts = generate(teacher, cut.train, GenerationConfig(**arm.generation), **keys)
        admission = RetainAll().admit(rollouts, cut.train, **keys)
        data = Sequences.concat([data, admission.sequences(rollouts, 1)])
        facts = {"synthetic": len(admission.rows), "synthetic_events": data.num_events - cut.train.num_events}
    made = data.round_index != OBSERVED
    share = torch.where(made, arm.synthetic or 0.0, arm.observed)
    training = run.config.training.model_copy(update={"learning_rate": arm.how["learning_rate"]})
    torch.manual_seed(generator_seed(seed, "initial", 1))
    model = build_model(run.config.model, cut.train.num_items)
    if arm.how.get("start") != "cold":
        model.load_state_dict(predecessor.state_dict())
    counts = cut.train.item_counts()
    fitted = fit(
        model,
        data,
        training,
        partial(look, cut.valid, counts),
        seed=generator_seed(seed, "successor", 1) % 2**31,
        weight=torch.where(made, arm.weight, 1.0),
        teacher=Teacher(teacher, share) if arm.teachers else None,
        period=2 * period_of(cut.train, training, model.max_length),
        budget=arm.how["passes"] * period_of(cut.train, training, model.max_length),
        progress=lambda seen: print(f"  {seen.updates} {seen.value:.5f}", flush=True),
    )
    return model, {
        **facts,
        "curve": [round(seen.value, 5) for seen in fitted.looks],
        "best": fitted.best_value,
    }


def look(cases: Any, counts: Tensor, model: SequenceModel) -> dict[str, float]:
    return evaluate(model, cases, counts, with_lists=False).metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--bases", type=Path, nargs="+", required=True)
    parser.add_argument("--arms", nargs="+", default=["observed"], choices=list(ARMS), metavar="ARM")
    parser.add_argument("--first", type=int, nargs="+", default=[0], help="which bases get a successor")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "successors.jsonl")
    parser.add_argument("--test", action="store_true", help="also read the test split, once, at the end")
    given = parser.parse_args()
    for first in given.first:
        for name in given.arms:
            lines = given.out.read_text().splitlines() if given.out.exists() else []
            seed = base(given.bases[first])[0].config.seed
            key = (name, given.log.stem, seed, given.test)
            if any((r["arm"], r["data"], r["seed"], "test" in r) == key for r in map(json.loads, lines)):
                continue
            started = time.process_time()
            model, facts = successor(ARMS[name], given.bases, first)
            cut = base(given.bases[first])[0].split()
            counts = cut.train.item_counts()
            row = {"arm": name, "data": given.log.stem, "seed": seed, "valid": look(cut.valid, counts, model)}
            if given.test:
                row["test"] = look(cut.test, counts, model)
            row |= facts | {"cpu_seconds": round(time.process_time() - started), "commit": commit()}
            with open(given.out, "a", encoding="utf-8") as results:
                results.write(json.dumps(row) + "\n")
            print(name, seed, {k: round(row["valid"][k], 5) for k in ("ndcg@10", "recall@10")}, flush=True)


def commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return asked.stdout.strip()


if __name__ == "__main__":
    main()
