"""All benchmarks on this machine, kept as one JSON file; `make bench` calls it.

    python benchmarks/run.py                  figures into benchmarks/results/MACHINE-DATE-COMMIT.json
    python benchmarks/run.py --rivals         with RecTools and RecBole; first make rivals
    python benchmarks/run.py --only training --share 0.1 --rivals

With the real data sets in RSIR_DATA_DIR (default ../shared/data) on Toys_and_Games.txt, else on simulated
users. A file of the same name is added to: a stopped run goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rsir.bench.clock import commit
from rsir.devices import environment
from rsir.files import write_json

HERE = Path(__file__).resolve().parent
LARGE = ["--items", "1000000"]


def plans(log: list[str], rivals: bool, share: float) -> dict[str, list[str]]:
    """The command of each benchmark, without `rsir bench`."""
    libraries = ["--rivals", str(HERE / "rivals"), "--share", str(share)] if rivals else []
    return {
        "generation": ["generation", *log, "--passes", "10"],
        "training": ["training", *log, *libraries],
        "evaluation": ["evaluation", *log],
        "ingest": ["ingest"],
        "generation_large": ["generation", *LARGE, "--sources", "100000"],
        "training_large": ["training", *LARGE],
    }


def real_log() -> list[str]:
    """The flag that names the real data, if it is there."""
    folder = Path(os.environ.get("RSIR_DATA_DIR", HERE.parents[1] / "shared" / "data"))
    path = folder / "Toys_and_Games.txt"
    return ["--data", str(path)] if path.exists() else []


def file_name() -> str:
    """MACHINE-DATE-COMMIT.json; the machine by processor and cores, no name of a person or a host."""
    facts = environment()
    kind = re.sub(r"\W+", "-", str(facts["processor"]).replace("(R)", "")).strip("-").lower()
    return f"{kind}-{facts['cores']}-{datetime.now(UTC):%Y-%m-%d}-{(commit() or 'none').rstrip('+')}.json"


def measure(words: list[str], threads: int | None) -> dict[str, Any]:
    told = [*words, *(["--threads", str(threads)] if threads and words[0] != "ingest" else []), "--json"]
    rsir = str(Path(sys.executable).with_name("rsir"))
    done = subprocess.run([rsir, "bench", *told], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    out = asked.out or HERE / "results" / file_name()
    found = json.loads(out.read_text()) if out.exists() else {}
    for name, words in plans(real_log(), asked.rivals, asked.share).items():
        if name in found or (asked.only and name not in asked.only):
            continue
        print(f"{name}: rsir bench {' '.join(words)}", file=sys.stderr, flush=True)
        found[name] = measure(words, asked.threads)
        write_json(out, found)
    print(out)


if __name__ == "__main__":
    main()
