"""What an enriched data set does for another library: its SASRec trained by its own API, with and without.

    benchmarks/rivals/.venv/rectools/bin/python experiments/data_only.py ../shared/data/Toys_and_Games.txt \
        --library rectools
    python experiments/data_only.py    # prints what was found

Run it with the interpreter of an environment that has the library and rsir (docs/models.md). Arms: the
training events as they are; the same with as many updates as the enriched arms make; enriched by rsir's
base; enriched by the library's own model, which generates and judges. All are judged on the validation cases
by the same code.
A slice of users and few epochs: a demonstration, not a result. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import rsir
from rsir.acquire import AcquisitionConfig, acquisition_rule
from rsir.data.interactions import Interactions
from rsir.data.read import from_frame
from rsir.data.sequences import Sequences
from rsir.data.splits import Split
from rsir.enrich import enrich, events_frame
from rsir.evaluate import evaluate
from rsir.generate import GenerationConfig, generate

ARMS = ("plain", "plain, as many updates", "enriched by rsir", "enriched by itself")
SHAPE = {"dim": 64, "blocks": 2, "heads": 2, "length": 50, "dropout": 0.2, "rate": 1e-3, "batch": 128}


def fit_rectools(events: Any, log: Interactions, epochs: int, seed: int, folder: Path) -> Any:
    """RecTools' SASRec with its whole softmax."""
    from pytorch_lightning import seed_everything
    from rectools.models import SASRecModel

    from rsir.adapters.rectools import RecToolsModel, to_dataset

    seed_everything(seed)
    model = SASRecModel(
        n_factors=SHAPE["dim"],
        n_blocks=SHAPE["blocks"],
        n_heads=SHAPE["heads"],
        session_max_len=SHAPE["length"],
        dropout_rate=SHAPE["dropout"],
        lr=SHAPE["rate"],
        batch_size=SHAPE["batch"],
        epochs=epochs,
        recommend_torch_device="cpu",
    )
    return RecToolsModel(model.fit(to_dataset(events)), log.items)


def fit_recbole(events: Any, log: Interactions, epochs: int, seed: int, folder: Path) -> Any:
    """RecBole's SASRec with its whole softmax, on all events: none is held out a second time."""
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.utils import create_samplers, get_dataloader
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    from rsir.adapters.recbole import RecBoleModel, write_dataset

    write_dataset(events, folder, "log")
    asked = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "mode": "full", "group_by": "user"},
        "train_neg_sample_args": None,
        "hidden_size": SHAPE["dim"],
        "inner_size": SHAPE["dim"],
        "n_layers": SHAPE["blocks"],
        "n_heads": SHAPE["heads"],
        "MAX_ITEM_LIST_LENGTH": SHAPE["length"],
        "hidden_dropout_prob": SHAPE["dropout"],
        "attn_dropout_prob": SHAPE["dropout"],
        "learning_rate": SHAPE["rate"],
        "train_batch_size": 2 * SHAPE["batch"],
        "epochs": epochs,
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    os.chdir(folder)  # it writes logs where it stands
    config = Config(model="SASRec", dataset="log", config_dict=asked)
    init_seed(seed, True)
    dataset = create_dataset(config)
    parts = dataset.build()
    samplers = create_samplers(config, dataset, parts)
    loader = get_dataloader(config, "train")(config, parts[0], samplers[0], shuffle=True)
    model = SASRec(config, parts[0])
    Trainer(config, model).fit(loader, verbose=False, saved=False)
    return RecBoleModel(model, parts[0], log.items)


FITS = {"rectools": fit_rectools, "recbole": fit_recbole}


def updates(library: str, events: Any) -> int:
    """What an epoch grows with: sequences in RecTools, prefixes in RecBole."""
    sequences = events["user_id"].n_unique()
    return sequences if library == "rectools" else len(events) - sequences


def by_itself(model: Any, log: Interactions, cut: Split, seed: int) -> Any:
    """The training events and what the library's model generates, judges and we admit."""
    keys = {"seed": seed, "round_index": 1}
    rollouts = generate(model, cut.train, GenerationConfig(), **keys)
    rule = acquisition_rule(AcquisitionConfig(), GenerationConfig().min_length, None)
    made = rule.admit(rollouts, cut.train, **keys).sequences(rollouts, 1)
    return events_frame(log, Sequences.concat([cut.train, made]))


def main() -> None:
    """Run the arms that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path, nargs="?")
    parser.add_argument("--library", choices=list(FITS), default="rectools")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "data_only.jsonl")
    given = parser.parse_args()
    given.out = given.out.resolve()
    if given.log is None:
        show(given.out)
        return
    torch.set_num_threads(1)
    sys.argv = sys.argv[:1]  # RecBole reads the command line, too
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


def run(given: argparse.Namespace, folder: Path) -> None:
    """The arms of one library and seed."""
    whole = rsir.read_log(given.log)
    first = whole.to_frame().filter(
        whole.to_frame()["user_id"].is_in(whole.users.ids.head(given.users).implode())
    )
    log = from_frame(first, whole_order())
    cut, fit = rsir.split(log), FITS[given.library]
    plain = events_frame(log, cut.train)
    overrides = [f"seed={given.seed}", "model.dim=64", "recursion.rounds=0", "data.file_order=true"]
    base = rsir.run(first, folder / "run", config=rsir.load_config(overrides=overrides), device="cpu")
    by_rsir = enrich(base)
    more = round(given.epochs * updates(given.library, by_rsir) / updates(given.library, plain))
    record(given, "base of rsir", base.model(), plain, cut, 0, 0.0)
    model = None
    for arm in ARMS:
        if done(given, arm) and arm != "plain":
            continue
        if arm == "enriched by itself":
            events = by_itself(model, log, cut, given.seed)
        else:
            events = by_rsir if arm == "enriched by rsir" else plain
        epochs = more if arm == "plain, as many updates" else given.epochs
        started = time.process_time()
        fitted = fit(events, log, epochs, given.seed, folder)
        model = fitted if arm == "plain" else model
        record(given, arm, fitted, events, cut, epochs, time.process_time() - started)


def whole_order() -> Any:
    """How the slice is read: as it stands."""
    from rsir.data.read import ReadConfig

    return ReadConfig(file_order=True)


def key(given: argparse.Namespace, arm: str) -> tuple[Any, ...]:
    """What a line stands for."""
    return (given.library, given.log.stem, given.users, given.epochs, given.seed, arm)


def done(given: argparse.Namespace, arm: str) -> bool:
    """Whether this line is there."""
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    names = ("library", "data", "users", "asked_epochs", "seed", "arm")
    return key(given, arm) in {tuple(row[name] for name in names) for row in map(json.loads, lines)}


def record(
    given: argparse.Namespace, arm: str, model: Any, events: Any, cut: Split, epochs: int, cpu: float
) -> None:
    """Judge on validation and add a line, unless it is there."""
    if done(given, arm):
        return
    metrics = evaluate(model, cut.valid, cut.train.item_counts(), with_lists=False).metrics
    names = ("library", "data", "users", "asked_epochs", "seed", "arm")
    row = dict(zip(names, key(given, arm), strict=True))
    made = events.filter(events["origin"] == "synthetic")
    row |= {"epochs": epochs, "version": version(given.library), "synthetic": made["user_id"].n_unique()}
    row |= {"valid": {name: metrics[name] for name in ("ndcg@10", "recall@10")}, "cpu_seconds": round(cpu, 1)}
    with open(given.out, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")
    print(row, flush=True)


def show(results: Path) -> None:
    """What was found, as a table."""
    print("| library | users | seed | arm | epochs | synthetic sequences | NDCG@10 | Recall@10 |")
    print("|---|---|---|---|---|---|---|---|")
    for row in map(json.loads, results.read_text().splitlines()):
        figures = [f"{row['valid'][name]:.4f}" for name in ("ndcg@10", "recall@10")]
        cells = [f"{row['library']} {row['version']}", f"{row['users']:,}", row["seed"], row["arm"]]
        print("|", *cells, row["epochs"], f"{row['synthetic']:,}", *figures, "|", sep=" | ")


if __name__ == "__main__":
    main()
