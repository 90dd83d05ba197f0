"""Write a log of events so that any other library can read it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rsir.errors import DataError

SUFFIXES = (".parquet", ".csv", ".jsonl", ".txt")
"""What can be written: tables of events, or (`.txt`) one line a user, oldest event first."""


def check_suffix(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> str:
    """The suffix of a file to be written.

    Raises:
        DataError: if it is none of `suffixes`, or the path is a folder.

    >>> check_suffix(Path("enriched.csv"))
    '.csv'
    """
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{path}: the name does not tell a known format; end it in {', '.join(suffixes)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the path of a file")
    return path.suffix.lower()


def write_log(frame: pl.DataFrame, path: Path, suffix: str) -> None:
    """Write events in the given format.

    Args:
        frame: columns `user_id` and `item_id` at least, a user's events in order.
        path: where to write; what is there is replaced.
        suffix: one of `SUFFIXES`; `.txt` keeps users and items only.

    Raises:
        DataError: if an id holds white space and the format is `.txt`.
        OSError: if the system refuses to write.
    """
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        path.write_text(_lines(frame), encoding="utf-8")


def _lines(frame: pl.DataFrame) -> str:
    """`user item item …`, users in order of their first event."""
    words = frame.select(pl.col("user_id", "item_id").cast(pl.String))
    for name in words.columns:
        spoiled = words[name].filter(words[name].str.contains(r"\s"))
        if len(spoiled):
            raise DataError(
                f"{name} {spoiled[0]!r} holds white space: write .parquet, .csv or .jsonl instead"
            )
    rows = words.group_by("user_id", maintain_order=True).agg(pl.col("item_id").str.join(" "))
    line = rows.select(pl.concat_str("user_id", "item_id", separator=" ")).to_series()
    return "".join(f"{text}\n" for text in line)
