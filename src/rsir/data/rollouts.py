"""Generated sequences before admission: what each is, where it came from, why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from rsir.data.fronts import loops_for, ordered
from rsir.ragged import Ragged


class StopReason(IntEnum):
    """Why a rollout ended. Every end is an expected result, never an error."""

    EXHAUSTED = 0
    """Every item of the source stands in the rollout."""
    LOW_FIDELITY = 1
    """No remaining item of the source ranked within `max_rank`."""
    MAX_LENGTH = 2
    """The rollout has the maximal length."""


@dataclass(frozen=True)
class Chosen:
    """The items one step added to some rollouts.

    Attributes:
        rollout: int64 (R,), which rollouts.
        item: int64 (R,).
        rank: int64 (R,), best rank of a remaining own item at the check before; 0 without a check.
        own: bool (R,), whether the item came from the source's own items.
    """

    rollout: Tensor
    item: Tensor
    rank: Tensor
    own: Tensor


def join(steps: list[Chosen], drop_last: Tensor) -> tuple[Ragged, Tensor, Tensor]:
    """Put the items of each rollout together, in the order of the steps.

    Args:
        steps: the first adds one item to every rollout.
        drop_last: bool, rollouts whose last item is left out unless it is their first.

    Returns:
        The items, one row a rollout; rank and own along them.
    """
    rollout, item = torch.cat([step.rollout for step in steps]), torch.cat([step.item for step in steps])
    rank, own = torch.cat([step.rank for step in steps]), torch.cat([step.own for step in steps])
    if (lookups := loops_for(rollout)) is not None:
        arrays = (x.numpy() for x in (rollout, item, rank, own, drop_last))
        item, offsets, rank, own = map(torch.from_numpy, lookups.joined(*arrays))
        return Ragged(item, offsets), rank, own
    together = ordered(rollout, len(drop_last))
    lengths = torch.bincount(rollout, minlength=len(drop_last))
    events = Ragged.from_lengths(item[together], lengths)
    lengths = lengths - (drop_last & (lengths > 1)).long()
    kept = events.position < lengths[events.row]
    return Ragged.from_lengths(events.values[kept], lengths), rank[together][kept], own[together][kept]


@dataclass(frozen=True)
class Rollouts:
    """R rollouts, source by source and within a source by number.

    Attributes:
        events: the items, the start item included; `Ragged` of R rows.
        num_items: size of the catalogue V.
        source: int64 (R,), row of the source in the data generation was given.
        rollout: int64 (R,), number of the rollout, 0 … m − 1.
        user: int64 (R,), the user of the source.
        stop_reason: uint8 (R,), codes of `StopReason`.
        rank: int64 (N,) along `events.values`: the best rank of a remaining own item at the check that
            let the item be produced; 0 for a start item, and everywhere without fidelity control.
        own: bool (N,), whether the item was taken from the source's own items.
        min_length: rollouts at least this long count as accepted.
        checks: for each step, how many rollouts were checked and how many held.
        distinct_prefixes: prefixes scored; a row-by-row loop scores one for each step.
        seconds: wall time of the generation.
    """

    events: Ragged
    num_items: int
    source: Tensor
    rollout: Tensor
    user: Tensor
    stop_reason: Tensor
    rank: Tensor
    own: Tensor
    min_length: int
    checks: tuple[tuple[int, int], ...]
    distinct_prefixes: int
    seconds: float

    def __len__(self) -> int:
        return len(self.events)

    @property
    def steps(self) -> int:
        """Steps made over all rollouts: prefixes judged, counted for each rollout on them."""
        return sum(checked for checked, _ in self.checks)

    def facts(self) -> dict[str, object]:
        """What happened, in plain JSON values."""
        stops = torch.bincount(self.stop_reason.long(), minlength=len(StopReason)).tolist()
        return {
            "rollouts": len(self),
            "accepted": int((self.events.lengths >= self.min_length).sum()),
            "mean_length": round(float(self.events.lengths.double().mean()), 4),
            "stop_reasons": {reason.name.lower(): stops[reason] for reason in StopReason},
            "pass_rate_by_step": [round(held / checked, 6) for checked, held in self.checks],
            "own_share": round(float(self.own[self.events.position > 0].double().mean().nan_to_num()), 6),
            "distinct_prefixes": self.distinct_prefixes,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
        }
