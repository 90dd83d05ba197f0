"""A model that another library trained, as a `Recommender` over our catalogue.

Its items are found by the text of their ids. Items it never saw stand last in every ranking and are passed
over in histories, as its own library does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import polars as pl
import torch
from torch import Tensor

from rsir.data.vocabulary import Vocabulary
from rsir.errors import DataError
from rsir.ragged import Ragged


class ForeignModel(ABC):
    """What any adapter shares: the way from our items to theirs and back.

    Takes part wherever a `Recommender` does: `generate(model, …)`, `evaluate(model, …)`.

    Attributes:
        num_items: size V of our catalogue.
        max_length: the most recent events of a history that the model looks at.
        theirs: int64 (V,), the model's own index of each item, −1 where it knows none.
    """

    def __init__(self, theirs: Tensor, max_length: int) -> None:
        self.num_items, self.max_length, self.theirs = len(theirs), max_length, theirs

    def score(self, histories: Ragged) -> Tensor:
        """Scores of all items after each history; float32 (B, V), on the device of the histories.

        An item unknown to the model scores 1 less than its worst known one. After a history without a known
        item all scores are 0: the model has nothing to say.
        """
        theirs = self.theirs.to(histories.values.device)
        read, place = self._readable(histories, theirs)
        scores = torch.zeros(len(histories), self.num_items, device=theirs.device)
        if len(place):
            found = self.score_theirs(read).to(theirs.device).float()[:, theirs.clamp(min=0)]
            worst = found.masked_fill(theirs < 0, torch.inf).amin(1, keepdim=True)
            scores[place] = torch.where(theirs < 0, worst - 1, found)
        return scores

    @abstractmethod
    def score_theirs(self, histories: Ragged) -> Tensor:
        """Scores over the model's own indices, (B, W), after histories of 1 … `max_length` of these."""

    def _readable(self, histories: Ragged, theirs: Tensor) -> tuple[Ragged, Tensor]:
        """The histories that hold a known item, in the model's indices, and the rows they stand in."""
        items = theirs[histories.values]
        known = items >= 0
        lengths = torch.bincount(histories.row[known], minlength=len(histories))
        place = lengths.nonzero().flatten()
        return Ragged.from_lengths(items[known], lengths).select(place).tail(self.max_length), place


def their_indices(items: Vocabulary, known: Iterable[object], first: int) -> Tensor:
    """The index that another library gives each of our items; int64 (V,), −1 where it has none.

    Args:
        items: our catalogue.
        known: the library's ids in the order of its indices; matched by their text.
        first: its index of the first of them (what stands before is padding).

    Raises:
        DataError: if it knows none of the items.

    >>> their_indices(Vocabulary(pl.Series([7, 8, 9])), ["9", "7"], first=1).tolist()
    [2, -1, 1]
    """
    ids = pl.DataFrame({"id": [str(name) for name in known]}, schema={"id": pl.String})
    table = ids.with_row_index("index", offset=first).with_columns(pl.col("index").cast(pl.Int64))
    ours = items.ids.cast(pl.String).alias("id").to_frame()
    found = ours.join(table, on="id", how="left", maintain_order="left")["index"].fill_null(-1)
    if int(found.max()) < 0:  # type: ignore[arg-type]
        raise DataError(
            f"the model knows none of the {len(items):,} items: give the catalogue it was trained on"
        )
    return torch.from_numpy(found.to_numpy(writable=True))
