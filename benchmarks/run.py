"""All benchmarks on this machine, kept as one JSON file; `make bench` calls it.

    python benchmarks/run.py                  figures into benchmarks/results/MACHINE-DATE-COMMIT.json
    python benchmarks/run.py --rivals         with RecTools and RecBole; first make rivals
    python benchmarks/run.py --only training --share 0.1 --rivals
    python benchmarks/run.py --device cuda    on a GPU, and there a base and three rounds on Beauty, too

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
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rsir.bench.clock import circumstances, commit
from rsir.devices import environment
from rsir.files import write_json

HERE = Path(__file__).resolve().parent
LARGE = ["--items", "1000000"]


def plans(asked: argparse.Namespace) -> dict[str, list[str]]:
    """The command line of each benchmark, without `rsir`."""
    toys, beauty, gpu = real_log("Toys_and_Games"), real_log("Beauty"), asked.device == "cuda"
    data = ["--data", str(toys)] if toys.exists() else []
    libraries = ["--rivals", str(HERE / "rivals"), "--share", str(asked.share)] if asked.rivals else []
    threads, place = ["--threads", str(asked.threads)] if asked.threads else [], ["--device", asked.device]
    how, sources = [*threads, *place], 10**6 if gpu else 10**5
    sequences = ["--sources", "100000"] if gpu else []
    found = {
        "generation": ["generation", *data, "--passes", "10", *how],
        "training": ["training", *data, *libraries, *how],
        "evaluation": ["evaluation", *data, *how],
        "ingest": ["ingest"],
        "generation_large": ["generation", *LARGE, "--sources", str(sources), *how],
        "training_large": ["training", *LARGE, *sequences, *how],
    }
    found = {name: ["bench", *words] for name, words in found.items()}
    if gpu and beauty.exists():
        found["run"] = ["run", str(beauty), "--rounds", "3", *place]
    return found


def real_log(name: str) -> Path:
    """Where a real log is, if it is there."""
    return Path(os.environ.get("RSIR_DATA_DIR", HERE.parents[1] / "shared" / "data")) / f"{name}.txt"


def file_name(device: str) -> str:
    """MACHINE-DATE-COMMIT.json; the machine by processor and cores, or GPU, no name of a person or a host."""
    facts = environment()
    name = torch.cuda.get_device_name() if device == "cuda" else str(facts["processor"])
    kind = re.sub(r"\W+", "-", name.replace("(R)", "")).strip("-").lower()
    return f"{kind}-{facts['cores']}-{datetime.now(UTC):%Y-%m-%d}-{(commit() or 'none').rstrip('+')}.json"


def measure(words: list[str], device: str) -> dict[str, Any]:
    """What a command prints, with the seconds it took in all; where, when and what on is added to a run's."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "run")] if words[0] == "run" else []
        started = time.perf_counter()
        rsir = str(Path(sys.executable).with_name("rsir"))
        done = subprocess.run([rsir, *words, *out, "--json"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.returncode)
    found = {**json.loads(done.stdout), "seconds_in_all": time.perf_counter() - started}
    if words[0] == "run":
        facts = {
            "name": Path(words[1]).stem,
            **{key: found["data"][key] for key in ("users", "items", "events")},
        }
        found = {**circumstances("run", device), **found, "data": facts}
        for mine in ("peak_device_bytes", "run"):  # of this process, which used none; a folder that is gone
            found.pop(mine, None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    out = asked.out or HERE / "results" / file_name(asked.device)
    found = json.loads(out.read_text()) if out.exists() else {}
    for name, words in plans(asked).items():
        if name in found or (asked.only and name not in asked.only):
            continue
        print(f"{name}: rsir {' '.join(words)}", file=sys.stderr, flush=True)
        found[name] = measure(words, asked.device)
        write_json(out, found)
    print(out)


if __name__ == "__main__":
    main()
