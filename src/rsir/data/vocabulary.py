"""External ids and the indices that stand for them inside the package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from rsir.errors import DataError, UnknownIdError

_NEAREST_AMONG = 5_000
"""How many known ids are looked through for the nearest one to a misspelt id."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Distinct external ids; the place of an id is its index.

    The readers number ids by their first appearance in the file, so that "in index order"
    means "in first-seen order" wherever a tie is broken by index.

    Attributes:
        ids: distinct, without nulls, of type String or Int64.

    Raises:
        DataError: if `ids` has another type, a null or a duplicate.

    >>> items = Vocabulary(pl.Series(["book", "lamp"]))
    >>> items.index_of(["lamp", "book", "lamp"]).tolist()
    [1, 0, 1]
    >>> items.ids_of(torch.tensor([1])).to_list()
    ['lamp']
    """

    ids: pl.Series

    def __post_init__(self) -> None:
        if self.ids.dtype not in (pl.String, pl.Int64):
            raise DataError(f"ids of type {self.ids.dtype} cannot be used: give strings or integers")
        if self.ids.null_count() or self.ids.n_unique() != len(self.ids):
            raise DataError("the ids of a vocabulary must be distinct and not null")
        object.__setattr__(self, "ids", self.ids.alias("id"))

    @classmethod
    def encode(cls, values: pl.Series) -> tuple[Vocabulary, pl.Series]:
        """The distinct values in order of first appearance, and the index of each value (UInt32)."""
        vocabulary = cls(values.unique(maintain_order=True))
        return vocabulary, vocabulary._lookup(values)

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self, ids: Iterable[str | int] | pl.Series) -> Tensor:
        """The indices of the ids; int64, in the order given.

        Ids match by their text, so that `"5"` typed in a shell finds the integer 5; `"05"` does not.

        Raises:
            UnknownIdError: if an id never occurred; names the first such ids.
        """
        given = ids if isinstance(ids, pl.Series) else pl.Series(list(ids), strict=False)
        found = self._lookup(self._as_own_type(given))
        if found.null_count():
            raise UnknownIdError(self._unknown(given.filter(found.is_null())))
        return torch.from_numpy(found.cast(pl.Int64).to_numpy(writable=True))

    def ids_of(self, indices: Tensor) -> pl.Series:
        """The external ids at the given indices."""
        return self.ids.gather(pl.Series(indices.cpu().numpy(), dtype=pl.Int64))

    def _lookup(self, values: pl.Series) -> pl.Series:
        """Index of each value, null where unknown."""
        known = pl.DataFrame([self.ids, pl.int_range(len(self), dtype=pl.UInt32, eager=True).alias("index")])
        frame = values.alias("id").to_frame()
        return frame.join(known, on="id", how="left", maintain_order="left")["index"]

    def _as_own_type(self, given: pl.Series) -> pl.Series:
        if given.dtype == self.ids.dtype:
            return given
        if given.dtype == pl.String:
            return text_to_integers(given)
        if given.dtype.is_integer():
            return given.cast(self.ids.dtype, strict=False)
        return pl.Series([None] * len(given), dtype=self.ids.dtype)

    def _unknown(self, unknown: pl.Series) -> str:
        shown = ", ".join(repr(value) for value in unknown.head(3))
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        message = f"id {shown}{more} never occurred in the data"
        near = self._nearest(unknown[0]) if len(unknown) == 1 else None
        return f"{message}; the nearest known id is {near!r}" if near else f"{message}; check the ids"

    def _nearest(self, given: object) -> str | None:
        if self.ids.dtype != pl.String or not isinstance(given, str):
            return None
        similar_length = (self.ids.str.len_chars().cast(pl.Int64) - len(given)).abs() <= 2
        candidates = self.ids.filter(similar_length).head(_NEAREST_AMONG).to_list()
        return next(iter(difflib.get_close_matches(given, candidates, n=1)), None)


def text_to_integers(text: pl.Series) -> pl.Series:
    """The integers that the texts spell; null where writing the integer gives another text.

    >>> text_to_integers(pl.Series(["7", "007", "x"])).to_list()
    [7, None, None]
    """
    numbers = text.cast(pl.Int64, strict=False)
    return numbers.set(numbers.cast(pl.String) != text, None)
