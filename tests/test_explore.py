import math

import pytest
import torch

from rsir.explore import BoundedExploration, Candidates
from rsir.ragged import Ragged
from rsir.rng import uniform


def candidates(scores: list[float], count: int, rows: int = 1) -> Candidates:
    items = torch.arange(len(scores)).expand(rows, -1) + 10
    return Candidates(
        items, torch.tensor([scores], dtype=torch.float64).expand(rows, -1), torch.full((rows,), count)
    )


def shares(rule: BoundedExploration, pool: Candidates) -> list[float]:
    """How often each item is chosen over many draws."""
    items = rule.choose(pool, uniform(0, torch.arange(len(pool.count_R)))) - 10
    return (torch.bincount(items, minlength=pool.items_RK.shape[1]) / len(items)).tolist()


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_the_own_pool_is_taken_with_probability_p(probability: float, expected: float) -> None:
    taken = BoundedExploration(probability).own_pool(uniform(1, torch.arange(20_000)))
    assert float(taken.double().mean()) == pytest.approx(expected, abs=0.01)


def test_one_candidate_is_the_best() -> None:
    assert shares(BoundedExploration(top_k=1), candidates([3.0, 2.0], 2, 100)) == [1.0, 0.0]


def test_without_temperature_the_k_best_are_equally_likely() -> None:
    got = shares(BoundedExploration(top_k=3), candidates([9.0, 2.0, 1.0, 0.0], 4, 30_000))
    assert got == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0], abs=0.01)


def test_with_temperature_the_draw_is_a_softmax() -> None:
    got = shares(BoundedExploration(top_k=3, temperature=2.0), candidates([2.0, 1.0, 0.0, 0.0], 4, 30_000))
    weights = [math.exp(1.0), math.exp(0.5), 1.0]
    assert got == pytest.approx([*(w / sum(weights) for w in weights), 0.0], abs=0.01)


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_fewer_candidates_than_k(temperature: float | None) -> None:
    got = shares(BoundedExploration(top_k=4, temperature=temperature), candidates([1.0] * 4, 2, 20_000))
    assert got == pytest.approx([0.5, 0.5, 0.0, 0.0], abs=0.015)


@pytest.mark.parametrize("draw", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("temperature", [None, 0.01, 100.0])
def test_the_ends_of_a_draw_stay_among_the_candidates(draw: float, temperature: float | None) -> None:
    rule = BoundedExploration(top_k=3, temperature=temperature)
    chosen = rule.choose(candidates([5.0, 4.0, -900.0], 2), torch.tensor([draw], dtype=torch.float64))
    assert int(chosen) in (10, 11)


def test_own_candidates_are_the_first_of_each_row() -> None:
    rows, scores = (
        Ragged.from_lists([[5, 3, 1], [7]]),
        torch.tensor([3.0, 2.0, 1.0, 4.0], dtype=torch.float64),
    )
    own = Candidates.own(rows, scores, 2)
    assert own.items_RK[0].tolist() == [5, 3]
    assert int(own.items_RK[1, 0]) == 7
    assert own.count_R.tolist() == [2, 1]


def test_free_candidates_skip_the_prefix() -> None:
    items, scores = torch.tensor([[8, 6, 4, 2]]), torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    free = Candidates.free(items, scores, torch.tensor([[True, False, True, False]]), 3)
    assert free.count_R.tolist() == [2]
    assert free.items_RK[0, :2].tolist() == [6, 2]
    assert free.scores_RK[0, :2].tolist() == [3.0, 1.0]
