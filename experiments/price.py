"""What three rounds cost beside their base, warm-started and cold, and what each gives: docs/benchmarks.md.

    python experiments/price.py ../shared/data/Toys_and_Games.txt

RSIR as published (examples/paper.toml) with its control, then with a cold start. There a control of any round
is a base trained once more ("observed, cold" of successors.py) and left out. PASSES bounds a base.
Seconds are those of training with its looks at validation, and of generation.
A row that is there is not made again; a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import rsir
from rsir.bench.clock import commit

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "price.jsonl"
PASSES = 22


def priced(log: Path, start: str, seed: int, folder: Path) -> dict[str, Any]:
    """Make the run, or go on with it, and say what each round took and gave."""
    settings = (
        f"recursion.start={start}",
        f"training.max_periods={PASSES}",
        f"training.patience={PASSES}",
        "recursion.patience=none",
        "recursion.collapse=none",
        f"recursion.control={'updates' if start == 'warm' else 'false'}",
        f"seed={seed}",
    )
    if folder.exists():
        run = rsir.resume(folder)
    else:
        config = rsir.load_config(HERE.parent / "examples" / "paper.toml", settings)
        run = rsir.run(log, folder, config=config)
    summary = run.summary()
    return {
        "data": log.stem,
        "start": start,
        "seed": seed,
        **{
            arm: [{key: row[key] for key in ("updates", "seconds", "valid")} for row in summary[arm]]
            for arm in ("rounds", "control")
        },
        "environment": json.loads((run.folder / "environment.json").read_text()),
        "commit": commit() or "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/price"), help="folder of run directories")
    given = parser.parse_args()
    for start in ("warm", "cold"):
        lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
        key = (given.log.stem, start, given.seed)
        if any((row["data"], row["start"], row["seed"]) == key for row in map(json.loads, lines)):
            continue
        row = priced(given.log, start, given.seed, given.runs / f"{given.log.stem}-{start}-{given.seed}")
        with open(RESULTS, "a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
