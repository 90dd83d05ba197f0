"""Public data sets by name: download, verify, and prepare as Parquet."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from rsir.data.download import Progress, download, read_small
from rsir.data.public import PublicDataset, find_dataset, list_datasets
from rsir.errors import DataError

__all__ = ["PublicDataset", "fetch", "list_datasets"]

_BLOCK = 1 << 26
_AMAZON_FIELDS = {
    "reviewerID": pl.String(),
    "asin": pl.String(),
    "unixReviewTime": pl.Int64(),
    "overall": pl.Float32(),
}
_MOVIELENS_FIELDS = {
    "user_id": pl.Int64(),
    "item_id": pl.Int64(),
    "rating": pl.Float32(),
    "timestamp": pl.Int64(),
}
_BETWEEN_COLONS = {
    "user_id": pl.Int64(),
    "blank_1": pl.String(),
    "item_id": pl.Int64(),
    "blank_2": pl.String(),
    "rating": pl.Float32(),
    "blank_3": pl.String(),
    "timestamp": pl.Int64(),
}
"""What a reader that splits at one colon sees where fields are separated by two."""
_COLUMNS = ["user_id", "item_id", "timestamp", "rating"]
_UNREADABLE = (
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    KeyError,
    pl.exceptions.PolarsError,
)


def fetch(
    name: str | PublicDataset,
    folder: Path,
    *,
    base_url: str | None = None,
    progress: Progress | None = None,
    pause: float = 1.0,
) -> Path:
    """Download a public data set, verify it, and prepare it.

    Leaves in the folder: the archive as published, `<name>.parquet` with the columns `user_id`,
    `item_id`, `timestamp` (seconds, int64) and `rating` (float32), rows in published order, and
    `<name>.json`, which says where it came from, how it was verified, and what to cite. What is there
    already is not fetched again; an interrupted download goes on where it stopped.

    Args:
        name: a name of `list_datasets`, or a data set of your own.
        folder: where to put the files; made if needed.
        base_url: a mirror that holds the archive under the same file name.
        progress: called with the bytes so far and the whole size (None if not known).
        pause: seconds before the first retry; doubles with each.

    Returns:
        The path of the Parquet file.

    Raises:
        DataError: no such name or address, a server that keeps failing, or a corrupt download.
    """
    dataset = name if isinstance(name, PublicDataset) else find_dataset(name)
    url = f"{base_url.rstrip('/')}/{dataset.filename}" if base_url else dataset.url
    prepared, manifest = folder / f"{dataset.name}.parquet", folder / f"{dataset.name}.json"
    if prepared.exists() and manifest.exists():
        return prepared
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / dataset.filename
    part = archive.with_name(archive.name + ".part")
    if archive.exists():
        os.replace(archive, part)
    else:
        download(url, part, progress=progress, pause=pause)
    published = read_small(f"{url}.md5") if dataset.member else None
    frame = _verified(dataset, part, url, published)
    os.replace(part, archive)
    _write_parquet(frame, prepared)
    facts = _facts(dataset, archive, url, frame) | {"verified_by": _checks(dataset, published)}
    _write_text(json.dumps(facts, indent=2) + "\n", manifest)
    return prepared


def _verified(dataset: PublicDataset, part: Path, url: str, published_md5: str | None) -> pl.DataFrame:
    """The events of a sound archive; an unsound one is removed."""
    try:
        if published_md5 is not None:
            _check_md5(part, published_md5)
        frame = _read(dataset, part)
        _check_frame(dataset, frame)
    except _UNREADABLE as error:
        part.unlink()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{url} is corrupt ({reason}); the download was removed: fetch it again") from None
    except DataError as error:
        part.unlink()
        raise DataError(f"{url} {error}; the download was removed: fetch it again") from None
    return frame


def _check_md5(part: Path, published: str) -> None:
    found = re.search(r"\b[0-9a-f]{32}\b", published.lower())
    if found is None:
        raise DataError(f"has a .md5 file without a checksum ({published[:40]!r})")
    if (own := _digest(part, "md5")) != found[0]:
        raise DataError(f"is corrupt: its MD5 is {own}, published is {found[0]}")


def _check_frame(dataset: PublicDataset, frame: pl.DataFrame) -> None:
    if missing := sum(frame.null_count().row(0)):
        raise DataError(f"has {missing} missing values where every event needs {', '.join(_COLUMNS)}")
    if len(frame) == 0 or dataset.rows not in (None, len(frame)):
        raise DataError(f"holds {len(frame)} events instead of {dataset.rows or 'at least one'}")


def _read(dataset: PublicDataset, path: Path) -> pl.DataFrame:
    """All events; reading to the end checks the CRC of the archive."""
    if dataset.member is None:
        return _read_amazon(path)
    with zipfile.ZipFile(path) as archive:
        content = archive.read(dataset.member)
    separator = {"tabs": "\t", "colons": ":", "csv": ","}[dataset.form]
    frame = pl.read_csv(
        io.BytesIO(content),
        separator=separator,
        has_header=False,
        skip_rows=int(dataset.form == "csv"),
        schema=_BETWEEN_COLONS if dataset.form == "colons" else _MOVIELENS_FIELDS,
    )
    return frame.select(_COLUMNS)


def _read_amazon(path: Path) -> pl.DataFrame:
    empty = pl.DataFrame(schema=_AMAZON_FIELDS)
    parts = [pl.read_ndjson(io.BytesIO(lines), schema=_AMAZON_FIELDS) for lines in _line_blocks(path)]
    frame = pl.concat([empty, *parts])
    return frame.rename(dict(zip(_AMAZON_FIELDS, _COLUMNS, strict=True)))


def _line_blocks(path: Path) -> Iterator[bytes]:
    """Blocks of whole lines of a gzip file."""
    rest = b""
    with gzip.open(path) as file:
        while block := file.read(_BLOCK):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if whole:
                yield whole + newline
    if rest.strip():
        yield rest


def _checks(dataset: PublicDataset, published_md5: str | None) -> list[str]:
    checks = ["gzip CRC-32" if dataset.member is None else "zip CRC-32"]
    checks += ["published MD5"] if published_md5 is not None else []
    return checks + (["number of events"] if dataset.rows is not None else [])


def _facts(dataset: PublicDataset, archive: Path, url: str, frame: pl.DataFrame) -> dict[str, object]:
    return {
        "name": dataset.name,
        "url": url,
        "bytes": archive.stat().st_size,
        "sha256": _digest(archive, "sha256"),
        "prepared_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "events": len(frame),
        "users": frame["user_id"].n_unique(),
        "items": frame["item_id"].n_unique(),
        "citation": dataset.citation,
        "licence": dataset.licence,
    }


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    half = path.with_name(path.name + ".tmp")
    frame.write_parquet(half)
    os.replace(half, path)


def _write_text(text: str, path: Path) -> None:
    half = path.with_name(path.name + ".tmp")
    half.write_text(text)
    os.replace(half, path)
