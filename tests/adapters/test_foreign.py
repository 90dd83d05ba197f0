"""What all adapters share, on a model whose answers are known."""

import builtins
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

from rsir.adapters.foreign import ForeignModel, their_indices
from rsir.adapters.recbole import RecBoleModel, write_dataset
from rsir.adapters.rectools import RecToolsModel, to_dataset
from rsir.data.read import from_sequences, read_log
from rsir.data.vocabulary import Vocabulary
from rsir.errors import DataError, MissingExtraError
from rsir.generate import GenerationConfig, generate
from rsir.ragged import Ragged

ITEMS = Vocabulary(pl.Series(["a", "b", "c", "d"]))


class Successor(ForeignModel):
    """Its indices are 1 … W−1; after item w it scores w+1 best, then w+2, …, round in a circle."""

    def __init__(self, known: list[str], max_length: int = 5) -> None:
        super().__init__(their_indices(ITEMS, known, first=1), max_length)
        self.width, self.asked = len(known), []

    def score_theirs(self, histories: Ragged) -> Tensor:
        self.asked += histories.tolists()
        last = histories.values[histories.last]
        distance = (torch.arange(1, self.width + 1) - last[:, None]) % self.width
        padding = torch.full((len(last), 1), 1e9)
        return torch.cat([padding, -((distance - 1) % self.width).float()], dim=1)


def test_scores_follow_our_order_of_items() -> None:
    scores = Successor(["d", "c", "b", "a"]).score(Ragged.from_lists([[0], [3, 2]]))
    assert scores.tolist() == [[-3.0, -2.0, -1.0, 0.0], [-1.0, 0.0, -3.0, -2.0]]


def test_unknown_items_stand_last_and_are_passed_over() -> None:
    model = Successor(["a", "c", "d"])
    scores = model.score(Ragged.from_lists([[1], [0, 1], [1, 1]]))
    assert model.asked == [[1]]
    assert scores.tolist() == [[0.0] * 4, [-2.0, -3.0, 0.0, -1.0], [0.0] * 4]


def test_only_the_last_known_events_are_read() -> None:
    model = Successor(["a", "c", "d"], max_length=2)
    model.score(Ragged.from_lists([[2, 0, 3, 1, 0, 1]]))
    assert model.asked == [[3, 1]]


def test_it_generates_what_it_believes() -> None:
    log = from_sequences([["a", "b", "c", "d"], ["b", "c", "d", "a"]])
    assert log.items.ids.to_list() == ITEMS.ids.to_list()
    config = GenerationConfig(num_rollouts=1, max_rank=1, min_length=2)
    rollouts = generate(Successor(["a", "b", "c", "d"]), log.sequences(), config, seed=0, round_index=1)
    assert rollouts.events.tolists() == [[0, 1, 2, 3], [1, 2, 3, 0]]


def test_a_model_of_another_log_is_refused() -> None:
    with pytest.raises(DataError, match="knows none of the 4 items"):
        Successor(["x", "y"])


def test_a_written_data_set_is_read_back(tmp_path: Any) -> None:
    frame = pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": [5, 4, 5], "timestamp": [1, 2, 3]})
    path = write_dataset(frame, tmp_path, "shop")
    assert path == tmp_path / "shop" / "shop.inter"
    assert read_log(path).to_frame()["item_id"].to_list() == [5, 4, 5]


@pytest.mark.parametrize(
    ("library", "act", "what"),
    [
        ("rectools", lambda: RecToolsModel(object(), ITEMS), r"pip install 'rsir\[rectools\]'"),
        ("rectools", lambda: to_dataset(pl.DataFrame()), r"pip install 'rsir\[rectools\]'"),
        ("recbole", lambda: RecBoleModel(object(), object(), ITEMS), "an environment of its own"),
    ],
)
def test_a_missing_library_is_named(
    library: str, act: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == library:
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=what):
        act()
