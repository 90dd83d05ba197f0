"""Losses against their closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rsir import softmax
from rsir.losses import bce_loss, gbce_beta, sampled_softmax_loss
from rsir.softmax import SoftTargets, softmax_loss

V, N, D = 50, 23, 8


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=generator, requires_grad=True)
    vectors = torch.randn(V, D, generator=generator, requires_grad=True)
    target = torch.randint(V, (N,), generator=generator)
    return hidden, vectors, target, torch.rand(N, generator=generator)


TILES = [
    ("positions", 1 << 20),
    ("positions", 5),
    ("positions", 1),
    ("items", 16),
    ("items", 20),
    ("items", V),
]
"""What a tile is of, and how many."""


def set_tile(monkeypatch: pytest.MonkeyPatch, kind: str, size: int) -> list[str]:
    """So many positions or items at a time; the list that is returned tells what was visited."""
    visited = list[str]()
    by = {"positions": softmax._by_positions, "items": softmax._by_items}

    def visit(states: Tensor, items: Tensor, goal: softmax._Goal, tile: int) -> softmax._Visited:
        visited.append(kind)
        return by[kind](states, items, goal, size)

    for name in by:
        monkeypatch.setattr(softmax, f"_by_{name}", visit)
    return visited


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiled_softmax_equals_cross_entropy_with_gradients(
    smoothing: float, tile: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    visited = set_tile(monkeypatch, *tile)
    hidden, vectors, target, weight = problem()
    each = F.cross_entropy(hidden @ vectors.T, target, reduction="none", label_smoothing=smoothing)
    expected = (each * weight).sum() / 7.0
    want = torch.autograd.grad(3 * expected, [hidden, vectors])
    loss = softmax_loss(hidden, vectors, target, weight, 7.0, label_smoothing=smoothing)
    got = torch.autograd.grad(3 * loss, [hidden, vectors])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(got, want)
    assert visited == [tile[0]]


@pytest.mark.parametrize(
    ("num_items", "kind"), [(V, "positions"), (87_000, "positions"), (88_000, "items"), (1_000_000, "items")]
)
def test_tiles_are_of_items_where_few_positions_would_fit(
    num_items: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[tuple[str, int]]()

    def stub(name: str) -> Callable[..., softmax._Visited]:
        def visit(states: Tensor, items: Tensor, goal: softmax._Goal, tile: int) -> softmax._Visited:
            taken.append((name, tile))
            return goal.weight_N, goal.weight_N, torch.zeros_like(states), torch.zeros_like(items)

        return visit

    for name in ("positions", "items"):
        monkeypatch.setattr(softmax, f"_by_{name}", stub(name))
    softmax_loss(
        torch.zeros(2000, 1), torch.zeros(num_items, 1), torch.zeros(2000).long(), torch.ones(2000), 1.0
    )
    (found,) = taken
    assert found[0] == kind
    assert found[1] * (num_items if kind == "positions" else 8 * 2000) <= softmax._TILE_BYTES["cpu"] // 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_soft_targets_are_a_mixture_with_the_teachers_softmax(
    smoothing: float, tile: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_tile(monkeypatch, *tile)
    hidden, vectors, target, weight = problem()
    states, items, share = torch.randn(N, 5), torch.randn(V, 5), torch.linspace(0, 1, N)
    hard = (1 - smoothing) * F.one_hot(target, V) + smoothing / V
    goal = (1 - share)[:, None] * hard + share[:, None] * (states @ items.T).softmax(1)
    expected = (-(goal * (hidden @ vectors.T).log_softmax(1)).sum(1) * weight).sum() / 7.0
    want = torch.autograd.grad(expected, [hidden, vectors])
    soft = SoftTargets(states, items, share)
    loss = softmax_loss(hidden, vectors, target, weight, 7.0, label_smoothing=smoothing, soft=soft)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, [hidden, vectors]), want)


@pytest.mark.parametrize("kind", ["positions", "items"])
def test_softmax_in_bfloat16_is_near(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_tile(monkeypatch, kind, 16)
    hidden, vectors, target, weight = problem()
    exact = softmax_loss(hidden, vectors, target, weight, float(N))
    want = torch.autograd.grad(exact, [hidden, vectors])
    rounded = softmax_loss(hidden, vectors, target, weight, float(N), bfloat16=True)
    got = torch.autograd.grad(rounded, [hidden, vectors])
    assert (rounded - exact).abs() < 0.02
    for a, b in zip(got, want, strict=True):
        assert (a - b).norm() / b.norm() < 0.02


def test_sampled_softmax_over_the_whole_catalogue_is_the_softmax() -> None:
    hidden, vectors, target, weight = problem()
    exact = softmax_loss(hidden, vectors, target, weight, float(N))
    everything = torch.arange(V)
    shared = sampled_softmax_loss(hidden, vectors, target, weight, float(N), everything)
    each = sampled_softmax_loss(hidden, vectors, target, weight, float(N), everything.expand(N, V))
    torch.testing.assert_close(shared, exact)
    torch.testing.assert_close(each, exact)


def test_log_q_correction_makes_popularity_sampling_unbiased() -> None:
    hidden, vectors, _, _ = problem()
    popularity = torch.arange(1, V + 1).float()
    drawn = torch.multinomial(
        popularity, 400_000, replacement=True, generator=torch.Generator().manual_seed(1)
    )
    # with so many draws, exp(score) / expected count sums to the full partition function
    log_q = (popularity / popularity.sum() * 400_000).log()
    scores = hidden @ vectors.T
    estimated = torch.logsumexp(scores[:, drawn] - log_q[drawn], 1)
    torch.testing.assert_close(estimated, torch.logsumexp(scores, 1), atol=0.08, rtol=0)


def test_bce_by_hand() -> None:
    hidden, vectors = torch.tensor([[1.0]]), torch.tensor([[2.0], [-1.0], [0.5]])
    loss = bce_loss(hidden, vectors, torch.tensor([0]), torch.ones(1), 1.0, torch.tensor([[1, 2]]))
    positive = math.log1p(math.exp(-2))
    negative = (math.log1p(math.exp(-1)) + math.log1p(math.exp(0.5))) / 2
    assert float(loss) == pytest.approx(positive + negative)


def test_a_negative_that_is_the_target_does_not_count() -> None:
    hidden, vectors, target, weight = problem()
    clash = torch.stack([target, (target + 1) % V], 1)
    alone = (target[:, None] + 1) % V
    for loss in (bce_loss, sampled_softmax_loss):
        torch.testing.assert_close(
            loss(hidden, vectors, target, weight, 1.0, clash),
            loss(hidden, vectors, target, weight, 1.0, alone),
        )


def test_gbce_beta_ends() -> None:
    assert gbce_beta(10, 101, 0.0) == pytest.approx(1.0)
    assert gbce_beta(10, 101, 1.0) == pytest.approx(0.1)
