"""Is a difference more than chance? Paired bootstrap over users, seeds as the outer level, Holm.

The bootstrap is the exact nonparametric one: each sample draws N users with replacement. Users
with the same values are interchangeable, so only how many are drawn of each *kind* of user
matters, and those counts are multinomial. With metrics such as NDCG@10, which take a handful of
values, 10,000 samples of any number of users take a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsir.errors import DataError
from rsir.rng import generator_seed

Array = npt.NDArray[np.float64]
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """Arm b against arm a on the same cases (and seeds).

    Attributes:
        mean_a: mean of a, the control.
        mean_b: mean of b.
        difference: mean_b − mean_a.
        low: lower end of the percentile interval of the difference.
        high: upper end of it.
        relative: difference / mean_a; NaN if mean_a is 0.
        relative_low: lower end of the interval of the relative gain; NaN if a sample has mean_a 0.
        relative_high: upper end of it.
        p: two-sided, of no difference; never below 2 / (num_samples + 1).
        level: coverage the intervals aim at.
        cases: number of cases N.
        seeds: number of seeds R.
        num_samples: bootstrap samples.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float
    p: float
    level: float
    cases: int
    seeds: int
    num_samples: int


@dataclass(frozen=True)
class Growth:
    """Whether arm b gains more over arm a in one place (a later round) than in another.

    Attributes:
        before: relative gain in the first place, mean_b / mean_a − 1; NaN if mean_a is 0.
        after: relative gain in the second.
        difference: after − before.
        low: lower end of the percentile interval of the difference; NaN if a sample's mean_a is 0.
        high: upper end of it.
        p: two-sided, of no growth; never below 2 / (num_samples + 1), NaN where the interval is.
        level: coverage the interval aims at.
        cases: number of cases N.
        seeds: number of seeds R.
        num_samples: bootstrap samples.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    level: float
    cases: int
    seeds: int
    num_samples: int


def paired_bootstrap(
    a: Tensor, b: Tensor, *, num_samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Comparison:
    """Compare two arms on the same cases by resampling the cases.

    Args:
        a: (N,), a metric of each case under the control.
        b: (N,), the same for the other arm, cases in the same order.
        num_samples: bootstrap samples; the p-value has a resolution of 2 / (num_samples + 1).
        seed: fixes the draws.
        level: of the percentile interval, in (0, 1).

    The p-value is `min(1, 2 (1 + min(#{d* ≤ 0}, #{d* ≥ 0})) / (num_samples + 1))` (Davison &
    Hinkley 1997, ch. 4; the +1 keeps it above 0).

    Raises:
        DataError: if the shapes differ, there are no cases, or a value is not finite.

    >>> result = paired_bootstrap(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.5, 1.5, 1.5]))
    >>> result.difference, result.low, result.high
    (0.5, 0.5, 0.5)
    """
    _check(a, b, 1)
    return _compare(a[None], b[None], num_samples, seed, level)


def hierarchical_bootstrap(
    a: Tensor, b: Tensor, *, num_samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Comparison:
    """Compare two arms trained with several seeds: seeds outside, users inside, both paired.

    Each sample draws R seeds with replacement and N users with replacement; the drawn users are
    the same for all drawn seeds, for it *is* the same users that every seed was evaluated on
    (Owen, *The pigeonhole bootstrap*, 2007). Users drawn anew within each seed would be averaged
    over R draws, and the interval would be too narrow.

    With R seeds the spread between seeds is underestimated by about (R − 1) / R: use at least 5.

    Args:
        a: (R, N), a metric of each case under each seed of the control.
        b: (R, N), the same for the other arm; row r has the same seed as row r of `a`.
        num_samples: bootstrap samples.
        seed: fixes the draws.
        level: of the percentile interval, in (0, 1).

    Raises:
        DataError: if the shapes differ, are empty, or a value is not finite.
    """
    _check(a, b, 2)
    return _compare(a, b, num_samples, seed, level)


def growth(
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
    *,
    num_samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Growth:
    """Compare two relative gains, each of an arm over its own control, on the same seeds and cases.

    All four arms are drawn together, seeds outside and users inside, as `hierarchical_bootstrap` does: what
    the two gains share (users, the seed's base) cancels.

    Args:
        before: the control (R, N) and the arm (R, N) of the first gain.
        after: those of the second.
        num_samples: bootstrap samples.
        seed: fixes the draws.
        level: of the percentile interval, in (0, 1).

    Raises:
        DataError: if shapes differ, are empty, or a value is not finite.

    >>> ones = torch.ones(1, 4)
    >>> found = growth((ones, ones), (ones, 1.5 * ones))
    >>> found.before, found.after, found.low, found.high
    (0.0, 0.5, 0.5, 0.5)
    """
    for arm in (*before, *after):
        _check(before[0], arm, 2)
    _check_sampling(num_samples, level)
    arms = [arm.double().cpu().numpy() for arm in (*before, *after)]
    first, second = _gain(*(arm.mean() for arm in arms[:2])), _gain(*(arm.mean() for arm in arms[2:]))
    sampled_arms = _samples(arms, num_samples, seed)
    sampled = _gain(*sampled_arms[2:]) - _gain(*sampled_arms[:2])
    low, high = _interval(sampled, level)
    return Growth(
        before=float(first),
        after=float(second),
        difference=float(second - first),
        low=low,
        high=high,
        p=_two_sided(sampled),
        level=level,
        cases=arms[0].shape[1],
        seeds=arms[0].shape[0],
        num_samples=num_samples,
    )


@overload
def holm(p_values: Mapping[str, float]) -> dict[str, float]: ...
@overload
def holm(p_values: Sequence[float]) -> list[float]: ...
def holm(p_values: Mapping[str, float] | Sequence[float]) -> dict[str, float] | list[float]:
    """Adjust the p-values of a family of comparisons by Holm's step-down rule (1979).

    The i-th smallest of m is multiplied by m − i + 1; none may be smaller than one before it.

    Raises:
        DataError: if a p-value is outside [0, 1].

    >>> holm([0.25, 0.125])
    [0.25, 0.25]
    """
    if isinstance(p_values, Mapping):
        return dict(zip(p_values, holm(list(p_values.values())), strict=True))
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"p-values must lie in [0, 1]; got {list(p_values)}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)).clip(max=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return [float(value) for value in adjusted]


def _check(a: Tensor, b: Tensor, ndim: int) -> None:
    wanted = "(cases,)" if ndim == 1 else "(seeds, cases)"
    if a.shape != b.shape or a.ndim != ndim:
        raise DataError(
            f"arms of shape {tuple(a.shape)} and {tuple(b.shape)}; both must be the same {wanted}"
        )
    if a.numel() == 0:
        raise DataError(f"arms of shape {tuple(a.shape)} hold nothing to compare")
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise DataError(
            "a value is not finite; compare metrics such as NDCG, not ranks, which can be infinite"
        )


def _check_sampling(num_samples: int, level: float) -> None:
    if num_samples < 1 or not 0 < level < 1:
        raise DataError(f"num_samples {num_samples} must be at least 1 and level {level} between 0 and 1")


def _compare(a_RN: Tensor, b_RN: Tensor, num_samples: int, seed: int, level: float) -> Comparison:
    _check_sampling(num_samples, level)
    a, b = a_RN.double().cpu().numpy(), b_RN.double().cpu().numpy()
    mean_a, mean_b, difference = float(a.mean()), float(b.mean()), float((b - a).mean())
    sampled_a, sampled = _samples([a, b - a], num_samples, seed)
    low, high = _interval(sampled, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative_low, relative_high = _interval(sampled / sampled_a, level)
    return Comparison(
        mean_a=mean_a,
        mean_b=mean_b,
        difference=difference,
        low=low,
        high=high,
        relative=difference / mean_a if mean_a else float("nan"),
        relative_low=relative_low,
        relative_high=relative_high,
        p=_two_sided(sampled),
        level=level,
        cases=a.shape[1],
        seeds=a.shape[0],
        num_samples=num_samples,
    )


def _interval(samples: Array, level: float) -> tuple[float, float]:
    """Percentile interval; NaN if a sample is not finite."""
    if not np.isfinite(samples).all():
        return float("nan"), float("nan")
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _gain(a: Array, b: Array) -> Array:
    """Relative gains of b over a; NaN where a is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a == 0, np.nan, b / a - 1)


def _two_sided(samples: Array) -> float:
    """The p-value of no difference; NaN if a sample is not finite."""
    if not np.isfinite(samples).all():
        return float("nan")
    tail = min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    return min(1.0, 2 * (1 + tail) / (samples.size + 1))


def _samples(arms: Sequence[Array], num_samples: int, seed: int) -> Array:
    """Bootstrap means of arms (R, N), whose seeds and cases are drawn together; (arms, num_samples)."""
    seeds, cases = arms[0].shape
    kinds, size = np.unique(np.concatenate(arms), axis=1, return_counts=True)  # (arms R, G), (G,)
    generator = np.random.default_rng(generator_seed("bootstrap", seed))
    seed_weight = generator.multinomial(seeds, np.full(seeds, 1 / seeds), num_samples) / seeds
    means = np.empty((num_samples, len(kinds)))
    at_once = max(1, _DRAWS_AT_ONCE // size.size)
    for start in range(0, num_samples, at_once):
        rows = min(at_once, num_samples - start)
        means[start : start + rows] = generator.multinomial(cases, size / cases, rows) @ kinds.T / cases
    by_arm = means.reshape(num_samples, len(arms), seeds)
    return np.asarray(np.einsum("sr,sar->as", seed_weight, by_arm))
