"""Tables of other libraries as polars frames."""

from __future__ import annotations

from typing import Any

import polars as pl

from rsir.errors import DataError, MissingExtraError


def as_polars(frame: Any) -> pl.LazyFrame:
    """A polars, pandas or Arrow table as a lazy frame.

    Raises:
        DataError: if it is none of these, or a column mixes types.
        MissingExtraError: if pandas frames need pyarrow and it is not installed.
    """
    if isinstance(frame, pl.LazyFrame):
        return frame
    if isinstance(frame, pl.DataFrame):
        return frame.lazy()
    library = type(frame).__module__.split(".")[0]
    try:
        if library == "pandas":
            return pl.from_pandas(frame).lazy()
        if library == "pyarrow":
            return pl.DataFrame(pl.from_arrow(frame)).lazy()
    except ImportError as error:
        raise MissingExtraError("a pandas frame needs pyarrow: pip install 'rsir[pandas]'") from error
    except (ValueError, TypeError, pl.exceptions.PolarsError) as error:  # Arrow's errors are of these kinds
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"the frame has a column of mixed types ({reason}); give each column one type"
        ) from error
    raise DataError(f"{type(frame).__name__} is not a frame: give a polars or pandas frame or an Arrow table")
