"""Every backbone trained to the end on every log: the table of docs/models.md.

    python experiments/trained.py ../shared/data/*.txt --models hstu bsarec --seeds 0 1 2

Each is one `rsir run LOG --model MODEL --rounds 0` with default settings and at most PASSES passes. Its run
directory is kept under --runs, so that a stopped run goes on where it was; what it printed, its network and
its machine become `results/backbones/LOG.MODEL.SEED.json`. A result that is there is not made again. With
other settings (`--set`), give `--runs` and `--out` another folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import rsir
from rsir.bench.clock import commit
from rsir.models import MODELS

RESULTS = Path(__file__).parent / "results" / "backbones"
PASSES, PATIENCE = 24, 6


def trained(log: Path, model: str, seed: int, folder: Path, others: tuple[str, ...]) -> dict[str, Any]:
    """Make the run, or go on with it, and say what came of it."""
    name = f"{log.stem}-{model}-{seed}"
    settings = (
        f"model.name={model}",
        f"training.max_periods={PASSES}",
        f"training.patience={PATIENCE}",
        "recursion.rounds=0",
        f"seed={seed}",
        *others,
    )
    if (folder / name).exists():
        run = rsir.resume(folder / name)
    else:
        run = rsir.run(log, folder / name, config=rsir.load_config(overrides=settings))
    kept = json.loads((run.folder / "rounds/0/model.json").read_text())
    return {
        **run.summary(),
        "run": f"runs/{name}",
        "environment": json.loads((run.folder / "environment.json").read_text()),
        "model": {key: kept[key] for key in ("parameters", "config")},
        "commit": commit() or "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="MODEL")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], help="further settings of `rsir run`")
    parser.add_argument("--runs", type=Path, default=Path("runs/trained"), help="folder of run directories")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for log in given.logs:
            for model in given.models:
                path = given.out / f"{log.stem}.{model}.{seed}.json"
                if path.exists():
                    continue
                found = trained(log, model, seed, given.runs, tuple(given.set))
                path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                test = found["rounds"][0]["test"]
                print(
                    log.stem,
                    model,
                    seed,
                    {k: round(test[k], 5) for k in ("recall@10", "ndcg@10")},
                    flush=True,
                )


if __name__ == "__main__":
    main()
