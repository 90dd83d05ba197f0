"""What a log and its split look like, as plain JSON values."""

from __future__ import annotations

import polars as pl
import torch
from torch import Tensor

from rsir.data.interactions import Interactions
from rsir.data.splits import Cases, Split, cold_targets, repeated_targets
from rsir.data.times import iso_text

_QUANTILES = {
    "min": 0.0,
    "p10": 0.1,
    "p25": 0.25,
    "median": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p99": 0.99,
    "max": 1.0,
}
_LENGTH_BINS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)


def describe(interactions: Interactions, split: Split) -> dict[str, object]:
    """Size, shape, repetition, time and held-out targets of a log; every value is plain JSON.

    Shares and rates are in [0, 1]. `seen_policies` says what each way of treating seen items does
    to the held-out cases: under `mask` a repeated target counts as a miss, so its
    `recall_ceiling` is the best any model can reach.

    >>> from rsir.data.read import from_sequences
    >>> from rsir.data.splits import split
    >>> log = from_sequences([["a", "b", "c", "a"], ["b", "c", "a"]])
    >>> about = describe(log, split(log))
    >>> about["repeat_rate"], about["seen_policies"]["mask"]["test"]["recall_ceiling"]
    (0.14285714285714285, 0.5)
    """
    users, items, events = len(interactions.users), len(interactions.items), len(interactions)
    lengths, counts = interactions.ragged.lengths, torch.bincount(interactions.item, minlength=items)
    return {
        "fingerprint": interactions.fingerprint,
        "notes": list(interactions.notes),
        "users": users,
        "items": items,
        "events": events,
        "density": events / (users * items),
        "sequence_length": {**quantiles(lengths), "histogram": length_histogram(lengths)},
        "users_with_fewer_than_3_events": int((lengths < 3).sum()),
        "users_with_at_most_5_events": int((lengths <= 5).sum()),
        "item_popularity": _popularity(counts),
        **_repeats(interactions),
        "time": _time(interactions),
        "split": dict(split.facts),
        "targets": {name: _targets(split, cases) for name, cases in _parts(split)},
        "seen_policies": _seen_policies(split),
    }


def quantiles(values: Tensor) -> dict[str, float]:
    """Mean and quantiles (nearest lower value) of a one-dimensional tensor that is not empty."""
    ordered = values.double().sort().values
    places = {name: int(q * (ordered.numel() - 1)) for name, q in _QUANTILES.items()}
    return {"mean": float(ordered.mean()), **{name: float(ordered[place]) for name, place in places.items()}}


def length_histogram(lengths: Tensor) -> dict[str, int]:
    """Number of users by number of events, the last bin open.

    >>> length_histogram(torch.tensor([1, 4, 3, 700]))["3-4"]
    2
    """
    edges = torch.tensor(_LENGTH_BINS)
    counts = torch.bincount(torch.bucketize(lengths, edges, right=True), minlength=len(edges) + 1)[
        1:
    ].tolist()
    stops = [stop - 1 for stop in _LENGTH_BINS[1:]]
    names = [str(a) if a == b else f"{a}-{b}" for a, b in zip(_LENGTH_BINS, stops, strict=False)]
    return dict(zip([*names, f"{_LENGTH_BINS[-1]}+"], counts, strict=True))


def gini(counts: Tensor) -> float:
    """Gini coefficient of popularity: 0 where all items are equally popular, near 1 where one has all.

    `G = Σ_i (2 i − n − 1) x_i / (n Σ x)` over the counts in ascending order, i from 1.

    >>> gini(torch.tensor([3, 3, 3]))
    0.0
    """
    x = counts.double().sort().values
    n = x.numel()
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return float(((2 * rank - n - 1) * x).sum() / (n * x.sum()))


def _popularity(counts: Tensor) -> dict[str, float]:
    ordered = counts.sort(descending=True).values.double()
    shares = {
        f"event_share_of_top_{percent}_percent": float(
            ordered[: max(1, round(len(ordered) * percent / 100))].sum() / ordered.sum()
        )
        for percent in (1, 10)
    }
    return {**quantiles(counts), "gini": gini(counts), **shares}


def _repeats(interactions: Interactions) -> dict[str, float]:
    """Share of events whose user had the item before, and had it in the event just before."""
    user, item = interactions.user, interactions.item
    distinct = pl.Series((user * len(interactions.items) + item).numpy()).n_unique()
    consecutive = int(((user[1:] == user[:-1]) & (item[1:] == item[:-1])).sum())
    return {
        "repeat_rate": (len(item) - distinct) / len(item),
        "consecutive_repeat_rate": consecutive / len(item),
    }


def _time(interactions: Interactions) -> dict[str, object] | None:
    """Span and ties; a tie is an event at the time of the user's event just before."""
    time, user = interactions.time, interactions.user
    if time is None:
        return None
    ties = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    first, last = time.min().item(), time.max().item()
    shown = [iso_text(int(x)) if interactions.time_is_date else x for x in (first, last)]
    return {
        "first": shown[0],
        "last": shown[1],
        "span": last - first,
        "unit": "microseconds" if interactions.time_is_date else "as given",
        "tie_rate": float(ties.sum()) / len(time),
    }


def _parts(split: Split) -> tuple[tuple[str, Cases], tuple[str, Cases]]:
    return ("valid", split.valid), ("test", split.test)


def _targets(split: Split, cases: Cases) -> dict[str, float]:
    cold, repeated = cold_targets(split.train, cases), repeated_targets(cases)
    return {
        "cases": len(cases),
        "cold_rate": float(cold.double().mean()),
        "repeated_rate": float(repeated.double().mean()),
        "mean_history_length": float(cases.histories.lengths.double().mean()),
    }


def _seen_policies(split: Split) -> dict[str, object]:
    """For each policy and part: items masked a case, targets masked, best recall that is left."""
    masked: dict[str, dict[str, object]] = {"mask": {}, "mask_except_target": {}, "allow": {}}
    for name, cases in _parts(split):
        repeated = int(repeated_targets(cases).sum())
        pairs = cases.histories.row * split.train.num_items + cases.histories.values
        seen = pl.Series(pairs.numpy()).n_unique() / len(cases)
        spared = seen - repeated / len(cases)
        ceiling = 1 - repeated / len(cases)
        for policy, items, targets, best in (
            ("mask", seen, repeated, ceiling),
            ("mask_except_target", spared, 0, 1.0),
            ("allow", 0.0, 0, 1.0),
        ):
            masked[policy][name] = {
                "mean_masked_items": items,
                "masked_targets": targets,
                "recall_ceiling": best,
            }
    return dict(masked)
