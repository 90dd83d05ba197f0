"""Write a log of events so that any other library can read it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rsir.errors import DataError

SUFFIXES = (".parquet", ".csv", ".jsonl", ".txt", ".inter")
"""What can be written: tables of events, one line a user (`.txt`), or RecBole's table (`.inter`)."""


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
        suffix: one of `SUFFIXES`; `.txt` keeps users and items only, `.inter` these and `timestamp`.

    Raises:
        DataError: if an id holds white space and the format is `.txt`, or a tab, the end of a line or a
            double quote and it is `.inter`.
        OSError: if the system refuses to write.
    """
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    elif suffix == ".inter":
        atomic(frame).write_csv(path, separator="\t", quote_style="never")
    else:
        path.write_text(_lines(frame), encoding="utf-8")


def atomic(frame: pl.DataFrame) -> pl.DataFrame:
    """Events as an atomic file of RecBole has them: typed names, dates as seconds since 1970.

    Raises:
        DataError: if an id cannot stand in a table separated by tabs and without quotes.

    >>> atomic(pl.DataFrame({"user_id": ["ann"], "item_id": [7], "timestamp": [3]})).row(0, named=True)
    {'user_id:token': 'ann', 'item_id:token': '7', 'timestamp:float': 3}
    """
    words = frame.select(pl.col("user_id", "item_id").cast(pl.String))
    _refuse(words, r'[\t\r\n"]', "a tab, the end of a line or a double quote")
    time = frame["timestamp"]
    if time.dtype == pl.Datetime:
        time = time.dt.epoch("us") / 1_000_000
    names = {"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"}
    return words.with_columns(time).rename(names)


def _lines(frame: pl.DataFrame) -> str:
    """`user item item …`, users in order of their first event."""
    words = frame.select(pl.col("user_id", "item_id").cast(pl.String))
    _refuse(words, r"\s", "white space")
    rows = words.group_by("user_id", maintain_order=True).agg(pl.col("item_id").str.join(" "))
    line = rows.select(pl.concat_str("user_id", "item_id", separator=" ")).to_series()
    return "".join(f"{text}\n" for text in line)


def _refuse(words: pl.DataFrame, pattern: str, what: str) -> None:
    """Fail if an id holds what its format has no way to write.

    Raises:
        DataError: names the first such id.
    """
    for name in words.columns:
        spoiled = words[name].filter(words[name].str.contains(pattern))
        if len(spoiled):
            raise DataError(f"{name} {spoiled[0]!r} holds {what}: write .parquet, .csv or .jsonl instead")
