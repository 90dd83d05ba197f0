"""Time and peak memory of reading a long log, beside pandas doing the same; prints one JSON object.

    python benchmarks/ingest.py --events 10000000 --users 100000 --items 200000

Each reading runs in a process of its own, so that its peak memory is its own. "The same" for pandas:
read the file, number users and items by first appearance, sort stably by user and time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl


def write_logs(folder: Path, events: int, users: int, items: int) -> None:
    """Events in random order with integer users, text items and Unix seconds, as Parquet and CSV."""
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": rng.integers(0, users, events),
            "item_id": (items * rng.random(events) ** 2).astype(np.int64),
            "timestamp": rng.integers(1_500_000_000, 1_700_000_000, events),
        }
    ).with_columns(item_id="B" + pl.col("item_id").cast(pl.String).str.zfill(7))
    log.write_parquet(folder / "log.parquet")
    log.write_csv(folder / "log.csv")


def read_with_rsir(path: Path) -> int:
    from rsir.data.read import read_log

    return len(read_log(path))


def read_with_pandas(path: Path) -> int:
    import pandas as pd

    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    frame["user"], _ = pd.factorize(frame["user_id"])
    frame["item"], _ = pd.factorize(frame["item_id"])
    return len(frame.sort_values(["user", "timestamp"], kind="stable"))


READERS = {"rsir": read_with_rsir, "pandas": read_with_pandas}


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_here(reader: str, path: Path) -> dict[str, object]:
    """Seconds include the imports of the reader, which a user waits for too.

    Processor seconds do not depend on what else the machine does.
    """
    start = time.perf_counter()
    events = READERS[reader](path)
    seconds, processor = time.perf_counter() - start, time.process_time()
    return {
        "events": events,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(processor, 2),
        "peak_gib": round(peak_gib(), 2),
    }


def measure(reader: str, path: Path) -> dict[str, object]:
    command = [sys.executable, __file__, "--reader", reader, "--path", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--reader", choices=list(READERS))
    parser.add_argument("--path", type=Path)
    asked = parser.parse_args()
    if asked.reader:
        print(json.dumps(measure_here(asked.reader, asked.path)))
        return
    with tempfile.TemporaryDirectory() as name:
        write_logs(Path(name), asked.events, asked.users, asked.items)
        results = {
            f"{reader} {path.suffix[1:]}": measure(reader, path)
            for path in sorted(Path(name).iterdir())
            for reader in READERS
        }
    print(
        json.dumps({"events": asked.events, "users": asked.users, "items": asked.items, **results}, indent=2)
    )


if __name__ == "__main__":
    main()
