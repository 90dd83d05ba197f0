"""The claims of the RSIR paper (arXiv 2602.15659, 2610.04302), tried one by one on small data.

    python experiments/reproduction.py                      # the whole matrix, the most telling first
    python experiments/reproduction.py --studies rounds acquisition --bases weak --seeds 3 4
    python experiments/reproduction.py --log ../shared/data/Toys_and_Games.txt --studies rounds

Every run is a recursion of `rsir.recursion` in a run directory of its own, beside its matched control.
Without `--log` each seed simulates users of its own, whose law is known. All arms make the same number of
updates, with as many looks at validation, so base and control are the same for all arms of a seed and are
trained once. Nothing is chosen on the test split: it is read for every round, and every round is reported.

Resumable: a row of results/reproduction.jsonl is one run, and a row that is there is not made again. The
plots and the tables of docs/reproduction.md come from them: reproduction_plots.py. With `--scratch` a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measures import ROWS, STEPS, about

from rsir.bench.clock import commit
from rsir.config import Config, load_config
from rsir.data.sequences import Sequences
from rsir.data.splits import Split, split
from rsir.data.synthetic import from_frame
from rsir.data.truth import Truth
from rsir.devices import environment
from rsir.evaluate import Evaluation, evaluate
from rsir.evidence.breakdown import true_error
from rsir.evidence.sharpness import largest_eigenvalue
from rsir.launch import open_log
from rsir.ragged import Ragged
from rsir.recursion import recurse
from rsir.rng import uniform
from rsir.run import Run
from rsir.store import RunStore

METRICS = ("ndcg@10", "recall@10")
RESULTS = Path(__file__).parent / "results" / "reproduction.jsonl"

WORLD = (
    "simulation.num_users=2000",
    "simulation.num_items=1200",
    "simulation.num_successors=8",
    "simulation.follow_share=0.5",
    "simulation.noise_share=0.1",
)
COMMON = (
    "model.dim=32",
    "model.num_blocks=1",
    "model.num_heads=1",
    "training.min_period=100",
    "recursion.patience=none",
    "recursion.collapse=none",
    "recursion.bases=1",
    "recursion.writers=newest",
    "recursion.newcomers=0",
    "recursion.synthetic=all",
    "generation.max_rank=10",
)
WEAK = (
    "model.norm=post",
    "model.positions=from_start",
    "model.activation=relu",
    "model.dropout=0.2",
    "training.loss=bce",
    "training.num_negatives=1",
    "training.negatives=per_position",
    "training.ema=none",
    "training.learning_rate=0.003",
)
STRONG = ("model.dropout=0.3", "training.learning_rate=0.005")
BASES = {"weak": (WEAK, 5), "strong": (STRONG, 6)}
"""Settings of a base, and the periods that each of its models is trained for."""


@dataclass(frozen=True)
class Arm:
    """What is done with the rollouts: rounds, and settings beside the paper's defaults τ 10, p .5, m 5."""

    rounds: int = 1
    settings: tuple[str, ...] = ()
    controls: str = "updates"


def sweep(name: str, setting: str, values: tuple[float, ...]) -> dict[str, Arm]:
    return {f"{name} {value:g}": Arm(settings=(f"{setting}={value}",)) for value in values}


TAU = sweep("tau", "generation.max_rank", (1, 3, 5, 20, 50, 100))
OWN = sweep("p", "generation.own_pool_probability", (0, 0.2, 0.4, 0.6, 0.8, 1))
ROLLOUTS = sweep("m", "generation.num_rollouts", (1, 10, 20))
MANY = "generation.num_rollouts=10"
ACQUISITION = {
    "disagreement": Arm(settings=(MANY, "acquisition.rule=disagreement")),
    "cap 3": Arm(settings=(MANY, "acquisition.rule=cap_per_source", "acquisition.cap=3")),
    "cap 1": Arm(settings=(MANY, "acquisition.rule=cap_per_source", "acquisition.cap=1")),
    "lowest": Arm(settings=(MANY, "acquisition.rule=disagreement", "acquisition.keep=lowest")),
    "highest": Arm(settings=(MANY, "acquisition.rule=disagreement", "acquisition.keep=highest")),
    "balanced": Arm(settings=(MANY, "acquisition.rule=balanced")),
}
ROUNDS = {
    "rsir": Arm(4),
    "no fidelity": Arm(3, ("generation.max_rank=none",)),
}
SEVERAL = {
    "3 bases": Arm(3, ("recursion.bases=3",)),
    "3 bases, no fidelity": Arm(3, ("recursion.bases=3", "generation.max_rank=none")),
}
SINGLE = {"once": Arm(), "unverified": Arm(controls="updates,unverified")}
ARMS = {**ROUNDS, **SEVERAL, **TAU, **OWN, **ROLLOUTS, **ACQUISITION, **SINGLE}


@dataclass(frozen=True)
class Study:
    """Which arms a claim needs, and on what data."""

    arms: tuple[str, ...]
    start: str = "cold"
    noise: tuple[float, ...] = (0.0,)


STUDIES = {
    "rounds": Study(tuple(ROUNDS)),
    "warm": Study(tuple(ROUNDS), start="warm"),
    "several": Study(tuple(SEVERAL)),
    "tau": Study(tuple(TAU)),
    "own": Study(tuple(OWN)),
    "rollouts": Study(tuple(ROLLOUTS)),
    "acquisition": Study(("m 10", "cap 3", "cap 1", "disagreement")),
    "bins": Study(("lowest", "highest", "balanced")),
    "unverified": Study(("unverified",)),
    "noise": Study(("once",), noise=(0.1, 0.25, 0.5)),
}
MATRIX = (
    ("rounds", "weak", 0),
    ("tau", "weak", 0),
    ("rounds", "strong", 0),
    ("acquisition", "weak", 0),
    ("noise", "weak", 0),
    ("rounds", "weak", 1),
    ("own", "weak", 0),
    ("rollouts", "weak", 0),
    ("unverified", "weak", 0),
    ("rounds", "weak", 2),
    ("acquisition", "weak", 1),
    ("warm", "strong", 0),
    ("tau", "strong", 0),
    ("bins", "weak", 0),
    ("rounds", "strong", 1),
    ("acquisition", "weak", 2),
    ("warm", "weak", 0),
    ("rounds", "strong", 2),
    ("acquisition", "strong", 0),
    ("noise", "weak", 1),
    ("several", "strong", 0),
    ("several", "strong", 1),
    ("several", "strong", 2),
    ("several", "weak", 0),
)
"""Study, base and seed; what stands first says most."""


@dataclass(frozen=True)
class Job:
    """One run: what tells its row from all others."""

    data: str
    base: str
    start: str
    noise: float
    arm: str
    seed: int

    def config(self) -> Config:
        settings, periods = BASES[self.base]
        arm = self.what
        return load_config(
            overrides=[
                *(WORLD if self.data == "simulated" else ()),
                *COMMON,
                *settings,
                *arm.settings,
                f"seed={self.seed}",
                f"recursion.start={self.start}",
                f"recursion.rounds={arm.rounds}",
                f"recursion.control={arm.controls}",
                f"training.max_periods={periods}",
                f"training.patience={periods}",
            ]
        )

    @property
    def what(self) -> Arm:
        return ARMS[self.arm]


def jobs(cells: Iterable[tuple[str, str, int]], data: str) -> Iterator[Job]:
    """All runs of (study, base, seed)."""
    for name, base, seed in cells:
        study = STUDIES[name]
        for noise in study.noise:
            yield from (Job(data, base, study.start, noise, arm, seed) for arm in study.arms)


def noisy(train: Sequences, ratio: float, seed: int) -> Sequences:
    """The sequences with a random item after an event in `ratio` of all cases; histories of cases stay clean.

    >>> import torch
    >>> from rsir.ragged import Ragged
    >>> clean = Sequences.observed(Ragged.from_lists([[0, 1], [2]]), 3)
    >>> [len(row) for row in noisy(clean, 1.0, seed=0).events.tolists()]
    [4, 2]
    """
    events = train.events
    keys = ("noise", train.user[events.row], events.position)
    inserted = uniform(seed, *keys, 0) < ratio
    item = (uniform(seed, *keys, 1) * train.num_items).long()
    pairs = torch.stack([events.values, item], 1)
    kept = torch.stack([torch.ones_like(inserted), inserted], 1)
    more = torch.zeros_like(events.lengths).index_add(0, events.row, inserted.long())
    mixed = Ragged.from_lengths(pairs[kept], events.lengths + more)
    return Sequences.observed(mixed, train.num_items, train.user)


def perform(job: Job, log: Path | None, scratch: Path) -> dict[str, Any]:
    """Make one run and describe it; the run directory is removed, base and control are kept for the next."""
    started, config = time.process_time(), job.config()
    interactions, truth = open_log(log, config)
    cut = split(interactions, config.split)
    if job.noise:
        cut = replace(cut, train=noisy(cut.train, job.noise, job.seed))
    folder = scratch / "-".join(map(str, vars(job).values())).replace(" ", "_")
    where, facts = torch.device("cpu"), {"users": len(interactions.users), "items": len(interactions.items)}
    store = RunStore(folder)
    if not (folder / "data.json").is_file():
        store = RunStore.create(folder, config, interactions, facts, environment(where), truth)
    shared = scratch / f"{job.data}-{job.base}-{job.noise:g}-{job.seed}"
    exchange(shared, store.folder, job.start, back=False)
    outcome = recurse(cut, interactions, config, store, device=where, truth=truth)
    exchange(shared, store.folder, job.start, back=True)
    run = Run(store)
    row: dict[str, Any] = {"events": cut.train.num_events, "chosen": outcome["chosen_round"]}
    row["rounds"] = rounds_of(run, cut, truth)
    if job.arm in ROUNDS and not job.noise:
        row["sharpness"] = sharpness(run, cut)
    shutil.rmtree(folder)
    return row | {"cpu_seconds": round(time.process_time() - started, 1)}


def exchange(shared: Path, folder: Path, start: str, *, back: bool) -> None:
    """Copy base and control to the run from those shared by its arms, or back."""
    pairs = [(shared / "base", folder / "rounds" / "0")]
    pairs += [(shared / start / str(k), folder / "control" / str(k)) for k in range(1, 10)]
    for ours, its in pairs:
        here, there = (its, ours) if back else (ours, its)
        if (here / "round.json").is_file() and not there.exists():
            shutil.copytree(here, there)


def rounds_of(run: Run, cut: Split, truth: Truth | None) -> list[dict[str, Any]]:
    """Each round: figures of its model and its controls, and what it was trained on."""
    counts, config, data, rows = cut.train.item_counts(), run.config.evaluation, cut.train, []
    for k in range(len(run.store.arms("rounds"))):
        if k:
            frame = run.store.arm("rounds", k).frame("synthetic")
            made = from_frame(frame, run.interactions, data)
            data = Sequences.concat([data, made])
        row: dict[str, Any] = {"round": k, "data": about(data, cut.train)}
        if facts := run.store.arm("rounds", k).generation():
            row["generation"] = facts_of(facts)
        seen: dict[str, Evaluation] = {}
        for name, arm in (("model", "rounds"), ("control", "control"), ("unverified", "controls/unverified")):
            if not run.store.arm(arm, k).done:
                continue
            model = run.model(k, arm)
            seen[name] = evaluate(model, cut.test, counts, config, with_lists=False)
            row[name] = figures(run.store.arm(arm, k).record()["valid"], seen[name])
            if truth is not None:
                row[name]["error"] = true_error(model, cut.valid, run.interactions, truth, most=1000)
        if "control" in seen:
            row["gain"] = {name: against(seen["model"], seen["control"], name) for name in METRICS}
        rows.append(row)
    return rows


def facts_of(facts: dict[str, Any]) -> dict[str, Any]:
    """What generation and admission did."""
    kept = {key: facts[key] for key in ("rollouts", "accepted", "mean_length", "own_share", "stop_reasons")}
    leaked = facts.get("leakage")
    return {**kept, "admission": facts["admission"], "leakage": leaked, "seconds": round(facts["seconds"], 2)}


def figures(valid: dict[str, float], test: Evaluation) -> dict[str, Any]:
    return {
        "valid": {name: valid[name] for name in METRICS},
        "test": {name: test.metrics[name] for name in METRICS},
    }


def against(model: Evaluation, control: Evaluation, metric: str) -> dict[str, float]:
    """Difference of means on test, and its standard error over users (paired)."""
    difference = model.values(metric) - control.values(metric)
    error = float(difference.std() / len(difference) ** 0.5)
    return {"difference": float(difference.mean()), "standard_error": error}


def sharpness(run: Run, cut: Split) -> dict[str, float]:
    """λ_max of the loss on 96 observed sequences: base, and first and last round with their controls."""
    last = len(run.store.arms("rounds")) - 1
    asked = {"base": ("rounds", 0)}
    for k in {1, last} - {0}:
        asked |= {f"round {k}": ("rounds", k), f"control {k}": ("control", k)}
    return {
        name: largest_eigenvalue(run.model(k, arm), cut.train, rows=ROWS, steps=STEPS)
        for name, (arm, k) in asked.items()
    }


def there(results: Path) -> list[dict[str, Any]]:
    """The rows made so far."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), help="default the matrix")
    parser.add_argument("--bases", nargs="+", default=["weak", "strong"], choices=list(BASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--log", type=Path, help="a log in place of simulated users")
    parser.add_argument("--scratch", type=Path, help="where run directories go; default a temporary folder")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = given.log.stem if given.log else "simulated"
    scratch = given.scratch or Path(tempfile.mkdtemp())
    scratch.mkdir(parents=True, exist_ok=True)
    cells = product(given.studies, given.bases, given.seeds) if given.studies else MATRIX
    for job in jobs(cells, data):
        if any(row["job"] == vars(job) for row in there(given.out)):
            continue
        row = {"job": vars(job)} | perform(job, given.log, scratch) | {"commit": commit() or ""}
        with open(given.out, "a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")
        shown = [round(entry["model"]["test"]["ndcg@10"], 4) for entry in row["rounds"]]
        print(" ".join(map(str, vars(job).values())), shown, row["cpu_seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
