"""Change of a model along and across the generated directions.

RSIR §4 (arXiv 2602.15659): training on generated data adds to the loss a penalty on the change of f *along*
the preference manifold, the tangential gradient. Measured by difference quotients: with a prefix x of an
observed sequence that ends with item o, and the state f(x),

    Q(o → j) = ‖ f(x with j in place of o) − f(x) ‖ / ‖ v_j − v_o ‖,      v the item vectors,

once for j an item that generation put in rollouts of the same source (along), once for j any item of the
catalogue outside the user's observed and generated items (across). The claim is that along / across falls
from base to successor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import uniform


@dataclass(frozen=True)
class Change:
    """Mean difference quotients, and of how many pairs.

    Attributes:
        along: towards generated items of the same source.
        across: towards other items.
        pairs: pairs (prefix, item) of each.
    """

    along: float
    across: float
    pairs: int

    @property
    def ratio(self) -> float:
        """The first over the second: below 1 where the model changes less along the generated directions."""
        return self.along / self.across if self.across else float("nan")


@torch.no_grad()
def change_of(
    model: SequenceModel, observed: Sequences, made: Sequences, *, pairs: int = 2000, seed: int = 0
) -> Change:
    """Measure a model on observed sequences and what was generated from them.

    Args:
        model: f; its states and item vectors.
        observed: training sequences, the first rows of the data `made.source` refers to.
        made: synthetic sequences.
        pairs: at most so many generated items are looked at, drawn by `seed`.
        seed: fixes the draws.
    """
    event = _generated_events(observed, made)
    event = event[uniform(seed, "change", event).argsort()[:pairs]]
    source, item = made.source[made.events.row[event]], made.events.values[event]
    stop = 1 + (uniform(seed, "prefix", event) * observed.events.lengths[source]).long()
    prefixes = observed.events.select(source)
    prefixes = prefixes.slice_rows(torch.zeros_like(stop), stop).tail(model.max_length)
    other = _others(observed, made, source, uniform(seed, "other", event))
    along, across = (quotients(model, prefixes, j) for j in (item, other))
    return Change(float(along.nanmean()), float(across.nanmean()), len(event))


def quotients(model: SequenceModel, prefixes: Ragged, item: Tensor) -> Tensor:
    """Q for an item in place of the last one of each prefix; float (R,), NaN where it is the last one."""
    network = model.eval()
    device = network.item_vectors().device
    rows, item = prefixes.to(device), item.to(device)
    changed = Ragged(rows.values.index_copy(0, rows.last, item), rows.offsets, rows.time)
    vectors = network.item_vectors()
    moved = (vectors[item] - vectors[rows.values[rows.last]]).norm(dim=1)
    apart = (network.encode_last(changed) - network.encode_last(rows)).norm(dim=1)
    return torch.where(moved > 0, apart / moved.clamp(min=1e-12), torch.nan)


def _generated_events(observed: Sequences, made: Sequences) -> Tensor:
    """Events of rollouts from observed sources whose item is new to the source; int64."""
    row = made.events.row
    from_observed = made.source[row] < len(observed)
    known = (observed.events.row * observed.num_items + observed.events.values).unique()
    new = ~torch.isin(made.source[row] * made.num_items + made.events.values, known)
    return (from_observed & new & (made.events.position > 0)).nonzero().squeeze(1)


def _others(observed: Sequences, made: Sequences, source: Tensor, share: Tensor) -> Tensor:
    """An item outside the observed and generated items of each source; int64.

    The first that is free from a random place on; the item there if all are taken.
    """
    taken = torch.cat(
        [
            observed.events.row * observed.num_items + observed.events.values,
            made.source[made.events.row] * made.num_items + made.events.values,
        ]
    ).unique()
    item = (share * observed.num_items).long()
    for _ in range(observed.num_items):
        held = torch.isin(source * observed.num_items + item, taken)
        if not bool(held.any()):
            break
        item = torch.where(held, (item + 1) % observed.num_items, item)
    return item
