"""A log of events: who took what, in which order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.data.vocabulary import Vocabulary
from rsir.errors import DataError, StoreError
from rsir.ragged import Ragged

_FILES = ("users.parquet", "items.parquet", "events.parquet", "interactions.json")


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events of users with items, sorted by user, then time, then their order in the file.

    Attributes:
        users: the users; every one has at least one event.
        items: the catalogue; every item occurs at least once.
        user: int64 (E,), ascending user indices.
        item: int64 (E,), item indices.
        time: int64 or float64 (E,), or None where only the order is known.
        time_is_date: the times are microseconds since 1970-01-01 UTC; else they are the numbers given.
        notes: what the reader guessed, assumed or dropped, a line each.
    """

    users: Vocabulary
    items: Vocabulary
    user: Tensor
    item: Tensor
    time: Tensor | None = None
    time_is_date: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.item.numel()

    @cached_property
    def ragged(self) -> Ragged:
        """Item indices, a row a user, oldest first, and their times where known."""
        lengths = torch.bincount(self.user, minlength=len(self.users))
        return Ragged.from_lengths(self.item, lengths, None if self.time is None else self.time.double())

    def sequences(self) -> Sequences:
        """All events as observed sequences, one a user; row u belongs to user index u."""
        return Sequences.observed(self.ragged, len(self.items))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ids and sorted events: the same for the same log in any file format.

        Ids count by their text and whole numbers as integers, since a text file cannot tell
        `"5"` from 5 nor `5.0` from 5. Order matters: the same events in another file order number
        the ids differently and have another fingerprint.
        """
        digest = hashlib.sha256()
        for vocabulary in (self.users, self.items):
            text = vocabulary.ids.cast(pl.String)
            digest.update(_bytes(text.str.len_bytes().cast(pl.Int64).to_numpy()))
            digest.update(text.str.join("").item().encode())
        for column in (self.user, self.item):
            digest.update(_bytes(column.numpy()))
        digest.update(b"order" if self.time is None else b"date" if self.time_is_date else b"number")
        if self.time is not None:
            digest.update(_bytes(_whole(self.time.numpy())))
        return digest.hexdigest()

    def to_frame(self) -> pl.DataFrame:
        """The events with external ids: `user_id`, `item_id` and, where known, `timestamp`."""
        columns = [
            self.users.ids_of(self.user).alias("user_id"),
            self.items.ids_of(self.item).alias("item_id"),
        ]
        if self.time is not None:
            time = pl.Series("timestamp", self.time.numpy())
            columns.append(time.cast(pl.Datetime("us", "UTC")) if self.time_is_date else time)
        return pl.DataFrame(columns)

    def save(self, folder: str | Path) -> None:
        """Write `users.parquet`, `items.parquet`, `events.parquet` and `interactions.json`.

        Raises:
            StoreError: if the folder cannot be written.
        """
        columns = {"user": self.user, "item": self.item, "time": self.time}
        events = pl.DataFrame(
            {name: column.numpy() for name, column in columns.items() if column is not None}
        )
        about = {"fingerprint": self.fingerprint, "time_is_date": self.time_is_date, "notes": self.notes}
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            frames = (self.users.ids.to_frame(), self.items.ids.to_frame(), events)
            for name, frame in zip(_FILES, frames, strict=False):
                frame.write_parquet(folder / name)
            (folder / _FILES[-1]).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"{folder}: the log cannot be written ({_first_line(error)})") from error

    @classmethod
    def load(cls, folder: str | Path) -> Interactions:
        """Read what `save` wrote.

        Raises:
            StoreError: if a file is missing or corrupt, or the files do not fit each other.
        """
        folder = Path(folder)
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise StoreError(f"{folder}: {', '.join(missing)} is missing; save the log there again")
        try:
            loaded, fingerprint = _load(folder)
        except (pl.exceptions.PolarsError, DataError, KeyError, TypeError, ValueError, OSError) as error:
            raise StoreError(f"{folder}: corrupt log ({_first_line(error)}); save it there again") from error
        if not _fits(loaded) or loaded.fingerprint != fingerprint:
            raise StoreError(f"{folder}: users, items and events are not of one log; save it there again")
        return loaded


def _load(folder: Path) -> tuple[Interactions, str]:
    about = json.loads((folder / "interactions.json").read_text(encoding="utf-8"))
    events = pl.read_parquet(folder / "events.parquet")
    loaded = Interactions(
        users=Vocabulary(pl.read_parquet(folder / "users.parquet")["id"]),
        items=Vocabulary(pl.read_parquet(folder / "items.parquet")["id"]),
        user=tensor(events["user"].cast(pl.Int64)),
        item=tensor(events["item"].cast(pl.Int64)),
        time=tensor(events["time"]) if "time" in events.columns else None,
        time_is_date=bool(about["time_is_date"]),
        notes=tuple(about["notes"]),
    )
    return loaded, str(about["fingerprint"])


def _fits(log: Interactions) -> bool:
    """Whether the indices of the events are those of the ids."""
    columns = ((log.user, len(log.users)), (log.item, len(log.items)))
    return len(log) > 0 and all(int(x.min()) >= 0 and int(x.max()) < size for x, size in columns)


def tensor(column: pl.Series) -> Tensor:
    """A tensor that owns a copy of the column."""
    return torch.from_numpy(column.to_numpy(writable=True))


def _whole(time: np.ndarray) -> np.ndarray:
    """Times as integers where all of them are whole numbers that an integer can hold."""
    if time.dtype == np.int64 or np.abs(time).max(initial=0) >= 2.0**63 or (time != np.trunc(time)).any():
        return time
    return time.astype(np.int64)


def _bytes(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
