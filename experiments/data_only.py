"""What an enriched data set does for another library: its SASRec trained by its own API, with and without.

    rsir run ../shared/data/Beauty.txt --rounds 1 --set recursion.control=false --out runs/beauty
    rsir generate runs/beauty --round 0 --out runs/beauty.parquet    # for RecTools
    rsir generate runs/beauty --round 0 --out runs/beauty.inter      # for RecBole
    benchmarks/rivals/.venv/rectools/bin/python experiments/data_only.py ../shared/data/Beauty.txt \\
        --library rectools --enriched runs/beauty.parquet

Run it with the interpreter of an environment that has the library and rsir (docs/models.md). Every arm trains
on a file that its library reads as it stands, for the same number of updates: the training events alone,
looked at half way, too; enriched by itself: what the first arm's model generates, judges and we admit,
through the adapter; enriched by rsir: the file given. All are judged by the same code on all users. Settings
were chosen by the first arm's validation; each arm reads test once. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import torch
from theirs import FITS

import rsir
from rsir.acquire import AcquisitionConfig, acquisition_rule
from rsir.adapters.foreign import ForeignModel
from rsir.bench.clock import commit
from rsir.data.interactions import Interactions
from rsir.data.sequences import Sequences
from rsir.data.splits import Split
from rsir.data.write import write_log
from rsir.devices import environment
from rsir.enrich import events_frame
from rsir.evaluate import evaluate
from rsir.evidence.significance import hierarchical_bootstrap
from rsir.generate import GenerationConfig, generate
from rsir.metrics import by_name

HALF, PLAIN, ITSELF, RSIR = "plain, half the updates", "plain", "enriched by itself", "enriched by rsir"
METRICS = ("ndcg@10", "recall@10")
UPDATES = {"rectools": 2800, "recbole": 4000}
SUFFIX = {"rectools": ".parquet", "recbole": ".inter"}


def by_itself(model: ForeignModel, log: Interactions, cut: Split, seed: int) -> pl.DataFrame:
    """The training events and what the library's model generates, judges and we admit."""
    rollouts = generate(model, cut.train, GenerationConfig(), seed=seed, round_index=1)
    rule = acquisition_rule(AcquisitionConfig(), GenerationConfig().min_length, None)
    made = rule.admit(rollouts, cut.train, seed=seed, round_index=1).sequences(rollouts, 1)
    return events_frame(log, Sequences.concat([cut.train, made]))


def main() -> None:
    """Run the arms that are not done yet, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--library", choices=list(FITS), required=True)
    parser.add_argument("--enriched", type=Path, help="what rsir generate wrote")
    parser.add_argument("--updates", type=int, help="of every arm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/data_only"), help="data files and ranks")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "data_only.jsonl")
    given = parser.parse_args()
    given.updates = given.updates or UPDATES[given.library]
    place = f"{given.log.stem}-{given.library}-{given.updates}"
    given.out, given.folder = given.out.resolve(), given.folder.resolve() / place
    torch.set_num_threads(1)
    sys.argv = sys.argv[:1]  # RecBole reads the command line, too
    log = rsir.read_log(given.log)
    run(given, log, rsir.split(log))


def run(given: argparse.Namespace, log: Interactions, cut: Split) -> None:
    """The arms of one library and seed."""
    itself, enriched = (file_of(given, f"{name}-{given.seed}") for name in ("itself", "rsir"))
    if not (itself.exists() and done(given, HALF) and done(given, PLAIN)):
        plain = write(events_frame(log, cut.train), file_of(given, "plain"))
        model = train(given, (HALF, PLAIN), plain, log, cut)
        write(by_itself(model, log, cut, given.seed), itself)
    if given.enriched:
        enriched.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(given.enriched, enriched)
    for arm, data in ((RSIR, enriched), (ITSELF, itself)):
        if data.exists() and not done(given, arm):
            train(given, (arm,), data, log, cut)
        for control in (HALF, PLAIN):
            if done(given, arm) and not done(given, arm, control):
                compare(given, arm, control)


def train(
    given: argparse.Namespace, arms: tuple[str, ...], data: Path, log: Interactions, cut: Split
) -> ForeignModel:
    """Train on a file for as many updates as every arm gets; arms before the last stop half way."""
    stops = (given.updates // 2, given.updates)[-len(arms) :]
    started, counts = time.process_time(), cut.train.item_counts()
    for arm, stop, model in zip(arms, stops, FITS[given.library](data, log, stops, given.seed), strict=True):
        row = {"after": stop, "cpu_seconds": round(time.process_time() - started), **sizes(data)}
        judged = {
            part: evaluate(model, getattr(cut, part), counts, with_lists=False) for part in ("valid", "test")
        }
        ranks = pl.DataFrame({part: found.rank.numpy() for part, found in judged.items()})
        ranks.write_parquet(ranks_of(given, arm, given.seed))
        figures = {part: {name: found.metrics[name] for name in METRICS} for part, found in judged.items()}
        add(given, arm, None, {**row, **figures, "version": version(given.library)})
    return model


def compare(given: argparse.Namespace, arm: str, control: str) -> None:
    """An arm against another on the same users, over all seeds that both have."""
    seeds = [s for s in range(given.seed + 1) if all(ranks_of(given, a, s).exists() for a in (arm, control))]
    found: dict[str, Any] = {"seeds": len(seeds)}
    for part in ("valid", "test"):
        ranks = {
            a: torch.stack([pl.read_parquet(ranks_of(given, a, s))[part].to_torch() for s in seeds])
            for a in (arm, control)
        }
        found[part] = {
            name: asdict(hierarchical_bootstrap(by_name(name, ranks[control]), by_name(name, ranks[arm])))
            for name in METRICS
        }
    add(given, arm, control, found)


def file_of(given: argparse.Namespace, name: str) -> Path:
    """Where a data file stands: RecBole wants a folder of its name."""
    return given.folder / name / f"{name}{SUFFIX[given.library]}"


def ranks_of(given: argparse.Namespace, arm: str, seed: int) -> Path:
    """Where the ranks of an arm stand."""
    return given.folder / f"{arm.replace(' ', '_')}-{seed}.parquet"


def write(events: pl.DataFrame, path: Path) -> Path:
    """Events as the file that the library reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_log(events, path, path.suffix)
    return path


def sizes(data: Path) -> dict[str, int]:
    """Sequences and events of a data file, and how many of these sequences are synthetic."""
    frame = (
        pl.read_parquet(data)
        if data.suffix == ".parquet"
        else pl.read_csv(data, separator="\t", infer_schema=False)
    )
    users = frame[frame.columns[0]].cast(pl.String).unique()
    return {"sequences": len(users), "events": len(frame), "synthetic": int(users.str.contains("#r").sum())}


def key(given: argparse.Namespace, arm: str, control: str | None) -> dict[str, Any]:
    """What a line stands for."""
    run = {"library": given.library, "data": given.log.stem, "updates": given.updates, "seed": given.seed}
    return {**run, "arm": arm, "against": control}


def done(given: argparse.Namespace, arm: str, control: str | None = None) -> bool:
    """Whether this line is there."""
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    return any(key(given, arm, control).items() <= json.loads(line).items() for line in lines)


def add(given: argparse.Namespace, arm: str, control: str | None, found: dict[str, Any]) -> None:
    """Add a line, unless it is there."""
    if done(given, arm, control):
        return
    facts = {"environment": environment(), "commit": commit() or ""} if control is None else {}
    row = {**key(given, arm, control), **found, **facts}
    with open(given.out, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")
    print({name: row[name] for name in row if name != "environment"}, flush=True)


if __name__ == "__main__":
    main()
