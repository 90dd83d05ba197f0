"""What a successor gains from its teachers' distributions, and from synthetic prefixes to ask them at.

    python experiments/successors.py ../shared/data/Toys_and_Games.txt --bases runs/toys-0 runs/toys-1

Each base is a run of `rsir run LOG --rounds 0` with its own seed. An arm trains a successor of one of
them for a fixed number of updates, the same for every arm; it differs from the control "observed" in
what its name says.
Only validation is read, but with --test, at the end. Resumable: results are JSON lines.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, Recipe
from torch import Tensor

from rsir.acquire import AcquisitionConfig, acquisition_rule
from rsir.bench.clock import commit
from rsir.data.sequences import OBSERVED, Sequences
from rsir.evaluate import evaluate
from rsir.evidence.significance import hierarchical_bootstrap
from rsir.generate import GenerationConfig, generate
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.rng import generator_seed
from rsir.run import Run
from rsir.train import Teacher, fit, period_of
from rsir.weights import load_weights, save_weights


@cache
def base(folder: Path) -> tuple[Run, SequenceModel]:
    run = Run.open(folder)
    return run, run.model(0)


def teacher_of(bases: tuple[Path, ...], first: int, count: int) -> SequenceModel:
    """The base itself, or an ensemble that begins with it."""
    chosen = [base(bases[(first + i) % len(bases)])[1] for i in range(count)]
    return chosen[0] if count == 1 else Ensemble(chosen)


def kept(name: str, folder: Path, keep: Path) -> SequenceModel:
    """The successor that an arm made of a base, if it was kept."""
    run, _ = base(folder)
    model = build_model(ARMS[name].config(run.config.model), run.split().train.num_items).eval()
    load_weights(keep / f"{name}, seed {run.config.seed}.safetensors", model)
    return model


@cache
def synthetic(recipe: Recipe, bases: tuple[Path, ...], first: int, keep: Path | None) -> Sequences:
    """What is written and retain-all admits, for all arms that ask, and what is kept of the arm before."""
    train, keys = base(bases[first])[0].split().train, {"seed": base(bases[first])[0].config.seed}
    writer, keys["round_index"] = teacher_of(bases, first, recipe.writers), 1
    if recipe.after:
        order = [bases[(first + i) % len(bases)] for i in range(recipe.writers)]
        successors = [kept(recipe.after, folder, keep) for folder in order]
        writer = Ensemble([*successors, *(writer.members if recipe.joined else [])])
        keys["round_index"] = 2
    rollouts = generate(writer, train, GenerationConfig(**json.loads(recipe.generation)), **keys)
    chosen = AcquisitionConfig(**json.loads(recipe.acquisition))
    rule = acquisition_rule(chosen, GenerationConfig().min_length, writer)
    made = rule.admit(rollouts, train, **keys).sequences(rollouts, keys["round_index"])
    if recipe.after and recipe.keeps:
        made = Sequences.concat([synthetic(ARMS[recipe.after].recipe(), bases, first, keep), made])
    return made


def successor(
    name: str, bases: tuple[Path, ...], first: int, keep: Path | None
) -> tuple[SequenceModel, dict[str, Any]]:
    arm, (run, predecessor) = ARMS[name], base(bases[first])
    seed, cut = run.config.seed, run.split()
    data, facts = cut.train, {}
    if arm.synthetic is not None:
        made = synthetic(arm.recipe(), bases, first, keep)
        data = Sequences.concat([data, made])
        facts = {"synthetic": len(made), "synthetic_events": made.num_events}
    made = data.round_index != OBSERVED
    share = torch.where(made, arm.synthetic or 0.0, arm.observed)
    training = run.config.training.model_copy(update={"learning_rate": arm.how["learning_rate"]})
    torch.manual_seed(generator_seed(seed, "initial", 1))
    model = build_model(arm.config(run.config.model), cut.train.num_items)
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
        teacher=Teacher(teacher_of(bases, first, arm.teachers), share) if arm.teachers else None,
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
    parser.add_argument("--against", nargs="+", default=["base"], help="with --test: rivals of every arm")
    parser.add_argument("--keep", type=Path, help="folder for weights of successors; second rounds need it")
    parser.add_argument("--test", action="store_true", help="read test with kept weights")
    given = parser.parse_args()
    if given.keep is None and any(ARMS[name].after for name in given.arms):
        parser.error("an arm whose successors write again needs --keep, the folder of their weights")
    if given.test:
        return final(given)
    for first in given.first:
        for name in given.arms:
            lines = given.out.read_text().splitlines() if given.out.exists() else []
            seed = base(given.bases[first])[0].config.seed
            key = (name, given.log.stem, seed)
            if any((r["arm"], r["data"], r["seed"]) == key for r in map(json.loads, lines)):
                continue
            started = time.process_time()
            model, facts = successor(name, tuple(given.bases), first, given.keep)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                save_weights(given.keep / f"{name}, seed {seed}.safetensors", model)
            cut = base(given.bases[first])[0].split()
            valid = look(cut.valid, cut.train.item_counts(), model)
            row = {"arm": name, "data": given.log.stem, "seed": seed, "valid": valid}
            row |= facts | {"cpu_seconds": round(time.process_time() - started), "commit": commit() or ""}
            with open(given.out, "a", encoding="utf-8") as results:
                results.write(json.dumps(row) + "\n")
            print(name, seed, {k: round(valid[k], 5) for k in ("ndcg@10", "recall@10")}, flush=True)


def final(given: argparse.Namespace) -> None:
    """Test figures of kept successors and their bases; each arm against the first, over seeds and users."""
    values: dict[str, list[dict[str, Any]]] = {}
    for first in given.first:
        run, model = base(given.bases[first])
        cut = run.split()
        for name in ["base", *given.arms]:
            if name != "base":
                model = kept(name, given.bases[first], given.keep)
            found = evaluate(model, cut.test, cut.train.item_counts(), with_lists=False)
            values.setdefault(name, []).append({m: found.values(m) for m in ("ndcg@10", "recall@10")})
    for name, found in values.items():
        row: dict[str, Any] = {
            "test": name,
            "data": given.log.stem,
            "seeds": len(found),
            "commit": commit() or "",
        }
        for metric in ("ndcg@10", "recall@10"):
            row[metric] = [round(float(one[metric].mean()), 6) for one in found]
            for rival in [r for r in given.against if r != name]:
                control, mine = (
                    torch.stack([one[metric] for one in side]) for side in (values[rival], found)
                )
                gain = hierarchical_bootstrap(control, mine, seed=0)
                row[f"{metric} against {rival}"] = asdict(gain)
        print(json.dumps(row), flush=True)
        with open(given.out.with_name("successors_test.jsonl"), "a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
