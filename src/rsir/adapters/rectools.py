"""RecTools (0.19): its transformers generate and judge here; enriched data trains its models.

pip install 'rsir[rectools]'
"""

from __future__ import annotations

from typing import Any

import polars as pl
import torch
from torch import Tensor

from rsir.adapters.foreign import ForeignModel, their_indices
from rsir.data.vocabulary import Vocabulary
from rsir.errors import DataError, MissingExtraError, ModelError, NotFittedError
from rsir.ragged import Ragged

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LATEST = 9.2e9
"""Seconds since 1970 that pandas' nanoseconds hold."""


class RecToolsModel(ForeignModel):
    """A fitted transformer of RecTools (`SASRecModel`, `BERT4RecModel`) as a `Recommender`.

    Histories go the way of the library's own `recommend`: through the model's data preparator, its network
    and its similarity module. The scores are what `recommend` ranks by.

    Args:
        model: fitted; it is put in evaluation mode and stays on its device.
        items: our catalogue, `run.interactions.items`.

    Raises:
        MissingExtraError: if RecTools is not installed.
        ModelError: if it is another kind of model, or reads the times of events, which prefixes lack.
        NotFittedError: if it was not fitted.
        DataError: if it knows none of the items.

    >>> teacher = RecToolsModel(model, log.items)  # doctest: +SKIP
    >>> generate(teacher, split.train, GenerationConfig(), seed=0, round_index=1)  # doctest: +SKIP
    """

    def __init__(self, model: Any, items: Vocabulary) -> None:
        _check(model)
        preparator = model.data_preparator
        known, first = preparator.get_known_item_ids(), preparator.n_item_extra_tokens
        super().__init__(their_indices(items, known, first), model.session_max_len)
        self._prepare, self._network = preparator._collate_fn_recommend, model.torch_model.eval()

    @torch.no_grad()
    def score_theirs(self, histories: Ragged) -> Tensor:
        """Scores over RecTools' indices, extra tokens included; float32 (B, W)."""
        network = self._network
        sessions: list[Any] = [(row, [1.0] * len(row), {}) for row in histories.tolists()]
        vectors = network.item_model.get_all_embeddings()
        batch = {name: values.to(vectors.device) for name, values in self._prepare(sessions).items()}
        states: Tensor = network.encode_sessions(batch, vectors)[:, -1]
        scores: Tensor = network.similarity_module(states, vectors)
        return scores


def _check(model: Any) -> None:
    """Refuse what cannot rank the catalogue after a history of items."""
    try:
        from rectools.models.nn.transformers.base import TransformerModelBase
    except ImportError:
        raise MissingExtraError("RecTools is not installed: pip install 'rsir[rectools]'") from None
    if not isinstance(model, TransformerModelBase):
        raise ModelError(
            f"{type(model).__name__} is no transformer of RecTools: give a fitted SASRecModel or alike"
        )
    if not model.is_fitted:
        raise NotFittedError(f"{type(model).__name__} is not fitted: call its fit(dataset) first")
    if model.data_preparator.add_unix_ts:
        raise ModelError(
            f"{type(model).__name__} reads the times of events and generated prefixes have none: "
            "fit it without relative time attention"
        )


def to_dataset(events: pl.DataFrame) -> Any:
    """Events as RecTools' `Dataset`, for `model.fit`; a user's events keep their order.

    Args:
        events: `user_id`, `item_id`, `timestamp`, as `enrich`, `events_frame` or `rsir generate` make
            them. Times that are numbers count as seconds since 1970, or as milli-, micro- or nanoseconds
            where they are too large for that.

    Raises:
        MissingExtraError: if RecTools is not installed.
        DataError: if a column is missing, or there is no event.
    """
    try:
        import pandas as pd
        from rectools import Columns
        from rectools.dataset import Dataset
    except ImportError:
        raise MissingExtraError("RecTools is not installed: pip install 'rsir[rectools]'") from None
    missing = {"user_id", "item_id", "timestamp"} - set(events.columns)
    if missing or not len(events):
        what = f"have no column {min(missing)!r}" if missing else "are none"
        raise DataError(f"the events {what}: give what rsir generate or rsir.enrich.enrich makes")
    columns = {
        Columns.User: events["user_id"].to_list(),
        Columns.Item: events["item_id"].to_list(),
        Columns.Weight: 1.0,
        Columns.Datetime: _nanoseconds(events["timestamp"]).to_numpy().astype("datetime64[ns]"),
    }
    return Dataset.construct(pd.DataFrame(columns))


def _nanoseconds(time: pl.Series) -> pl.Series:
    """Times as nanoseconds since 1970, int64."""
    if time.dtype == pl.Datetime:
        return time.dt.epoch("ns")
    largest = float(time.abs().max())  # type: ignore[arg-type]
    unit = next((unit for unit in _UNITS.values() if largest < _LATEST * unit), 10**9)
    return (time * (10**9 // unit)).cast(pl.Int64)
