"""One reader on one file, run as a script by `ingest.py`: no import but the reader's own weighs on it.

python readers.py rsir|pandas FILE
"""

from __future__ import annotations

import json
import resource
import sys
import time


def read_with_rsir(path: str) -> int:
    """Events of the log, numbered and sorted."""
    from rsir.data.read import read_log

    return len(read_log(path))


def read_with_pandas(path: str) -> int:
    """Events of the log: users and items numbered by first appearance, sorted stably by user and time."""
    import pandas as pd

    frame = pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
    frame["user"], _ = pd.factorize(frame["user_id"])
    frame["item"], _ = pd.factorize(frame["item_id"])
    return len(frame.sort_values(["user", "timestamp"], kind="stable"))


def peak_bytes() -> int:
    """The largest resident memory so far; see `clock.peak_bytes`, which this script cannot import."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


READERS = {"rsir": read_with_rsir, "pandas": read_with_pandas}


def measure(reader: str, path: str) -> dict[str, float]:
    """Seconds, the reader's imports included: a user waits for them, too."""
    start = time.perf_counter()
    events = READERS[reader](path)
    seconds = time.perf_counter() - start
    return {
        "events": events,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_rss_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
