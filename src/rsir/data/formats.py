"""Files of events as lazy frames of their columns, whatever the format and compression."""

from __future__ import annotations

import bz2
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from rsir.data.columns import is_user_name
from rsir.errors import DataError

Format = Literal["parquet", "csv", "tsv", "inter", "jsonl", "lines"]
"""`inter` is a tab-separated table with RecBole's typed header, `lines` one line a user."""

TEXT_FORMATS = ("csv", "tsv", "inter", "lines")
"""Formats that do not say whether `5` is a number or a text."""

_BY_SUFFIX: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".inter": "inter",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "lines",
}
_DECOMPRESS = {".bz2": bz2.decompress, ".xz": lzma.decompress}  # .gz and .zst are read by polars itself
_NO_BYTE = "\x01"  # stands in no text: a line read with this separator is one column

Source = str | io.BytesIO


def format_of(path: Path) -> Format:
    """The format by file name, compression put aside.

    Raises:
        DataError: if the name ends in none of the known ways.

    >>> format_of(Path("log.csv.gz"))
    'csv'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst", *_DECOMPRESS):
        suffixes.pop()
    if not suffixes or suffixes[-1] not in _BY_SUFFIX:
        known = ", ".join(get_args(Format))
        raise DataError(f"{path}: the name does not tell the format; give it with --format ({known})")
    return _BY_SUFFIX[suffixes[-1]]


def scan(path: Path, form: Format, has_header: bool = True, separator: str | None = None) -> pl.LazyFrame:
    """The columns of a file; texts stay texts.

    A table without header has columns `column_1`, `column_2`, …; `lines` has `user_id` and `item_id`.

    Raises:
        DataError: if the file is missing, empty, or not one line a user where it should be.
    """
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {kind}; give the path of one file of events")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    decompress = _DECOMPRESS.get(path.suffix.lower())
    source: Source = io.BytesIO(decompress(path.read_bytes())) if decompress else str(path)
    if form == "parquet":
        return pl.scan_parquet(source)
    if form == "jsonl":
        return pl.scan_ndjson(source, infer_schema_length=None)
    if form == "lines":
        return _lines(source)
    return _table(source, separator or ("," if form == "csv" else "\t"), has_header, quoted=form != "inter")


def _table(source: Source, separator: str, has_header: bool, quoted: bool) -> pl.LazyFrame:
    table = pl.scan_csv(
        source,
        separator=separator,
        has_header=has_header,
        quote_char='"' if quoted else None,
        infer_schema=False,
    )
    if has_header:
        return table
    names = table.collect_schema().names()
    return table.rename({name: f"column_{place}" for place, name in enumerate(names, start=1)})


def _whole_lines(source: Source) -> pl.LazyFrame:
    """Each line of a text as one value of the column `line`."""
    return pl.scan_csv(
        source,
        separator=_NO_BYTE,
        has_header=False,
        quote_char=None,
        infer_schema=False,
        new_columns=["line"],
    )


def _lines(source: Source) -> pl.LazyFrame:
    """`user item item …` a line, oldest first, as a row an event."""
    line = _whole_lines(source)
    words = line.select(words=pl.col("line").str.extract_all(r"\S+")).filter(pl.col("words").list.len() > 0)
    rows = words.select(user_id=pl.col("words").list.first(), item_id=pl.col("words").list.slice(1)).collect()
    _check_lines(rows)
    return rows.lazy().explode("item_id")


def _check_lines(rows: pl.DataFrame) -> None:
    users = rows["user_id"]
    if len(users) and is_user_name(users[0]):
        raise DataError(
            f"the first line begins with {users[0]!r}, like a table with a header: give --format tsv or csv"
        )
    lonely = users.filter(rows["item_id"].list.len() == 0)
    if len(lonely):
        raise DataError(f"the line of user {lonely[0]!r} has no item: a line is `user item item …`")
    if users.n_unique() < len(users):
        twice = users.filter(users.is_duplicated())[0]
        raise DataError(
            f"user {twice!r} has several lines: a line a user is expected; "
            "for a table of events give --format tsv or csv (and --no-header)"
        )


def check_json_ids(path: Path, column: str, name: str) -> None:
    """Refuse JSON lines whose ids are texts in some lines and numbers in others.

    Raises:
        DataError: if the column (read as text) has a bare number somewhere.
    """
    decompress = _DECOMPRESS.get(path.suffix.lower())
    source: Source = io.BytesIO(decompress(path.read_bytes())) if decompress else str(path)
    line = _whole_lines(source)
    number = rf'"{column}"\s*:\s*-?\d'
    if line.filter(pl.col("line").str.contains(number)).head(1).collect().height:
        raise DataError(f"the {name} ids in {column!r} are mixed, texts and numbers: write them in one way")


@contextmanager
def clear_errors(path: Path, form: Format) -> Iterator[None]:
    """Turn what the parsers say of a broken file into one clear line."""
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path}: the file is empty") from error
    except (pl.exceptions.PolarsError, lzma.LZMAError, EOFError, OSError, UnicodeError) as error:
        first = str(error).strip().split("\n")[0]
        raise DataError(f"{path} cannot be read as {form} ({first}); check the file or --format") from error
