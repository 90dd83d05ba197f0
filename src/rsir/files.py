"""Plain files, each written whole or not at all, and folders that one process works in at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError

from rsir.errors import StoreError

REFUSALS = (OSError, SafetensorError, pl.exceptions.PolarsError)
"""How the libraries say that the system refuses to write."""
LOCK = ".lock"
"""The file by which a folder is held; it stays when the work is done."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when all went well.

    Raises:
        StoreError: if the system refuses to write (full disk, no permission).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except REFUSALS as error:
        raise StoreError(f"{path} cannot be written: {reason(error)}") from None
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, values: object) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        StoreError: if it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"{path} is missing: the run directory is incomplete; run again with --resume"
        ) from None
    except (ValueError, OSError) as error:
        raise StoreError(f"{path} cannot be read ({reason(error)}): the run directory is damaged") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a folder; the system lets go of it when this one ends, however.

    Raises:
        StoreError: if another process does.
    """
    with open(folder / LOCK, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"another process is working in {folder}: wait for it or stop it") from None
        yield


def reason(error: BaseException) -> str:
    """The system's own words, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
