"""Read a log of events from a file or a frame; say what was guessed; fail at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from rsir.data.clean import Duplicates, drop_duplicates, k_core, renumber
from rsir.data.columns import Columns, find_columns
from rsir.data.formats import TEXT_FORMATS, Format, check_json_ids, clear_errors, format_of, scan
from rsir.data.frames import as_polars
from rsir.data.interactions import Interactions, tensor
from rsir.data.times import parse_times
from rsir.data.vocabulary import Vocabulary, text_to_integers
from rsir.errors import DataError
from rsir.settings import Settings


class ReadConfig(Settings):
    """How a log is read."""

    user_column: str | None = Field(
        None, description="column of user ids; guessed from usual names if not given"
    )
    item_column: str | None = Field(
        None, description="column of item ids; guessed from usual names if not given"
    )
    time_column: str | None = Field(None, description="column of times; guessed if not given")
    file_order: bool = Field(
        False, description="take the order of the file, even where there is a time column"
    )
    format: Format | None = Field(None, description="format of the file; by its name if not given")
    has_header: bool = Field(True, description="csv and tsv: the first line names the columns")
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="csv and tsv: the character between columns"
    )
    duplicates: Duplicates = Field(
        "drop_exact",
        description="keep all events, drop_exact (same user, item and time; nothing without times), "
        "or drop_repeats (same user and item, the first is kept)",
    )
    min_user_events: int | None = Field(None, ge=1, description="k-core: least events a user")
    min_item_events: int | None = Field(None, ge=1, description="k-core: least events an item")


def read_log(path: str | Path, config: ReadConfig = ReadConfig()) -> Interactions:
    """Read Parquet, CSV, TSV, JSON lines, RecBole `.inter` or one-line-a-user text, compressed or not.

    Compression is told by the name: `.gz`, `.zst`, `.bz2`, `.xz`. In text files ids become
    integers if every one of them is spelt as an integer is; `007` stays a text.

    Raises:
        DataError: if the file, its columns or its values cannot be used; one line says why.
    """
    path = Path(path)
    form = config.format or format_of(path)
    _refuse_idle(config, form)
    with clear_errors(path, form):
        lazy = scan(path, form, config.has_header, config.separator)
        if form == "lines":
            columns = Columns("user_id", "item_id", None, ("one line a user, oldest event first",))
        else:
            columns = _columns(lazy, config, by_place=form in ("csv", "tsv") and not config.has_header)
        raw = _select(lazy, columns)
        for name in ("user", "item"):
            if form == "jsonl" and raw[name].dtype == pl.String:
                check_json_ids(path, getattr(columns, name), name)
    return _interactions(raw, columns, config, from_text=form in TEXT_FORMATS)


def from_frame(frame: Any, config: ReadConfig = ReadConfig()) -> Interactions:
    """Take a polars (lazy or not) or pandas frame, or an Arrow table, a row an event.

    Raises:
        DataError: if the frame, its columns or its values cannot be used.
        MissingExtraError: if a pandas frame needs pyarrow and it is not installed.

    >>> log = from_frame(pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": [7, 8, 7]}))
    >>> log.ragged.tolists(), log.items.ids.to_list()
    ([[0, 1], [0]], [7, 8])
    """
    lazy = as_polars(frame)
    columns = _columns(lazy, config, by_place=False)
    return _interactions(_select(lazy, columns), columns, config, from_text=False)


def from_sequences(
    sequences: Mapping[Any, Sequence[Any]] | Sequence[Sequence[Any]], config: ReadConfig = ReadConfig()
) -> Interactions:
    """Take sequences of item ids, oldest first, by user id; a list of them counts users from 0.

    >>> from_sequences([["tea", "milk"], ["milk"]]).ragged.tolists()
    [[0, 1], [1]]
    """
    users = list(sequences) if isinstance(sequences, Mapping) else list(range(len(sequences)))
    rows = [list(row) for row in (sequences.values() if isinstance(sequences, Mapping) else sequences)]
    if not any(rows):
        raise DataError("there are no events: no sequence has an item")
    for what, kinds in (
        ("user", set(map(type, users))),
        ("item", {type(item) for row in rows for item in row}),
    ):
        if not (kinds <= {str} or kinds <= {int}):
            found = " and ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"{what} ids of type {found}: give all of them as strings or all as integers")
    frame = pl.DataFrame({"user_id": users, "item_id": rows})
    told = config.model_copy(update={"user_column": "user_id", "item_column": "item_id"})
    return from_frame(frame.filter(pl.col("item_id").list.len() > 0).explode("item_id"), told)


def _refuse_idle(config: ReadConfig, form: Format) -> None:
    """Fail where a setting says something about a form that the format does not have."""
    table, lines = form in ("csv", "tsv", "inter"), form == "lines"
    columns = ("user_column", "item_column", "time_column") if lines else ()
    names = [name for name in columns if getattr(config, name)]
    names += [] if table or config.has_header else ["has_header"]
    names += [] if table or config.separator is None else ["separator"]
    if names:
        what = "one line a user, without columns" if lines else f"read as {form}"
        raise DataError(
            f"data.{names[0]} means nothing here, the log is {what}: leave it out, or give --format"
        )


def _columns(lazy: pl.LazyFrame, config: ReadConfig, by_place: bool) -> Columns:
    """The columns told or guessed; without header the first is the user, the second the item."""
    names = lazy.collect_schema().names()
    user, item, time = config.user_column, config.item_column, config.time_column
    if by_place and len(names) < 2:
        raise DataError("only one column without header: check the separator (--separator)")
    if by_place and len(names) > 3 and not (time or config.file_order):
        raise DataError(
            f"{len(names)} columns, no header: say which is the time (--time-column column_4) or --file-order"
        )
    if by_place:
        user, item = user or names[0], item or names[1]
        time = time or (names[2] if len(names) == 3 else None)
    columns = find_columns(names, user, item, time)
    if by_place:
        columns = replace(columns, notes=(f"no header: user {user!r}, item {item!r}, time {time!r}",))
    return replace(columns, time=None) if config.file_order else columns


def _select(lazy: pl.LazyFrame, columns: Columns) -> pl.DataFrame:
    """The columns as `user`, `item` and perhaps `time`, in file order."""
    wanted = {"user": columns.user, "item": columns.item, "time": columns.time}
    return lazy.select(pl.col(name).alias(new) for new, name in wanted.items() if name).collect()


def _interactions(raw: pl.DataFrame, columns: Columns, config: ReadConfig, from_text: bool) -> Interactions:
    """Numbered, sorted and cleaned events of a frame in file order."""
    if not raw.height:
        raise DataError("there are no events: the log has columns but no rows")
    for name in raw.columns:
        _refuse_nulls(raw[name], name, getattr(columns, name))
    users, user = Vocabulary.encode(_ids(raw["user"], "user", from_text))
    items, item = Vocabulary.encode(_ids(raw["item"], "item", from_text))
    events = pl.DataFrame({"user": user, "item": item})
    is_date, notes = False, columns.notes
    if columns.time:
        time, is_date, assumed = parse_times(raw["time"])
        events, notes = events.with_columns(time=time), notes + assumed
    else:
        notes += ("no time: events are taken in the order of the file",)
    del raw, user, item
    events, cleaned = _clean(events.with_row_index("row"), config)
    if not events.height:
        raise DataError(
            f"nothing is left: {cleaned[-1]}; ask for fewer events (--min-user-events, --min-item-events)"
        )
    if cleaned:
        events, kept_users = renumber(events, "user")
        events, kept_items = renumber(events, "item")
        events = events.sort("user", maintain_order=True)
        users, items = Vocabulary(users.ids.gather(kept_users)), Vocabulary(items.ids.gather(kept_items))
    _refuse_one(users, "user")
    _refuse_one(items, "item")
    return Interactions(
        users=users,
        items=items,
        user=tensor(events["user"].cast(pl.Int64)),
        item=tensor(events["item"].cast(pl.Int64)),
        time=tensor(events["time"]) if columns.time else None,
        time_is_date=is_date,
        notes=notes + cleaned,
    )


def _clean(events: pl.DataFrame, config: ReadConfig) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Sort by user, time and file order, then apply the policies; what was dropped."""
    if "time" in events.columns:  # two stable sorts by one column: a third of the time of one sort by two
        events = events.sort("time", maintain_order=True)
    events, duplicates = drop_duplicates(events.sort("user", maintain_order=True), config.duplicates)
    events, few = k_core(events, config.min_user_events, config.min_item_events)
    return events, duplicates + few


def _ids(column: pl.Series, what: str, from_text: bool) -> pl.Series:
    """Ids as String or Int64, unchanged."""
    kind = column.dtype
    if kind == pl.String and from_text:
        numbers = text_to_integers(column)
        return column if numbers.null_count() else numbers
    if kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if kind.is_integer() and not (numbers := column.cast(pl.Int64, strict=False)).null_count():
        return numbers
    raise DataError(f"{what} ids of type {kind} cannot be used: give them as strings or 64-bit integers")


def _refuse_nulls(column: pl.Series, what: str, name: str) -> None:
    if column.null_count():
        place = int(column.is_null().arg_true()[0])
        raise DataError(
            f"column {name!r} ({what}) is empty in {column.null_count()} rows, first in row {place + 1}: "
            "fill in or remove them"
        )


def _refuse_one(vocabulary: Vocabulary, what: str) -> None:
    if len(vocabulary) < 2:
        raise DataError(f"only one {what} ({vocabulary.ids[0]!r}) in the log: at least 2 {what}s are needed")
