"""Synthetic sequences on disk, and how many of their items their user would not like."""

from __future__ import annotations

from typing import Literal

import polars as pl
import torch
from torch import Tensor

from rsir.data.interactions import Interactions
from rsir.data.rollouts import Rollouts, StopReason
from rsir.data.sequences import Sequences
from rsir.data.truth import Truth
from rsir.ragged import Ragged


def to_frame(
    rollouts: Rollouts, rows: Tensor, round_index: int, log: Interactions, earlier: int = 0
) -> pl.DataFrame:
    """Rollouts with their provenance, external ids, one line a sequence.

    Columns: `user`, `round`, `source` (row of the source sequence in the data of the round), `rollout`
    (number among the source's), `items` (oldest first, the start item included), `rank` (at the
    check that let each item be produced; 0 for the start), `own` (taken from the user's own
    items), `stop_reason`, `earlier` (items put before the source's first, behind which all of the source
    stands; 0 for rollouts).
    """
    events = rollouts.events.select(rows)
    rank = Ragged(rollouts.rank, rollouts.events.offsets).select(rows).values
    own = Ragged(rollouts.own.long(), rollouts.events.offsets).select(rows).values.bool()
    along = pl.DataFrame(
        {
            "row": events.row.numpy(),
            "items": log.items.ids_of(events.values),
            "rank": rank.numpy(),
            "own": own.numpy(),
        }
    )
    lists = along.group_by("row", maintain_order=True).agg("items", "rank", "own").drop("row")
    names = [reason.name.lower() for reason in StopReason]
    head = pl.DataFrame(
        {
            "user": log.users.ids_of(rollouts.user[rows]),
            "round": torch.full_like(rows, round_index).numpy(),
            "source": rollouts.source[rows].numpy(),
            "rollout": rollouts.rollout[rows].numpy(),
            "stop_reason": pl.Series(
                [names[code] for code in rollouts.stop_reason[rows].tolist()], dtype=pl.String
            ),
            "earlier": torch.full_like(rows, earlier).numpy(),
        }
    )
    return pl.concat([head, lists], how="horizontal")


def with_earlier(frame: pl.DataFrame) -> pl.DataFrame:
    """A table of synthetic sequences with its column `earlier`: 0 where it is of a run that knew none."""
    none = pl.lit(0, dtype=pl.Int64).alias("earlier")
    return frame if "earlier" in frame.columns else frame.with_columns(none)


def sequences_frame(made: Sequences, log: Interactions) -> pl.DataFrame:
    """Sequences that are no rollouts, with external ids: `user`, `round`, `source`, `items`."""
    along = pl.DataFrame({"row": made.events.row.numpy(), "items": log.items.ids_of(made.events.values)})
    head = pl.DataFrame(
        {
            "user": log.users.ids_of(made.user),
            "round": made.round_index.numpy(),
            "source": made.source.numpy(),
        }
    )
    lists = along.group_by("row", maintain_order=True).agg("items").drop("row")
    return pl.concat([head, lists], how="horizontal")


def from_frame(frame: pl.DataFrame, log: Interactions, data: Sequences) -> Sequences:
    """What `to_frame` or `sequences_frame` wrote, as sequences of the same catalogue as `data`."""
    lengths = torch.from_numpy(frame["items"].list.len().cast(pl.Int64).to_numpy().copy())
    items = log.items.index_of(frame["items"].explode()) if len(frame) else lengths
    return Sequences(
        events=Ragged.from_lengths(items, lengths),
        num_items=data.num_items,
        user=log.users.index_of(frame["user"]) if len(frame) else lengths,
        round_index=torch.from_numpy(frame["round"].to_numpy().copy()),
        source=torch.from_numpy(frame["source"].to_numpy().copy()),
    )


def enriched(
    observed: Sequences, before: Sequences, made: Sequences, keep: Literal["newest", "all"]
) -> Sequences:
    """D_k: the observed data and the synthetic sequences of the newest round, or of all rounds.

    Args:
        observed: D_0.
        before: D_{k−1}.
        made: what round k admitted; its sources are rows of D_{k−1}, observed ones the same in all.
        keep: `recursion.synthetic`.
    """
    return Sequences.concat([before if keep == "all" else observed, made])


def leakage(truth: Truth, log: Interactions, synthetic: Sequences, observed: Sequences) -> dict[str, float]:
    """The share of generated items outside their user's true preferences (p̃ of RSIR's error recursion).

    The same share of observed events, and of uniformly drawn items, stands beside.
    """
    made = synthetic.events.position > 0
    shuffled = torch.arange(observed.num_events) % observed.num_items
    return {
        "synthetic": _share(
            truth, log, synthetic.user[synthetic.events.row][made], synthetic.events.values[made]
        ),
        "observed": _share(truth, log, observed.user[observed.events.row], observed.events.values),
        "uniform": _share(truth, log, observed.user[observed.events.row], shuffled),
    }


def _share(truth: Truth, log: Interactions, user: Tensor, item: Tensor) -> float:
    users, items = truth.user_indices(log.users.ids_of(user)), truth.item_indices(log.items.ids_of(item))
    return float(truth.leakage(users, items).double().mean())
