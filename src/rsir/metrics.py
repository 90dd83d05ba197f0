"""Metrics as pure functions of ranks, and of recommended lists.

One held-out item a case, so a case is summed up by the rank of its target
(`rank = 1 + #{score > target's} + #{ties} / 2`). Two conventions:

- A **miss** (a cold target, a masked one) has rank +inf and scores 0 everywhere.
- A **tied rank** may be a half. It counts at cutoff k if `rank ≤ k`: 10.5 is a miss at 10, and
  a hit at rank 2.5 earns 1 / log2(3.5). Nobody gains by giving equal scores, and a scorer that
  gives every item the same score never hits while k < (V + 1) / 2.

Lists are int64 (N, K), best item first, −1 where fewer than K items could be recommended.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rsir.errors import ConfigError, DataError


def recall(rank: Tensor, k: int) -> Tensor:
    """Recall@k of each case: 1 if the target is among the first k; with one target, the hit rate.

    >>> recall(torch.tensor([1.0, 10.0, 10.5, float("inf")]), 10).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    return (rank <= k).double()


def ndcg(rank: Tensor, k: int) -> Tensor:
    """NDCG@k of each case: 1 / log2(1 + rank) within the first k, else 0 (the ideal DCG is 1).

    >>> ndcg(torch.tensor([1.0, 3.0, 11.0]), 10).tolist()
    [1.0, 0.5, 0.0]
    """
    rank = rank.double()
    return torch.where(rank <= k, 1 / torch.log2(1 + rank), 0.0)


def mrr(rank: Tensor, k: int) -> Tensor:
    """Reciprocal rank of each case within the first k, else 0.

    >>> mrr(torch.tensor([1.0, 4.0, 11.0]), 10).tolist()
    [1.0, 0.25, 0.0]
    """
    rank = rank.double()
    return torch.where(rank <= k, 1 / rank, 0.0)


ACCURACY: dict[str, Callable[[Tensor, int], Tensor]] = {"recall": recall, "ndcg": ndcg, "mrr": mrr}
"""The metrics of ranks by name, for the command line and reports."""


def by_name(name: str, rank: Tensor) -> Tensor:
    """The metric called `name` ("ndcg@10") of each case; float64 (N,).

    Raises:
        ConfigError: if the name is not a metric, "@" and a cutoff of at least 1.

    >>> by_name("recall@2", torch.tensor([2.0, 3.0])).tolist()
    [1.0, 0.0]
    """
    kind, _, cutoff = name.partition("@")
    if kind not in ACCURACY:
        near = difflib.get_close_matches(kind, ACCURACY, n=1, cutoff=0.0)[0]
        raise ConfigError(f"no metric called {name!r}; did you mean '{near}@{cutoff or 10}'?")
    if not (cutoff.isdecimal() and int(cutoff) >= 1):
        raise ConfigError(f"metric {name!r} needs a cutoff of at least 1; write '{kind}@10'")
    return ACCURACY[kind](rank, int(cutoff))


def accuracy(rank: Tensor, cutoffs: Sequence[int]) -> dict[str, float]:
    """Mean recall, NDCG and MRR at each cutoff, by name; NaN if there are no cases.

    >>> accuracy(torch.tensor([1.0, 3.0, 9.0]), [3])["ndcg@3"]
    0.5
    """
    names = [f"{kind}@{k}" for k in cutoffs for kind in ACCURACY]
    return {name: float(by_name(name, rank).mean()) for name in names}


def exposure(lists: Tensor, num_items: int) -> Tensor:
    """How often each item is recommended; int64 (V,)."""
    return torch.bincount(lists[lists >= 0], minlength=num_items)


def coverage(lists: Tensor, num_items: int) -> float:
    """Share of the catalogue recommended to at least one case; in [0, 1].

    >>> coverage(torch.tensor([[0, 1], [0, 2]]), num_items=4)
    0.75
    """
    return float((exposure(lists, num_items) > 0).double().mean())


def gini(lists: Tensor, num_items: int) -> float:
    """Gini index of exposure: 0 if all items are shown equally often, 1 − 1/V if only one is.

    `G = Σ_i (2i − V − 1) x_i / (V Σ x)` with exposures x in rising order, i from 1.

    >>> gini(torch.tensor([[0], [1]]), num_items=2), gini(torch.tensor([[0], [0]]), num_items=2)
    (0.0, 0.5)
    """
    shown = exposure(lists, num_items).double().sort().values
    total = shown.sum()
    if total == 0:
        raise DataError("the lists recommend nothing; Gini needs at least one recommended item")
    weight = 2 * torch.arange(1, num_items + 1, device=shown.device) - num_items - 1
    return float((weight * shown).sum() / (num_items * total))


def mean_popularity(lists: Tensor, train_counts: Tensor) -> float:
    """Mean training count of the recommended items: popularity bias in events."""
    return float(train_counts[lists[lists >= 0]].double().mean())


def popularity_percentile(lists: Tensor, train_counts: Tensor) -> float:
    """Mean popularity percentile of the recommended items, in (0, 1); .5 without popularity bias.

    An item's percentile is the share of the catalogue with a lower training count plus half the
    share with the same one (its own included).

    >>> popularity_percentile(torch.tensor([[3]]), torch.tensor([1, 1, 2, 9]))
    0.875
    """
    ordered = train_counts.sort().values
    picked = train_counts[lists[lists >= 0]]
    below = torch.searchsorted(ordered, picked)
    upto = torch.searchsorted(ordered, picked, right=True)
    return float((below + upto).double().mean() / (2 * train_counts.numel()))


def novelty(lists: Tensor, train_counts: Tensor) -> float:
    """Mean self-information −log2 p(i) of the recommended items, in bits.

    p is the item's share of the training events, one event added to each item so that an item
    never seen in training is novel but finite: `p(i) = (n_i + 1) / (Σ n + V)`.

    >>> novelty(torch.tensor([[0], [1]]), torch.tensor([2, 0]))  # p = 3/4, 1/4
    1.207518749639422
    """
    count = train_counts.double() + 1
    information = torch.log2(count.sum()) - torch.log2(count)
    return float(information[lists[lists >= 0]].mean())


def beyond_accuracy(lists: Tensor, train_counts: Tensor, k: int) -> dict[str, float]:
    """Coverage, Gini, popularity bias and novelty of the first k of each list, by name@k."""
    first, num_items = lists[:, :k], train_counts.numel()
    return {
        f"coverage@{k}": coverage(first, num_items),
        f"gini@{k}": gini(first, num_items),
        f"popularity@{k}": mean_popularity(first, train_counts),
        f"popularity_percentile@{k}": popularity_percentile(first, train_counts),
        f"novelty@{k}": novelty(first, train_counts),
    }
