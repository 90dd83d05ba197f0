"""Where a GPU must not be waited for, no value of a tensor is asked for.

Tensors of the meta device have no values, so that whatever asks for one fails: a number, the places where a
mask is true, the distinct items of a list.
"""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from rsir import softmax
from rsir.data.batches import Batch, TrainingRows
from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.losses import LossConfig, Objective
from rsir.models import ranking
from rsir.models.backbones import MODELS
from rsir.models.base import SequenceModel
from rsir.models.ranking import SeenPolicy
from rsir.models.sasrec import SASRec
from rsir.ragged import Ragged

HISTORIES = Ragged.from_lists([[1, 2, 3, 4, 5], [6, 7], [8, 9, 1], [2, 2, 2, 4]])


def batches(targets: Literal["every", "last"] = "every") -> list[Batch]:
    data, each = Sequences.observed(HISTORIES, 10), torch.ones(4)
    return list(TrainingRows.build(data, 8, targets, each, each).epoch(0, 0, 3, "meta"))


def network(name: str) -> SequenceModel:
    return MODELS[name].model(10, MODELS[name].config()).to("meta").train()


@pytest.mark.parametrize(
    "ask",
    [
        Ragged.tolists,
        lambda rows: rows.values.unique(),
        lambda rows: rows.slice_rows(rows.lengths - 1, rows.lengths),
    ],
)
def test_a_value_that_is_asked_for_is_noticed(ask: Callable[[Ragged], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        ask(HISTORIES.to("meta"))


@pytest.mark.parametrize("targets", ["every", "last"])
@pytest.mark.parametrize("name", MODELS)
def test_an_update_asks_for_none(name: str, targets: Literal["every", "last"]) -> None:
    model = network(name)
    for batch in batches(targets):
        states = model.encode(batch.histories).index_select(0, batch.place)
        states.sum().backward()
        assert batch.target.shape == batch.weight.shape == batch.share.shape == states.shape[:1]


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce", "gbce"])
def test_the_losses_ask_for_none(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(softmax._TILE_BYTES, "meta", 1024)
    for fewest in (1, 10**9):  # tiles of positions, tiles of items
        monkeypatch.setattr(softmax, "_FEWEST", fewest)
        loss_of_a_batch(loss)


def loss_of_a_batch(loss: str) -> None:
    model, (batch, *_) = network("sasrec"), batches()
    objective = Objective(LossConfig(loss=loss), torch.ones(10), "meta")
    total = objective(model.encode(batch.histories), model.item_vectors(), batch.target, batch.weight, 3.0)
    total.backward()
    assert total.shape == ()


@pytest.mark.parametrize("name", ["fearec"])
def test_further_losses_ask_for_none(name: str) -> None:
    config = MODELS[name].config(contrast=0.1, spectral=0.1)
    model = MODELS[name].model(10, config).to("meta").train()
    assert model.auxiliary_loss(batches()[0], torch.Generator()) is not None


@pytest.mark.parametrize("seen", ["mask", "mask_except_target", "allow"])
def test_ranks_are_asked_for_once_at_the_end(seen: SeenPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(ranking._Check, "end", lambda check: ended.append((0, len(check.finite))))
    taken: list[list[Tensor]] = []

    def back(parts: list[Tensor], order: Tensor) -> Tensor:
        taken.append(parts)
        return torch.zeros(len(order))

    monkeypatch.setattr(ranking, "_back", back)
    cases = Cases(HISTORIES, torch.tensor([1, 2, 3, 4]), torch.arange(4))
    ranking.ranks(SASRec(10).to("meta"), cases, seen, batch_size=3)
    assert [len(part) for part in taken[0]] == [3, 1]
