"""The folder of a search: which search it is, who works in it, and its trials, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rsir.errors import StoreError
from rsir.files import LOCK, locked, read_json, write_json, write_text
from rsir.tune.space import Phase
from rsir.tune.trials import Record


@contextmanager
def held(folder: Path, facts: dict[str, Any]) -> Iterator[None]:
    """Hold the folder of a new search, or of the same one begun before; nobody else works there meanwhile.

    Args:
        folder: made if it is not there.
        facts: what makes two searches the same.

    Raises:
        StoreError: if it holds another search, or something else, or another process works in it.
    """
    _refuse_other(folder, facts)  # before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _refuse_other(folder, facts)  # another search may have begun meanwhile
        write_json(folder / "tune.json", facts)
        yield


def _refuse_other(folder: Path, facts: dict[str, Any]) -> None:
    known = folder / "tune.json"
    if known.is_file():
        if read_json(known) != json.loads(json.dumps(facts)):
            raise StoreError(
                f"{folder} holds a search of another log, space or settings: choose another --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
        raise StoreError(f"{folder} is not empty: choose another --out")


def read_trials(folder: Path, phase: Phase | None = None) -> list[Record]:
    """The trials made before, of one phase or of all."""
    path = folder / "trials.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    return [record for record in records if phase in (None, record["phase"])]


def write_trials(folder: Path, phase: Phase, records: list[Record]) -> None:
    """Write all trials anew, those of the other phase included."""
    others = [record for record in read_trials(folder) if record["phase"] != phase]
    before, after = (others, records) if phase == "recursion" else (records, others)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in [*before, *after])
    write_text(folder / "trials.jsonl", "".join(lines))
