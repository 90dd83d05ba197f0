"""Policies for events that repeat and for users and items with few events.

Frames here are sorted by user, time and file order and have the columns `user`, `item`
(indices), `time` if known, and `row` (place in the file).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

Duplicates = Literal["keep", "drop_exact", "drop_repeats"]


def drop_duplicates(events: pl.DataFrame, policy: Duplicates) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Apply the policy; the events kept and what to say of it.

    `drop_exact` drops an event with the user, item and time of an earlier one, and nothing where
    there is no time; `drop_repeats` one with the user and item of an earlier one.
    """
    if policy == "drop_repeats":
        kept = events.filter(pl.struct("user", "item").is_first_distinct())
        rule = "repeats (same user and item at any time)"
    elif policy == "drop_exact" and "time" in events.columns:
        kept = events.filter(pl.Series(_first_of_its_kind(events)))
        rule = "exact duplicates (same user, item and time)"
    else:
        return events, ()
    dropped = events.height - kept.height
    return kept, (f"{dropped} {rule} dropped",) if dropped else ()


def _first_of_its_kind(events: pl.DataFrame) -> np.ndarray:
    """False for an event equal to an earlier one; only the few events tied in time are compared."""
    same = (pl.col("user") == pl.col("user").shift()) & (pl.col("time") == pl.col("time").shift())
    tied = events.select(same=same.fill_null(False))["same"]
    tied = tied | tied.shift(-1, fill_value=False)
    places = tied.arg_true()
    first = events[places].select(pl.struct("user", "item", "time").is_first_distinct()).to_series()
    keep = np.ones(events.height, dtype=bool)
    keep[places.to_numpy()] = first.to_numpy()
    return keep


def k_core(
    events: pl.DataFrame, min_user_events: int | None, min_item_events: int | None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Drop users and items with too few events until none is left; repeated events count.

    >>> log = pl.DataFrame({"user": [0, 0, 1, 1, 2], "item": [0, 1, 0, 1, 2]})
    >>> k_core(log, 2, 2)[0].height
    4
    """
    limits = [
        (name, least) for name, least in (("user", min_user_events), ("item", min_item_events)) if least
    ]
    before, passes, last = events.height, 0, -1
    while limits and events.height != last:
        last, passes = events.height, passes + 1
        for name, least in limits:
            events = events.filter(pl.len().over(name) >= least)
    if events.height == before:
        return events, ()
    asked = " and ".join(f"at least {least} events a {name}" for name, least in limits)
    return events, (f"{before - events.height} events dropped for {asked}, in {passes} passes",)


def renumber(events: pl.DataFrame, column: str) -> tuple[pl.DataFrame, pl.Series]:
    """Number users or items again by first appearance in the file.

    Returns:
        The events with new indices, and the old index of each new one.
    """
    old = events.group_by(column).agg(pl.col("row").min()).sort("row")[column]
    new = np.zeros(int(old.max()) + 1, dtype=np.uint32)  # type: ignore[arg-type]
    new[old.to_numpy()] = np.arange(len(old), dtype=np.uint32)
    return events.with_columns(pl.Series(column, new[events[column].to_numpy()])), old
