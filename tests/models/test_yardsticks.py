"""Most popular items and item neighbours on data small enough to count by hand."""

import math

import pytest
import torch

from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.errors import ConfigError, DataError
from rsir.evaluate import ranks
from rsir.models.base import Recommender
from rsir.models.item_knn import ItemKNN
from rsir.models.popular import MostPopular, RecentPopular, popular_yardsticks
from rsir.ragged import Ragged
from rsir.rng import hash_tensor


def _train(rows: list[list[int]], num_items: int) -> Sequences:
    return Sequences.observed(Ragged.from_lists(rows), num_items)


def test_both_are_recommenders() -> None:
    train = _train([[0, 1]], 2)
    assert isinstance(MostPopular(train), Recommender)
    assert isinstance(ItemKNN(train), Recommender)


def test_popularity_orders_by_count_then_index_without_ties() -> None:
    model = MostPopular(_train([[3, 1, 3], [1, 3], [2, 0]], 5))
    scores = model.score(Ragged.from_lists([[0], [1, 2]]))
    assert scores.shape == (2, 5)
    assert scores[0].argsort(descending=True).tolist() == [3, 1, 0, 2, 4]
    assert scores[0].unique().numel() == 5
    assert torch.equal(scores[0], scores[1])


def _timed(rows: list[list[int]], times: list[float], num_items: int) -> Sequences:
    events = Ragged.from_lists(rows).with_time(torch.tensor(times).double())
    return Sequences.observed(events, num_items)


def test_recent_popularity_counts_the_newest_events_of_all_users() -> None:
    """Item 3 leads over all time, item 1 among the four newest events; equals go by the count of all."""
    train = _timed([[3, 3, 1, 0], [3, 2], [3, 1, 2]], [1, 2, 8, 3, 4, 9, 5, 7, 6], 5)
    of_late = RecentPopular(train, share=4 / 9).score(train.events)[0]
    assert of_late.argsort(descending=True).tolist() == [1, 2, 3, 0, 4]
    of_all = RecentPopular(train, share=1).score(train.events)
    assert torch.equal(of_all, MostPopular(train).score(train.events))


def test_without_times_nothing_is_recent() -> None:
    untimed = _train([[0, 1]], 2)
    assert popular_yardsticks(untimed).keys() == {"most_popular"}
    assert popular_yardsticks(_timed([[0, 1]], [1, 2], 2)).keys() == {"most_popular", "recent_popular"}
    with pytest.raises(DataError, match="needs times"):
        RecentPopular(untimed)


def _slow_scores(rows: list[list[int]], num_items: int, history: list[int], decay: float) -> list[float]:
    holds = [{r for r, row in enumerate(rows) if item in row} for item in range(num_items)]
    scores = [0.0] * num_items
    for back, event in enumerate(reversed(history)):
        for item in set(range(num_items)) - {event}:
            both = len(holds[event] & holds[item])
            if both:
                scores[item] += decay**back * both / math.sqrt(len(holds[event]) * len(holds[item]))
    return scores


def test_neighbours_equal_the_definition() -> None:
    rows = (hash_tensor("row", torch.arange(120).view(30, 4)) % 9).abs().tolist()  # repeats inside rows too
    train, histories = _train(rows, 10), [[0, 4, 4, 2], [7], [9]]
    scores = ItemKNN(train, decay=0.5).score(Ragged.from_lists(histories))
    for row, history in zip(scores.tolist(), histories, strict=True):
        assert row == pytest.approx(_slow_scores(rows, 10, history, 0.5), abs=1e-6)
    assert scores[2].abs().sum() == 0  # item 9 is in no training sequence


def test_only_the_nearest_neighbours_count() -> None:
    train = _train([[0, 1], [0, 1], [0, 2], [3, 2]], 4)
    scores = ItemKNN(train, num_neighbors=1).score(Ragged.from_lists([[0]]))[0]
    assert scores.nonzero().flatten().tolist() == [1]


def test_neighbours_answer_a_deterministic_chain() -> None:
    rows = [[2 * i, 2 * i + 1] for i in range(5)] * 3
    cases = Cases(Ragged.from_lists([[2 * i] for i in range(5)]), torch.arange(1, 10, 2), torch.arange(5))
    assert ranks(ItemKNN(_train(rows, 10)), cases).tolist() == [1.0] * 5
    assert ranks(MostPopular(_train(rows, 10)), cases).mean() > 2


@pytest.mark.parametrize("options", [{"num_neighbors": 0}, {"decay": 0.0}, {"decay": 1.5}])
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ItemKNN(_train([[0, 1]], 2), **options)  # type: ignore[arg-type]
