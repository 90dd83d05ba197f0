"""Ingest: seconds and peak memory of reading a long log, beside pandas doing the same.

"The same" for pandas: read the file, number users and items by first appearance, sort stably by
user and time. Each reading runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rsir.bench import readers
from rsir.bench.alone import last_json
from rsir.bench.clock import circumstances, figure
from rsir.bench.workload import Note
from rsir.config import Config
from rsir.data.read import read_log

FORMATS = ("parquet", "csv")


def measure_ingest(
    log: Path | None, config: Config, *, events: int, users: int, items: int, note: Note
) -> dict[str, Any]:
    """Read a log, or simulated ones as Parquet and CSV, with rsir and with pandas.

    Args:
        log: the log; pandas reads it, too, where its columns are user_id, item_id and timestamp.
        config: how a log is read.
        events: of the simulated log.
        users: of the simulated log.
        items: of the simulated log.
        note: told what is being read.

    Raises:
        DataError: if the log cannot be used.
    """
    if log is not None:
        read_log(log, config.data)  # one clear error before any measurement
        found = {"log": _both(log, note)}
        return {**circumstances("ingest", "cpu"), "data": {"name": log.name}, **found, **_ratios(found)}
    with tempfile.TemporaryDirectory() as name:
        note(f"writing {events:,} events")
        write_logs(Path(name), events, users, items)
        found = {form: _both(Path(name) / f"log.{form}", note) for form in FORMATS}
    data = {"name": "simulated events", "events": events, "users": users, "items": items}
    return {**circumstances("ingest", "cpu"), "data": data, **found, **_ratios(found)}


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


def _both(path: Path, note: Note) -> dict[str, Any]:
    """Both readers on one file; pandas where it is installed and the file has the columns it is told of."""
    found = {}
    for reader in ("rsir", "pandas"):
        if reader == "rsir" or (find_spec("pandas") and _usual(path)):
            note(f"{reader} reads {path.name}")
            found[reader] = last_json([sys.executable, "-P", readers.__file__, reader, str(path)])
    return found


def _usual(path: Path) -> bool:
    """Whether a file is Parquet or CSV with the columns user_id, item_id and timestamp."""
    if path.suffix not in (".parquet", ".csv"):
        return False
    scanned = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path)
    return {"user_id", "item_id", "timestamp"} <= set(scanned.collect_schema().names())


def _ratios(found: dict[str, Any]) -> dict[str, float]:
    """How many times faster than pandas, by form."""
    return {
        f"speedup_vs_pandas_{form}": figure(both["pandas"]["seconds"] / both["rsir"]["seconds"])
        for form, both in found.items()
        if "pandas" in both
    }
