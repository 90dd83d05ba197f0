import pytest
import torch

from rsir.fidelity import RankFidelity
from rsir.rng import hash_scalar


def rank(rule: RankFidelity, items: list[int], seen: set[int], own: int) -> int:
    place = torch.tensor([items.index(own) if own in items else len(items)])
    return int(rule.best_rank(place, torch.tensor([[item in seen for item in items]])))


def test_rank_counts_the_items_ahead() -> None:
    assert rank(RankFidelity(5), [3, 1, 2], set(), 2) == 3


def test_prefix_items_do_not_count_unless_all_do() -> None:
    args = [3, 1, 2], {3}, 2
    assert rank(RankFidelity(5, "unseen"), *args) == 2
    assert rank(RankFidelity(5, "all"), *args) == 3


def test_a_rank_beyond_the_threshold_is_one_number() -> None:
    assert rank(RankFidelity(2), [0, 1, 2, 3], set(), 3) == 3
    assert rank(RankFidelity(2), [0, 1, 2, 3], set(), 99) == 3


@pytest.mark.parametrize(("value", "holds"), [(1, True), (5, True), (6, False)])
def test_the_threshold_itself_holds(value: int, holds: bool) -> None:
    assert RankFidelity(5).holds(torch.tensor([value])).tolist() == [holds]


def test_many_rows_equal_a_plain_count() -> None:
    seen = torch.tensor([[hash_scalar(r, c) % 4 == 0 for c in range(30)] for r in range(50)])
    place = torch.arange(50) % 30
    got = RankFidelity(30).best_rank(place, seen)
    assert got.tolist() == [1 + int((~seen[r, : place[r]]).sum()) for r in range(50)]
