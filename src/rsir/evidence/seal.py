"""Was the test split sealed until the final evaluation? From the order of a run's own record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsir.errors import DataError, StoreError
from rsir.run import Run

BEFORE = ("generated", "trained")
"""Events that must not follow a reading of the test split."""


def check_seal(run: Run) -> dict[str, Any]:
    """Check which models were read on the test split, and when.

    Allowed are the base, the chosen round and its controls, after the last training. The record is what
    the run wrote itself: it shows a mistake, and cannot show a forgery.

    Returns:
        `read` (arm and round of each model with test figures), and `ordered`: True if the log holds the
        readings and all come after the last training and generation; None if it does not hold them.

    Raises:
        DataError: names the model that was read, or the event that came after.
    """
    read = sorted({str(path.parent.relative_to(run.folder)) for path in _test_files(run)})
    chosen = (run.store.result() or {}).get("chosen_round")
    for name in read:
        if not _allowed(name, chosen):
            why = "no round is chosen yet" if chosen is None else f"validation chose round {chosen}"
            raise DataError(
                f"leak audit of {run.folder} failed at {name}: the test split was read for it, and {why}"
            )
    return {"read": read, "ordered": _ordered(run)}


def _test_files(run: Run) -> Iterator[Path]:
    """Figures on the test split, whoever's they are."""
    for arm in ("rounds", "bases", "control", "controls"):
        yield from (
            path for path in (run.folder / arm).rglob("test.*") if path.suffix in (".json", ".parquet")
        )


def _allowed(name: str, chosen: int | None) -> bool:
    """The base, and whatever belongs to the chosen round; while none is chosen yet, the base alone.

    Further bases belong to no round: the number in their name is their own.
    """
    arm, number = name.rsplit("/", 1)
    return name == "rounds/0" or (chosen is not None and arm != "bases" and number == str(chosen))


def _ordered(run: Run) -> bool | None:
    """Whether no training or generation follows the first reading of the test split."""
    path = run.folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        events = [json.loads(line) for line in lines]
    except ValueError:
        raise StoreError(f"{path} cannot be read: the run directory is damaged") from None
    names = [event["event"] for event in events]
    if "tested" not in names:
        return None
    for event in events[names.index("tested") :]:
        if event["event"] in BEFORE:
            raise DataError(
                f"leak audit of {run.folder} failed at log.jsonl: round {event['round']} was "
                f"{event['event']} after the test split had been read"
            )
    return True
