"""RecBole (1.2): its sequential models generate and judge here; enriched data trains its models.

RecBole needs older libraries than rsir's own tests run with, so it is no extra: install rsir and it into an
environment of their own (docs/models.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from rsir.adapters.foreign import ForeignModel, their_indices
from rsir.data.vocabulary import Vocabulary
from rsir.data.write import write_log
from rsir.errors import MissingExtraError, ModelError
from rsir.files import whole_file
from rsir.ragged import Ragged


class RecBoleModel(ForeignModel):
    """A trained sequential model of RecBole (`SASRec`, `GRU4Rec`, `BERT4Rec` …) as a `Recommender`.

    The scores are those of the model's own `full_sort_predict`.

    Args:
        model: trained; it is put in evaluation mode and stays on its device.
        dataset: the data set it was made with (`train_data.dataset`), for its item tokens.
        items: our catalogue, `run.interactions.items`.

    Raises:
        MissingExtraError: if RecBole is not installed.
        ModelError: if it is no sequential model.
        DataError: if it knows none of the items.

    >>> teacher = RecBoleModel(model, train_data.dataset, log.items)  # doctest: +SKIP
    >>> generate(teacher, split.train, GenerationConfig(), seed=0, round_index=1)  # doctest: +SKIP
    """

    def __init__(self, model: Any, dataset: Any, items: Vocabulary) -> None:
        sequential, self._interaction = _library()
        if not isinstance(model, sequential):
            raise ModelError(
                f"{type(model).__name__} is no sequential model of RecBole: give a SASRec or alike"
            )
        tokens = dataset.field2id_token[dataset.iid_field][1:]  # index 0 is padding
        super().__init__(their_indices(items, tokens, first=1), model.max_seq_length)
        self._model = model.eval()

    @torch.no_grad()
    def score_theirs(self, histories: Ragged) -> Tensor:
        """Scores over RecBole's indices, padding included; float32 (B, W).

        Raises:
            ModelError: if the model reads more of an event than its item.
        """
        model = self._model
        items = torch.nn.functional.pad(
            histories.pad(histories.values), (0, self.max_length - histories.max_length)
        )
        asked = {model.ITEM_SEQ: items, model.ITEM_SEQ_LEN: histories.lengths}
        try:
            scores = model.full_sort_predict(self._interaction(asked).to(model.device))
        except KeyError as error:
            raise ModelError(
                f"{type(model).__name__} reads {error} of each case: give a model of item sequences"
            ) from None
        rows: Tensor = scores.view(len(histories), model.n_items)
        return rows


def _library() -> tuple[Any, Any]:
    """RecBole's class of sequential models and its form of a batch."""
    try:
        from recbole.data.interaction import Interaction
        from recbole.model.abstract_recommender import SequentialRecommender
    except ImportError:
        raise MissingExtraError(
            "RecBole is not installed: it needs an environment of its own, see docs/models.md"
        ) from None
    return SequentialRecommender, Interaction


def write_dataset(events: pl.DataFrame, folder: str | Path, name: str) -> Path:
    """Write events as RecBole's data set `name`: `folder/name/name.inter`; its `data_path` is `folder`.

    RecBole holds times in float32, where neighbours in a long log fall together; it sorts stably, so a user's
    events keep the order they have here.

    Args:
        events: `user_id`, `item_id`, `timestamp`, as `enrich` or `events_frame` has them.
        folder: where data sets are.
        name: of this one.

    Returns:
        The path of the file.

    Raises:
        DataError: if an id cannot stand in such a file.
        StoreError: if the system refuses to write.

    >>> write_dataset(enrich(run), "data", "shop")  # doctest: +SKIP
    PosixPath('data/shop/shop.inter')
    """
    path = Path(folder) / name / f"{name}.inter"
    with whole_file(path) as part:
        write_log(events, part, ".inter")
    return path
