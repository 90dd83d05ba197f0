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
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rsir.acquire import AcquisitionConfig, acquisition_rule
from rsir.bench.clock import commit
from rsir.data.sequences import OBSERVED, Sequences
from rsir.evaluate import evaluate
from rsir.evidence.significance import hierarchical_bootstrap
from rsir.generate import GenerationConfig, generate
from rsir.models import MODELS, ModelConfig, build_model
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.rng import generator_seed
from rsir.run import Run
from rsir.train import Teacher, fit, period_of
from rsir.weights import load_weights, save_weights

PAPER: dict[str, Any] = {"max_rank": 10}
FREE: dict[str, Any] = {**PAPER, "starts": "random", "top_k": 20, "temperature": 1.0, "num_rollouts": 3}
UNVERIFIED = {**FREE, "max_rank": None, "max_length": 8}
WARM = {"learning_rate": 3e-4, "passes": 8}
FAST = {"learning_rate": 1e-3, "passes": 8}
COLD = {"start": "cold", "learning_rate": 2e-3, "passes": 22}


class Recipe(NamedTuple):
    """What arms have in common that learn from the same synthetic sequences."""

    writers: int
    generation: str
    after: str | None
    keeps: bool
    joined: bool
    acquisition: str


@dataclass(frozen=True)
class Arm:
    """How a successor is made.

    Attributes:
        teachers: how many bases teach: 0 for none, 1 for its own predecessor, more for an ensemble.
        observed: the teacher's share of the targets of observed sequences.
        synthetic: the same of synthetic sequences; None for no synthetic sequences.
        weight: λ, weight of a synthetic sequence.
        generation: settings of the rollouts.
        how: start, learning rate and passes.
        model: what is set anew of the network; another width or backbone (`name`) begins cold.
        generators: how many bases generate and judge, at least as many as teach.
        after: an arm whose kept successors, one of each base, generate in the bases' stead.
        keeps: whether the synthetic sequences of that arm stay in the data, as in the paper's recursion.
        joined: whether the bases generate beside them.
        acquisition: which rollouts are learnt from.
    """

    teachers: int = 0
    observed: float = 0.0
    synthetic: float | None = None
    weight: float = 1.0
    generation: dict[str, Any] = field(default_factory=lambda: dict(FREE))
    how: dict[str, Any] = field(default_factory=lambda: dict(WARM))
    model: dict[str, Any] = field(default_factory=dict)
    generators: int = 1
    after: str | None = None
    keeps: bool = False
    joined: bool = False
    acquisition: dict[str, Any] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        """How its synthetic sequences are made."""
        writers = max(self.generators, self.teachers)
        acquisition = json.dumps(self.acquisition)
        return Recipe(writers, json.dumps(self.generation), self.after, self.keeps, self.joined, acquisition)

    def config(self, base: ModelConfig) -> ModelConfig:
        """The successor's network: the base's with what is set anew, or another backbone's."""
        if "name" in self.model:
            return MODELS[self.model["name"]].config(**self.model)
        return base.model_copy(update=self.model)


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


ARMS |= {
    f"{name}, {label}": replace(arm, how=how)
    for label, how in (("fast", FAST), ("cold", COLD))
    for name, arm in ARMS.items()
}
MANY = {**FREE, "num_rollouts": 9}
LONG = {"learning_rate": 1e-3, "passes": 12}
ARMS |= {
    "3 teachers .9, synthetic x 3, dropout .2": Arm(
        3, 0.9, 1.0, generation=MANY, how=LONG, model={"dropout": 0.2}
    ),
    "3 teachers .9, synthetic x 3": Arm(3, 0.9, 1.0, generation=MANY, how=LONG),
    "3 teachers .9, synthetic x 3, d 128, dropout .3": Arm(
        3, 0.9, 1.0, generation=MANY, how={**COLD, "passes": 16}, model={"dim": 128, "dropout": 0.3}
    ),
    "3 teachers .9, d 128, dropout .3": Arm(
        3, 0.9, how={**COLD, "passes": 16}, model={"dim": 128, "dropout": 0.3}
    ),
    "own teacher .9, synthetic x 3, dropout .2": Arm(
        1, 0.9, 1.0, generation=MANY, how=LONG, model={"dropout": 0.2}
    ),
    "observed, long": Arm(how=LONG),
    "observed, dropout .2": Arm(how=LONG, model={"dropout": 0.2}),
    "3 teachers .9, dropout .2": Arm(3, 0.9, how=LONG, model={"dropout": 0.2}),
}

ROLLOUTS = {"max_rank": None}
"""The paper's rollouts, followed to their natural end: no rank test."""
ARMS |= {
    "observed, cold": Arm(how=COLD),
    "retain-all, cold": Arm(synthetic=0.0, generation=PAPER, how=COLD),
    "whole rollouts": Arm(synthetic=0.0, generation=ROLLOUTS, how=COLD),
    "whole rollouts of 3": Arm(synthetic=0.0, generation=ROLLOUTS, how=COLD, generators=3),
    "verified rollouts of 3": Arm(synthetic=0.0, generation=PAPER, how=COLD, generators=3),
}
WHOLE = ARMS["whole rollouts of 3"]
RANK_100 = replace(WHOLE, generation={"max_rank": 100})
ARMS |= {
    "rollouts of 3, rank 100": RANK_100,
    "whole rollouts of 3, p .8": replace(WHOLE, generation={**ROLLOUTS, "own_pool_probability": 0.8}),
    "whole rollouts of 3, 44 passes": replace(WHOLE, how={**COLD, "passes": 44}),
    "second generation": replace(WHOLE, after="whole rollouts of 3"),
    "second round": replace(WHOLE, after="whole rollouts of 3", keeps=True),
    "second round with the bases, rank 100": replace(
        RANK_100, after="rollouts of 3, rank 100", keeps=True, joined=True
    ),
}
ARMS |= {
    f"10 rollouts of 1, {label}": Arm(
        synthetic=0.0,
        generation={"max_rank": 10, "num_rollouts": 10},
        how=COLD,
        acquisition=rule,
    )
    for label, rule in (
        ("all", {}),
        ("3 a source", {"rule": "cap_per_source", "cap": 3}),
        ("DA-RSIR", {"rule": "disagreement"}),
    )
}
ARMS |= {
    f"{name}, {label}": replace(ARMS[name], model=model)
    for name in ("observed, cold", "whole rollouts of 3", "rollouts of 3, rank 100")
    for label, model in (
        ("d 128", {"dim": 128}),
        ("dropout .3", {"dropout": 0.3}),
        ("d 128, dropout .6", {"dim": 128, "dropout": 0.6}),
    )
}
ARMS |= {
    f"{backbone}, {name}": replace(ARMS[name], model={"name": backbone})
    for backbone in ("hstu", "gru4rec")
    for name in ("observed, cold", "whole rollouts", "whole rollouts of 3", "rollouts of 3, rank 100")
}


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
