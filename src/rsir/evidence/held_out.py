"""Do synthetic sequences hold held-out events more often than chance gives?

Chance is what the same statistic gives with the held-out items permuted among users whose items are
about as popular. Counted are novel items alone, those outside the user's training sequence. A model that
has learned a user's taste is above this chance without any leak; so a second reference stands beside: the
*neighbours*, the items that those who write (the bases as one) rank just above and just below the held-out
one for the same user. A model that never saw the held-out item generates it about as often as these two; an
excess far over them is what a leak would look like. Transitions follow the last item before the held-out
one, so that neighbours are ranked after it; whole sequences were written by who knew the training sequence,
so that theirs are ranked after that. Earlier items were written by a model of reversed sequences: their
neighbours are those that it ranks before the history. Held-out items ranked first have no upper neighbour
and are left out there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.models.base import Recommender
from rsir.ragged import Ragged
from rsir.rng import generator_seed

Record = dict[str, Any]
_AT_ONCE = 1_000_000
BLOCK = 50
"""Cases whose targets are permuted among each other: neighbours in the order of popularity."""


@dataclass(frozen=True)
class Lookup:
    """How often each (user, item) occurs: sorted keys user · V + item, and their counts."""

    keys: Tensor
    counts: Tensor
    num_items: int

    @classmethod
    def of(cls, user: Tensor, item: Tensor, num_items: int) -> Lookup:
        """Count pairs; int64 (M,) each."""
        keys, counts = (user * num_items + item).unique(return_counts=True)
        return cls(keys, counts, num_items)

    def __call__(self, user: Tensor, item: Tensor) -> Tensor:
        """The count of each pair, broadcast together; int64."""
        asked = user * self.num_items + item
        if not self.keys.numel():
            return torch.zeros_like(asked)
        place = torch.searchsorted(self.keys, asked).clamp(max=self.keys.numel() - 1)
        return torch.where(self.keys[place] == asked, self.counts[place], 0)


def novel(synthetic: Sequences, train: Sequences) -> Tensor:
    """Events whose item is not in their user's training sequence, so that a model wrote it; bool (E,)."""
    user, item = synthetic.user[synthetic.events.row], synthetic.events.values
    known = Lookup.of(train.user[train.events.row], train.events.values, train.num_items)
    return known(user, item) == 0


def held_transitions(synthetic: Sequences, cases: Cases, train: Sequences) -> Lookup:
    """By user: how often the last item before the target is followed by each novel item."""
    last = torch.full((int(max(train.user.max(), cases.user.max())) + 1,), -1)
    last[cases.user] = cases.histories.values[cases.histories.last]
    user, values = synthetic.user[synthetic.events.row], synthetic.events.values
    follows = (novel(synthetic, train) & (synthetic.events.position > 0)).nonzero().squeeze(1)
    follows = follows[values[follows - 1] == last[user[follows]]]
    return Lookup.of(user[follows], values[follows], synthetic.num_items)


def held_items(synthetic: Sequences, train: Sequences) -> Lookup:
    """By user: in how many synthetic sequences each novel item stands."""
    made = novel(synthetic, train)
    row, item = synthetic.events.row[made], synthetic.events.values[made]
    once = (row * synthetic.num_items + item).unique()
    row, item = once // synthetic.num_items, once % synthetic.num_items
    return Lookup.of(synthetic.user[row], item, synthetic.num_items)


def against_chance(
    lookups: Mapping[str, Lookup], cases: Cases, popularity: Tensor, *, permutations: int = 999, seed: int = 0
) -> dict[str, Record]:
    """Statistics of held-out items, and what they are with the items permuted among users.

    Args:
        lookups: counts by user and item, by the name of the statistic.
        cases: the held-out items, N.
        popularity: int64 (V,), training events of each item; targets change places with targets about
            as popular, within blocks of `BLOCK`.
        permutations: draws; p is never below 1 / (permutations + 1).
        seed: fixes the draws.

    Returns:
        By name: `observed`, and under chance `mean`, `low` and `high` (95 % of the draws), `p` (one-sided, of
        so many or more by chance).
    """
    order = popularity[cases.target].argsort(stable=True)
    user, target = cases.user[order], cases.target[order]
    block = (torch.arange(len(order)) // BLOCK).double()
    draws: dict[str, list[Tensor]] = {name: [] for name in lookups}
    for uniform_PN in _uniforms(permutations, len(order), seed):
        shuffled_PN = target[(block + uniform_PN).argsort(1)]
        for name, lookup in lookups.items():
            draws[name].append(lookup(user, shuffled_PN).sum(1))
    return {
        name: _summary(int(lookup(user, target).sum()), torch.cat(draws[name]))
        for name, lookup in lookups.items()
    }


def against_neighbours(
    lookups: Mapping[str, Lookup],
    cases: Cases,
    neighbours_N2: Tensor,
    *,
    permutations: int = 999,
    seed: int = 0,
) -> dict[str, Record]:
    """Statistics of held-out items, and what they are with each changed for one its model ranks next to it.

    Args:
        lookups: counts by user and item, by the name of the statistic.
        cases: the held-out items, N.
        neighbours_N2: int64 (N, 2), see `neighbours`; cases that lack one are left out on both sides.
        permutations: draws; in each, a held-out item is itself or one of its neighbours, all as likely.
        seed: fixes the draws.

    Returns:
        As `against_chance`.
    """
    kept = (neighbours_N2 >= 0).all(1).nonzero().squeeze(1)
    choices = torch.cat([cases.target[:, None], neighbours_N2], 1)[kept]
    counts = {name: lookup(cases.user[kept, None], choices) for name, lookup in lookups.items()}
    draws: dict[str, list[Tensor]] = {name: [] for name in lookups}
    for uniform_PN in _uniforms(permutations, len(kept), seed):
        pick_PN = (uniform_PN * 3).long()
        for name, count_N3 in counts.items():
            draws[name].append(count_N3.T.gather(0, pick_PN).sum(1))
    return {
        name: _summary(int(count_N3[:, 0].sum()), torch.cat(draws[name])) for name, count_N3 in counts.items()
    }


def _uniforms(draws: int, size: int, seed: int) -> Iterator[Tensor]:
    """Uniform draws, float64 (P, size), P summing to `draws`; the same for the same seed."""
    generator = torch.Generator().manual_seed(generator_seed("audit", seed))
    at_once = max(1, _AT_ONCE // max(1, size))
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        yield torch.rand(rows, size, generator=generator, dtype=torch.float64)


def _summary(observed: int, drawn: Tensor) -> Record:
    """A count beside its draws by chance."""
    low, high = drawn.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {
        "observed": observed,
        "mean": float(drawn.double().mean()),
        "low": low,
        "high": high,
        "p": (1 + int((drawn >= observed).sum())) / (len(drawn) + 1),
    }


@torch.no_grad()
def neighbours(model: Recommender, cases: Cases, batch: int = 256) -> Tensor:
    """The items outside the history ranked just above and below the held-out one; int64 (N, 2), −1: none.

    Histories are read as generation reads its rollouts, without times: who knows the times ranks otherwise.
    """
    parts, untimed = [], Ragged(cases.histories.values, cases.histories.offsets)
    for row in torch.arange(len(cases)).split(batch):
        histories, target = untimed.select(row), cases.target[row, None]
        scores = model.score(histories).float().cpu()
        own = scores.gather(1, target)
        scores[histories.row, histories.values] = torch.nan  # neither above nor below
        above = torch.where(scores > own, scores, torch.inf).min(1)
        below = torch.where(scores < own, scores, -torch.inf).max(1)
        pairs = [side.indices.masked_fill(side.values.isinf(), -1) for side in (above, below)]
        parts.append(torch.stack(pairs, 1))
    return torch.cat(parts)
