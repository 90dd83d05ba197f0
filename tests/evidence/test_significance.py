"""The bootstrap on differences whose law is known, and Holm on a worked example."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rsir.errors import DataError
from rsir.evidence.significance import growth, hierarchical_bootstrap, holm, paired_bootstrap


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _ndcg_like(cases: int, seed: int, best: float = 0.1) -> Tensor:
    """Mostly misses, a few hits at whole ranks."""
    draw = torch.rand(cases, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rank = (draw / best * 10).ceil().clamp(min=1)
    return torch.where(rank <= 10, 1 / torch.log2(1 + rank), 0.0)


def test_a_constant_gain_has_an_interval_of_no_width() -> None:
    a = _ndcg_like(500, 0)
    found = paired_bootstrap(a, a + 0.25, num_samples=999)
    assert (found.difference, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.p == 2 / 1000
    assert found.relative == pytest.approx(0.25 / a.mean().item())
    assert found.relative_low < found.relative < found.relative_high


def test_equal_arms_are_not_different() -> None:
    a = _ndcg_like(500, 0)
    found = paired_bootstrap(a, a, num_samples=200)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_interval_is_that_of_the_normal_law() -> None:
    d = _normal(4000, seed=1)
    found = paired_bootstrap(torch.zeros(4000), d, num_samples=4000)
    half = 1.96 * d.std().item() / math.sqrt(4000)
    assert found.high - found.difference == pytest.approx(half, rel=0.08)
    assert found.difference - found.low == pytest.approx(half, rel=0.08)
    z = found.difference / (d.std().item() / math.sqrt(4000))
    assert found.p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.04)


def test_the_counts_are_those_of_drawing_cases_one_by_one() -> None:
    """The same law as the textbook bootstrap with indices, on few values with many ties."""
    a, b = _ndcg_like(300, 2), _ndcg_like(300, 3, best=0.14)
    found = paired_bootstrap(a, b, num_samples=8000)
    index = np.random.default_rng(0).integers(300, size=(8000, 300))
    slow = (b - a).numpy()[index].mean(1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.0025)


def test_p_is_uniform_and_the_interval_covers_under_the_null() -> None:
    """400 experiments without a difference: 5 % rejected, p uniform; binomial bounds at 4 sigma."""
    found = [
        paired_bootstrap(torch.zeros(100), _normal(100, seed=s), num_samples=400, seed=s) for s in range(400)
    ]
    covered = sum(one.low <= 0 <= one.high for one in found) / 400
    assert 0.95 - 0.055 < covered < 0.95 + 0.045
    p = np.array([one.p for one in found])
    for level in (0.1, 0.3, 0.5, 0.7):
        assert abs((p <= level).mean() - level) < 4 * math.sqrt(level * (1 - level) / 400)


def test_the_same_seed_gives_the_same_numbers_and_swapping_arms_mirrors() -> None:
    a, b = _ndcg_like(300, 2), _ndcg_like(300, 3)
    assert paired_bootstrap(a, b, num_samples=300) == paired_bootstrap(a, b, num_samples=300)
    assert paired_bootstrap(a, b, num_samples=300, seed=1).low != paired_bootstrap(a, b, num_samples=300).low
    assert (
        paired_bootstrap(a, b, num_samples=300).difference
        == -paired_bootstrap(b, a, num_samples=300).difference
    )


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _normal(50, seed=0).abs(), _normal(50, seed=1).abs()
    whole = paired_bootstrap(a, b, num_samples=100)
    monkeypatch.setattr("rsir.evidence.significance._DRAWS_AT_ONCE", 350)
    chunked = paired_bootstrap(a, b, num_samples=100)
    assert (chunked.low, chunked.p) == pytest.approx((whole.low, whole.p))


def test_the_relative_gain_of_a_control_that_never_hits_is_unknown() -> None:
    found = paired_bootstrap(torch.zeros(20), torch.ones(20), num_samples=50)
    assert math.isnan(found.relative)
    assert math.isnan(found.relative_low)
    assert found.difference == 1.0


def test_one_seed_is_the_paired_bootstrap() -> None:
    a, b = _ndcg_like(300, 2), _ndcg_like(300, 3)
    assert hierarchical_bootstrap(a[None], b[None], num_samples=300) == paired_bootstrap(
        a, b, num_samples=300
    )


def _crossed(seeds: int, cases: int, of_seed: float, of_case: float, seed: int) -> Tensor:
    """Differences with mean 0, an effect of the seed, of the user, and noise."""
    by_seed = _normal(seeds, 1, seed=3 * seed) * of_seed
    by_case = _normal(1, cases, seed=3 * seed + 1) * of_case
    return by_seed + by_case + 0.1 * _normal(seeds, cases, seed=3 * seed + 2)


@pytest.mark.parametrize(("of_seed", "of_case"), [(0.0, 1.0), (0.3, 1.0)])
def test_seeds_that_share_users_do_not_make_the_interval_too_narrow(of_seed: float, of_case: float) -> None:
    """Coverage over 200 experiments; users drawn anew in each seed would cover under half of the first."""
    found = []
    for s in range(200):
        d = _crossed(10, 100, of_seed, of_case, s)
        found.append(hierarchical_bootstrap(torch.zeros_like(d), d, num_samples=300, seed=s))
    covered = sum(one.low <= 0 <= one.high for one in found) / 200
    assert covered > 0.88
    assert covered < 0.995


def test_spread_between_seeds_widens_the_interval() -> None:
    d = _crossed(8, 400, 0.5, 0.5, 0)
    across = hierarchical_bootstrap(torch.zeros_like(d), d, num_samples=1000)
    within = paired_bootstrap(torch.zeros(400), d.mean(0), num_samples=1000)
    assert across.high - across.low > 3 * (within.high - within.low)
    expected = 2 * 1.96 * d.mean(1).std(correction=0).item() / math.sqrt(8)
    assert across.high - across.low == pytest.approx(expected, rel=0.15)
    assert (across.seeds, across.cases) == (8, 400)


def test_growth_of_nothing_is_nothing_and_what_both_gains_share_cancels() -> None:
    a, b = _ndcg_like(300, 2)[None] + 1, _ndcg_like(300, 3)[None] + 1
    still = growth((a, b), (a, b), num_samples=200)
    assert (still.difference, still.low, still.high, still.p) == (0, 0, 0, 1)
    assert still.before == pytest.approx(hierarchical_bootstrap(a, b, num_samples=200).relative)
    more = growth((a, b), (a, 1.1 * b), num_samples=2000)
    gained = hierarchical_bootstrap(a, b, num_samples=2000)
    assert more.difference == pytest.approx(0.1 * float(b.mean() / a.mean()), rel=1e-6)
    assert 0 < more.low < more.difference < more.high
    assert more.high - more.low < 0.2 * (gained.relative_high - gained.relative_low)


def test_growth_covers_the_truth_over_seeds_and_users() -> None:
    """Gains of .1 and .15 in truth, with seeds and users that vary; 200 experiments."""
    covered = 0
    for s in range(200):
        a, b, c, d = (
            mean + 0.2 * _crossed(8, 200, 0.3, 1.0, 4 * s + place)
            for place, mean in enumerate((1, 1.1, 1, 1.15))
        )
        found = growth((a, b), (c, d), num_samples=300, seed=s)
        covered += found.low <= 0.05 <= found.high
    assert 0.85 < covered / 200 < 0.995


def test_growth_over_a_control_that_has_nothing_is_not_known() -> None:
    zero, one = torch.zeros(1, 5), torch.ones(1, 5)
    found = growth((zero, one), (one, one), num_samples=50)
    assert math.isnan(found.before)
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    with pytest.raises(DataError, match="shape"):
        growth((one, one), (one, one[:, :4]))


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm({"b": 0.9, "a": 0.01}) == pytest.approx({"b": 0.9, "a": 0.02})
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(DataError, match="0, 1"):
        holm([1.2])


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (torch.zeros(3), torch.zeros(4), "shape"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "cases"),
        (torch.zeros(0), torch.zeros(0), "nothing"),
        (torch.tensor([1.0]), torch.tensor([float("inf")]), "finite"),
    ],
)
def test_unusable_arms_are_refused(a: Tensor, b: Tensor, says: str) -> None:
    with pytest.raises(DataError, match=says):
        paired_bootstrap(a, b)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="level"):
        paired_bootstrap(torch.zeros(2), torch.ones(2), level=1.0)
