import pytest
import torch
from oracles.generation import dot

from rsir.errors import ModelError
from rsir.models.topk import Catalogue, exact_dot, exact_order, exact_top_k, paired_scores


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def full_sort(
    states: torch.Tensor, vectors: torch.Tensor, k: int
) -> tuple[list[list[int]], list[list[float]]]:
    items, scores = [], []
    for state in states.tolist():
        row = [dot(state, vector) for vector in vectors.tolist()]
        best = sorted(range(len(row)), key=lambda item: (-row[item], item))[:k]
        items.append(best)
        scores.append([row[item] for item in best])
    return items, scores


@pytest.mark.parametrize("dim", [1, 5, 8, 33])
def test_exact_dot_has_the_bits_of_its_definition(dim: int) -> None:
    left, right = draws(20, dim), draws(20, dim, seed=1)
    assert exact_dot(left, right).tolist() == [
        dot(a, b) for a, b in zip(left.tolist(), right.tolist(), strict=True)
    ]


@pytest.mark.parametrize("k", [1, 5, 200])
@pytest.mark.parametrize("tile_size", [3, 64, 200, 1000])
def test_equal_to_a_full_sort(k: int, tile_size: int) -> None:
    states, vectors = draws(9, 12), draws(200, 12, seed=1)
    items, scores = exact_top_k(states, Catalogue.of(vectors, tile_size), k)
    assert (items.tolist(), scores.tolist()) == full_sort(states, vectors, k)
    assert torch.equal(exact_order(states, Catalogue.of(vectors, tile_size), k), items)


@pytest.mark.parametrize("tile_size", [64, 2000])
def test_the_best_of_many_blocks_are_found(tile_size: int) -> None:
    states, vectors = draws(4, 6), draws(1500, 6, seed=1)
    items, _ = exact_top_k(states, Catalogue.of(vectors, tile_size), 4)
    assert items.tolist() == full_sort(states, vectors, 4)[0]
    assert torch.equal(exact_order(states, Catalogue.of(vectors, tile_size), 4), items)


@pytest.mark.parametrize("tile_size", [7, 400])
def test_ties_beyond_the_margin_are_resolved_by_index(tile_size: int) -> None:
    vectors = draws(400, 8)
    vectors[30:330] = vectors[30]
    states = vectors[[30, 1]]
    items, _ = exact_top_k(states, Catalogue.of(vectors, tile_size), 10)
    assert items.tolist() == full_sort(states, vectors, 10)[0]
    assert torch.equal(exact_order(states, Catalogue.of(vectors, tile_size), 10), items)


def test_near_ties_below_float32_resolution_are_ordered_exactly() -> None:
    # A large common part hides differences that only the exact scores show.
    vectors = torch.cat([torch.full((300, 1), 4096.0), draws(300, 1) * 1e-4], 1)
    states = torch.tensor([[4096.0, 1.0]])
    items, _ = exact_top_k(states, Catalogue.of(vectors, 50), 5)
    assert items[0].tolist() == vectors[:, 1].argsort(descending=True)[:5].tolist()
    assert (states @ vectors.T)[0].argsort(descending=True)[:5].tolist() != items[0].tolist()


def test_paired_scores_have_the_same_bits_as_the_top_k() -> None:
    states, vectors = draws(3, 10), draws(50, 10, seed=1)
    items, scores = exact_top_k(states, Catalogue.of(vectors, 9), 50)
    row = torch.arange(3).repeat_interleave(50)
    assert torch.equal(paired_scores(states, vectors, row, items.flatten()), scores.flatten())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_scores_that_are_not_finite_are_an_error(bad: float) -> None:
    states, vectors = draws(3, 4), draws(10, 4, seed=1)
    states[1, 2] = bad
    with pytest.raises(ModelError, match="not finite"):
        exact_top_k(states, Catalogue.of(vectors * 100, 4), 2)
