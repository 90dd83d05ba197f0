"""What the data of each round is like: density, information, drift of lengths and popularity, coverage.

The figures of RSIR §5 (arXiv 2602.15659), from sequences alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.ragged import Ragged
from rsir.rng import uniform


def density(data: Sequences) -> float:
    """Events / (users × items) of the union; > 1 is possible where users have several sequences.

    >>> density(Sequences.observed(Ragged.from_lists([[0, 1], [1]]), 3))
    0.5
    """
    return data.num_events / (int(data.user.unique().numel()) * data.num_items)


def distinct_density(data: Sequences) -> float:
    """Distinct (user, item) pairs / (users × items): how full the matrix of interactions is; in (0, 1].

    >>> distinct_density(Sequences.observed(Ragged.from_lists([[0, 0], [1]]), 2))
    0.5
    """
    pairs = (data.user[data.events.row] * data.num_items + data.events.values).unique().numel()
    return pairs / (int(data.user.unique().numel()) * data.num_items)


def approximate_entropy(sequence: Tensor, m: int = 1) -> float:
    """Approximate entropy of one discrete sequence with tolerance r = 0 (Pincus, PNAS 1991), in nats.

        ApEn(m) = Φ^m − Φ^{m+1},   Φ^m = 1 / (N − m + 1) · Σ_i log C_i^m,

    with C_i^m the share of the N − m + 1 patterns of length m that equal the i-th (itself included). Items
    are names without distance, so that only equal patterns are similar. It is about the entropy of what comes
    after a pattern: 0 where that is always the same.

    Args:
        sequence: int64 (N,).
        m: length of a pattern, ≥ 1; N must be above m.

    Returns:
        ≥ 0 up to edge effects of short sequences; NaN if N ≤ m.

    >>> abs(approximate_entropy(torch.tensor([0, 1] * 50))) < 1e-3
    True
    """
    if len(sequence) <= m:
        return math.nan
    return _phi(sequence, m) - _phi(sequence, m + 1)


def _phi(sequence: Tensor, m: int) -> float:
    """Mean log share of the patterns of length m."""
    return _mean_log_share(sequence.unfold(0, m, 1))


def _mean_log_share(patterns: Tensor) -> float:
    """Mean over patterns (rows) of the log of the share of rows equal to it."""
    _, place, count = patterns.unique(dim=0, return_inverse=True, return_counts=True)
    return float((count[place].double() / len(patterns)).log().mean())


def corpus_entropy(data: Ragged, m: int = 1, *, rows: int = 2000, seed: int = 0) -> float:
    """Approximate entropy of many short sequences, their patterns pooled, in nats; r = 0.

    A sequence of a handful of items holds no pattern twice, so Φ is taken over the patterns of all rows
    together; a pattern never reaches from one row into the next, and both Φ are over the places that have m
    events and one more, which makes ApEn the plug-in entropy of the next item given m items. At most `rows`
    rows, drawn by `seed`, are looked at: the value grows with their number, so compare equal numbers.

    Returns:
        ApEn(m) of the pool; NaN if no row is longer than m.
    """
    drawn = uniform(seed, "entropy", torch.arange(len(data))).argsort()[:rows]
    picked = data.select(drawn)
    first = (picked.from_end >= m).nonzero().squeeze(1)
    if not len(first):
        return math.nan
    windows = torch.stack([picked.values[first + offset] for offset in range(m + 1)], 1)
    return _mean_log_share(windows[:, :m]) - _mean_log_share(windows)


def total_variation(a: Tensor, b: Tensor) -> float:
    """Half the sum of |p − q| of two histograms; 0 the same, 1 nothing in common.

    >>> total_variation(torch.tensor([1, 1]), torch.tensor([2, 0]))
    0.5
    """
    return float((a.double() / a.sum() - b.double() / b.sum()).abs().sum() / 2)


def length_drift(observed: Ragged, made: Ragged) -> float:
    """Total variation between the lengths of observed and of synthetic sequences; in [0, 1].

    >>> length_drift(Ragged.from_lists([[1], [1, 2]]), Ragged.from_lists([[3, 4]]))
    0.5
    """
    size = 1 + max(observed.max_length, made.max_length)
    return total_variation(*(torch.bincount(rows.lengths, minlength=size) for rows in (observed, made)))


def popularity_drift(observed: Sequences, made: Sequences, groups: int = 10) -> dict[str, float]:
    """Whether generation prefers items that were popular, over deciles of observed events.

    Returns:
        `total_variation` between the events of items by popularity group, in [0, 1]; `mean_percentile` of
        generated events (the share of observed events that are of rarer items, plus half of equals): .5
        without drift, above it for popular items.
    """
    counts = observed.item_counts()
    levels, level = counts.unique(return_inverse=True)
    mass = torch.zeros(len(levels), dtype=torch.float64).index_add(0, level, counts.double()) / counts.sum()
    percentile = (mass.cumsum(0) - mass / 2)[level]
    generated = made.events.values[made.events.position > 0]
    cut = [
        torch.bincount((percentile[items] * groups).long().clamp(max=groups - 1), minlength=groups)
        for items in (observed.events.values, generated)
    ]
    return {
        "total_variation": total_variation(*cut) if len(generated) else math.nan,
        "mean_percentile": float(percentile[generated].mean()) if len(generated) else math.nan,
    }


def coverage(made: Sequences) -> float:
    """Share of the catalogue that was generated at least once; in [0, 1]."""
    generated = made.events.values[made.events.position > 0]
    return generated.unique().numel() / made.num_items


def novelty(observed: Sequences, made: Sequences) -> float:
    """Share of generated events whose item is not in the user's observed sequence; NaN if there are none."""
    generated = made.events.position > 0
    known = (observed.user[observed.events.row] * observed.num_items + observed.events.values).unique()
    asked = (made.user[made.events.row] * made.num_items + made.events.values)[generated]
    return float((~torch.isin(asked, known)).double().mean()) if len(asked) else math.nan
