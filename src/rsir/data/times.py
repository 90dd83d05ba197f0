"""Times as numbers: integers and floats as they are, dates as microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import polars as pl

from rsir.errors import DataError

_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$"
_ASSUMED = "times are dates, kept as microseconds since 1970-01-01; without a zone they count as UTC"


def parse_times(column: pl.Series) -> tuple[pl.Series, bool, tuple[str, ...]]:
    """The times as Int64 or Float64, whether they are dates, and what was assumed.

    Args:
        column: integers, floats, dates, or texts of one of these (dates in ISO 8601); no nulls.

    Raises:
        DataError: if a time is not finite, cannot be read, or the kinds are mixed.

    >>> parse_times(pl.Series(["1970-01-01T00:00:01"]))[0].to_list()
    [1000000]
    """
    kind = column.dtype
    if kind == pl.String:
        numbers = _numbers(column)
        return (numbers, False, ()) if numbers is not None else (_iso(column), True, (_ASSUMED,))
    if isinstance(kind, pl.Datetime | pl.Date):
        return _microseconds(column), True, (_ASSUMED,)
    if kind.is_integer() or kind.is_float() or kind.is_decimal():
        return _checked(column), False, ()
    raise DataError(f"time column of type {kind} cannot be read: give numbers or ISO dates")


def iso_microseconds(text: str) -> int:
    """One ISO date as microseconds since 1970-01-01 UTC.

    Raises:
        DataError: if the text is not an ISO date.
    """
    return int(_iso(pl.Series([text])).item())


def iso_text(microseconds: int) -> str:
    """The ISO date of a time, in UTC.

    >>> iso_text(iso_microseconds("2024-05-31T17:00:00+02:00"))
    '2024-05-31T15:00:00.000000Z'
    """
    return pl.Series([microseconds]).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").item()


def _numbers(text: pl.Series) -> pl.Series | None:
    """The numbers that the texts spell, or None if the first one is no number."""
    if text.head(1).cast(pl.Float64, strict=False).null_count():
        return None
    for kind in (pl.Int64, pl.Float64):
        numbers = text.cast(kind, strict=False)
        if not numbers.null_count():
            return _checked(numbers)
    bad = text.filter(numbers.is_null())[0]
    raise DataError(f"time {bad!r} is not a number, but the first time is: give one kind of time")


def _checked(numbers: pl.Series) -> pl.Series:
    if numbers.dtype.is_integer():
        whole = numbers.cast(pl.Int64, strict=False)
        if whole.null_count():
            raise DataError(f"time {numbers.max()!r} does not fit in 64 bits: divide the times by a unit")
        return whole
    floats = numbers.cast(pl.Float64)
    wrong = floats.is_finite().not_()
    if wrong.any():
        place = int(wrong.arg_true()[0])
        raise DataError(
            f"time {floats[place]} in row {place + 1} is not finite: remove or repair such events"
        )
    return floats


def _iso(text: pl.Series) -> pl.Series:
    dates = text.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    wrong = dates.is_null() | text.str.contains(_ISO).not_()
    if wrong.any():
        bad = text.filter(wrong)[0]
        raise DataError(
            f"time {bad!r} cannot be read: give numbers, or ISO dates of one form as 2024-05-31T17:00:00Z"
        )
    return _microseconds(dates)


def _microseconds(dates: pl.Series) -> pl.Series:
    return dates.cast(pl.Datetime("us")).cast(pl.Int64) if dates.dtype == pl.Date else dates.dt.epoch("us")
