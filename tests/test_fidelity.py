import pytest
import torch

from rsir.fidelity import RankFidelity
from rsir.rng import hash_scalar, permutation


def rank(rule: RankFidelity, items: list[int], scores: list[float], seen: set[int], own: int) -> int:
    ranked = torch.tensor([items]), torch.tensor([scores], dtype=torch.float64)
    seen_mask = torch.tensor([[item in seen for item in items]])
    own_score = torch.tensor([dict(zip(items, scores, strict=True)).get(own, -100.0)], dtype=torch.float64)
    return int(rule.best_rank(*ranked, seen_mask, torch.tensor([own]), own_score))


def test_rank_counts_the_items_ahead() -> None:
    assert rank(RankFidelity(5), [3, 1, 2], [9.0, 8.0, 7.0], set(), 2) == 3


def test_prefix_items_do_not_count_unless_all_do() -> None:
    args = [3, 1, 2], [9.0, 8.0, 7.0], {3}, 2
    assert rank(RankFidelity(5, "unseen"), *args) == 2
    assert rank(RankFidelity(5, "all"), *args) == 3


def test_equal_scores_rank_by_index() -> None:
    items, scores = [1, 4, 6], [2.0, 2.0, 2.0]
    assert [rank(RankFidelity(5), items, scores, set(), own) for own in items] == [1, 2, 3]


def test_a_rank_beyond_the_threshold_is_one_number() -> None:
    items, scores = [0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0]
    assert rank(RankFidelity(2), items, scores, set(), 3) == 3
    assert rank(RankFidelity(2), items, scores, set(), 99) == 3


@pytest.mark.parametrize(("value", "holds"), [(1, True), (5, True), (6, False)])
def test_the_threshold_itself_holds(value: int, holds: bool) -> None:
    assert RankFidelity(5).holds(torch.tensor([value])).tolist() == [holds]


def test_many_rows_equal_a_plain_count() -> None:
    items = torch.stack([permutation(30, "items", row) for row in range(50)])
    scores = torch.tensor([[-(place // 3) for place in range(30)]] * 50, dtype=torch.float64)
    items = torch.cat([block.sort(1).values for block in items.split(3, 1)], 1)
    seen = torch.tensor([[hash_scalar(r, c) % 4 == 0 for c in range(30)] for r in range(50)])
    seen[torch.arange(50), torch.arange(50) % 30] = False
    place = torch.arange(50) % 30
    own_item, own_score = items[torch.arange(50), place], scores[torch.arange(50), place]
    got = RankFidelity(30).best_rank(items, scores, seen, own_item, own_score)
    assert got.tolist() == [1 + int((~seen[r, : place[r]]).sum()) for r in range(50)]
