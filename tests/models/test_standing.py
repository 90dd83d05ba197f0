"""Ranks by the compiled loop and by tensor operations, against plain Python."""

import pytest
import torch

from rsir.models import ranking


@pytest.mark.parametrize("way", ["loop", "operations"])
def test_higher_and_level_scores_are_counted(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "operations":
        monkeypatch.setattr(ranking, "loops", lambda module: None)
    generator = torch.Generator().manual_seed(0)
    for rows, items in ((1, 1), (3, 7), (20, 300)):
        scores = torch.randint(-4, 5, (rows, items), generator=generator).float() / 3  # full of ties
        target = torch.randint(items, (rows,), generator=generator)
        goal = scores.gather(1, target[:, None])
        higher, level, finite = ranking._standing(scores, goal)
        lists = scores.tolist()
        assert higher.tolist() == [
            sum(s > row[t] for s in row) for row, t in zip(lists, target.tolist(), strict=True)
        ]
        assert level.tolist() == [
            row.count(row[t]) - 1 for row, t in zip(lists, target.tolist(), strict=True)
        ]
        assert bool(finite)
        turned = ranking._standing(scores.T.contiguous().T, goal)  # not contiguous
        assert torch.equal(turned[0], higher)


@pytest.mark.parametrize("way", ["loop", "operations"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), torch.finfo(torch.float32).max])
def test_a_score_that_is_not_finite_is_noticed(
    way: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "operations":
        monkeypatch.setattr(ranking, "loops", lambda module: None)
    scores = torch.zeros(4, 33)
    scores[2, 31] = value
    _, _, finite = ranking._standing(scores, scores[:, :1])
    assert bool(finite) == (value == torch.finfo(torch.float32).max)
