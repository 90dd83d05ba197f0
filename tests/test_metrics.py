"""Metrics against closed forms, and against ranx."""

import math

import pytest
import torch

from rsir import metrics
from rsir.errors import ConfigError, DataError

MISS = float("inf")


def test_a_target_at_each_rank_earns_the_closed_form() -> None:
    rank = torch.arange(1, 13).double()
    places = range(1, 11)
    assert metrics.recall(rank, 10).sum() == 10
    assert metrics.ndcg(rank, 10).sum().item() == pytest.approx(sum(1 / math.log2(1 + r) for r in places))
    assert metrics.mrr(rank, 10).sum().item() == pytest.approx(sum(1 / r for r in places))


def test_a_miss_earns_nothing_at_any_cutoff() -> None:
    rank = torch.tensor([MISS])
    for metric in metrics.ACCURACY.values():
        assert metric(rank, 10**9).tolist() == [0.0]


def test_a_half_rank_counts_only_when_it_is_within_the_cutoff() -> None:
    rank = torch.tensor([10.5, 2.5])
    assert metrics.recall(rank, 10).tolist() == [0.0, 1.0]
    assert metrics.ndcg(rank, 10)[1].item() == pytest.approx(1 / math.log2(3.5))
    assert metrics.mrr(rank, 11).tolist() == pytest.approx([1 / 10.5, 1 / 2.5])


def test_accuracy_is_the_mean_by_name() -> None:
    found = metrics.accuracy(torch.tensor([1.0, 2.0, 4.0, MISS]), (1, 3))
    assert list(found) == ["recall@1", "ndcg@1", "mrr@1", "recall@3", "ndcg@3", "mrr@3"]
    assert found["recall@3"] == 0.5
    assert found["mrr@3"] == pytest.approx(1.5 / 4)


@pytest.mark.parametrize(("name", "says"), [("ndgc@10", "ndcg@10"), ("recall", "recall@10"), ("mrr@0", "1")])
def test_an_unknown_metric_names_the_nearest(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        metrics.by_name(name, torch.tensor([1.0]))


def test_coverage_and_gini_of_even_and_of_concentrated_lists() -> None:
    even, one = torch.arange(6).view(3, 2), torch.zeros(3, 1, dtype=torch.int64)
    assert metrics.coverage(even, 6) == 1.0
    assert metrics.gini(even, 6) == pytest.approx(0.0)
    assert metrics.coverage(one, 4) == 0.25
    assert metrics.gini(one, 4) == pytest.approx(1 - 1 / 4)
    assert metrics.gini(torch.tensor([[0], [0], [0], [1]]), 2) == pytest.approx(0.25)  # exposures 1, 3


def test_an_empty_place_in_a_list_is_no_recommendation() -> None:
    lists = torch.tensor([[0, 1], [0, -1]])
    counts = torch.tensor([4, 1])
    assert metrics.exposure(lists, 2).tolist() == [2, 1]
    assert metrics.mean_popularity(lists, counts) == 3.0
    with pytest.raises(DataError, match="nothing"):
        metrics.gini(torch.tensor([[-1]]), 2)


def test_popularity_percentile_is_a_half_on_average() -> None:
    counts = torch.tensor([5, 0, 5, 2, 9])
    everything = torch.arange(5)[None]
    assert metrics.popularity_percentile(everything, counts) == pytest.approx(0.5)
    assert metrics.popularity_percentile(torch.tensor([[4]]), counts) == pytest.approx(0.9)
    assert metrics.popularity_percentile(torch.tensor([[0]]), counts) == pytest.approx((2 + 4) / 2 / 5)


def test_novelty_of_equally_popular_items_is_the_logarithm_of_their_number() -> None:
    assert metrics.novelty(torch.tensor([[0, 3]]), torch.full((8,), 7)) == pytest.approx(3.0)
    rare, common = torch.tensor([[1]]), torch.tensor([[0]])
    counts = torch.tensor([6, 0])
    assert metrics.novelty(rare, counts) == pytest.approx(3.0)  # 1 of 8 after adding one each
    assert metrics.novelty(common, counts) == pytest.approx(math.log2(8 / 7))


def test_beyond_accuracy_looks_at_the_first_k_only() -> None:
    found = metrics.beyond_accuracy(torch.tensor([[0, 1], [0, 2]]), torch.tensor([3, 2, 1]), 1)
    assert found["coverage@1"] == pytest.approx(1 / 3)
    assert found["popularity@1"] == 3.0
    assert all(name.endswith("@1") for name in found)


@pytest.mark.slow  # ranx compiles itself on its first call
def test_equal_to_ranx() -> None:
    ranx = pytest.importorskip("ranx")
    num_items, rank = 40, torch.tensor([1, 2, 5, 10, 11, 20, 21, 40])
    relevant = {f"u{u}": {"target": 1} for u in range(len(rank))}
    run = {}
    for u, place in enumerate(rank.tolist()):
        names = [f"i{i}" for i in range(num_items - 1)]
        names.insert(place - 1, "target")
        run[f"u{u}"] = {name: float(num_items - at) for at, name in enumerate(names)}
    names = ["recall@10", "ndcg@10", "mrr@10", "recall@20", "ndcg@20", "mrr@20"]
    theirs = ranx.evaluate(ranx.Qrels(relevant), ranx.Run(run), names)
    ours = metrics.accuracy(rank, (10, 20))
    assert {name: ours[name] for name in names} == pytest.approx({k: float(v) for k, v in theirs.items()})
