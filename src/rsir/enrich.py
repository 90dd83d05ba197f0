"""The enriched data set of a trained run, for any other library to train on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import torch

from rsir.acquire import acquisition_rule
from rsir.config import Config
from rsir.data.interactions import Interactions
from rsir.data.sequences import OBSERVED, Sequences
from rsir.earlier import admitted_earlier_items
from rsir.errors import DataError
from rsir.generate import generate
from rsir.run import Run


def enrich(
    run: Run,
    *,
    round_index: int | None = None,
    config: Config | None = None,
    only_synthetic: bool = False,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """One pass of generation, judgement and admission by those who would write the next round of a run.

    Only training events are read and written: held-out events cannot be in the result. Each
    synthetic sequence stands under a user id of its own, `<user>#r<round>.<number>`, so that a
    library that knows nothing of origins trains on it unchanged.

    Args:
        run: the run.
        round_index: whose model generates, with the run's further bases; default the chosen round's.
        config: its seed, generation and acquisition sections are read, and how many earlier items short
            histories get where the run has a model of reversed sequences; default the run's.
        only_synthetic: leave out the observed training events.
        device: where to compute.
        progress: called with (step, active rollouts).

    Returns:
        An event a row: `user_id` (text), `item_id` (as in the log), `timestamp`, `origin` ("observed" or
        "synthetic") and `source_user` (as in the log). A synthetic sequence begins at the time of its
        source's first event and takes one unit of the log's time an event; without times in the
        log, `timestamp` counts the events of a sequence from 0.

    Raises:
        DataError: if the run has no such model, or an id of its log looks like one made here.
    """
    k = run.chosen_round() if round_index is None else round_index
    model = run.writer(k).to(device)
    config = config or run.config
    how, keys = config.generation, {"seed": config.seed, "round_index": k + 1}
    observed = run.split().train
    sources = run.training_data(k)[-1] if how.sources == "all" else observed
    rule = acquisition_rule(config.acquisition, how.min_length, model)
    rollouts = generate(model, sources, how, **keys, device=device, progress=progress)
    admission = rule.admit(rollouts, sources, **keys)
    parts = [admission.sequences(rollouts, k + 1)]
    if config.recursion.earlier_items and (writer := run.backward_writer()) is not None:
        where: dict[str, Any] = {"round_index": k + 1, "device": device, "progress": progress}
        earlier, kept, _ = admitted_earlier_items(writer.to(device), model, sources, config, **where)
        parts.append(kept.sequences(earlier, k + 1))
    made = _frame(run.interactions, Sequences.concat(parts), "synthetic")
    if only_synthetic:
        return made
    real = _frame(run.interactions, observed, "observed")
    names = made["user_id"].unique(maintain_order=True)
    twice = names.filter(names.is_in(real["user_id"].unique().implode()))
    if len(twice):
        raise DataError(f"user id {twice[0]!r} of the log is one a synthetic sequence would get: rename it")
    return pl.concat([real, made])


def events_frame(log: Interactions, data: Sequences) -> pl.DataFrame:
    """Sequences as events with external ids, the observed ones first; columns as `enrich` gives.

    Args:
        log: whose users and items the indices of `data` are.
        data: training sequences, synthetic ones, or both.
    """
    parts = {"observed": data.round_index == OBSERVED, "synthetic": data.round_index != OBSERVED}
    return pl.concat(
        _frame(log, data.select(rows.nonzero().flatten()), origin) for origin, rows in parts.items()
    )


def _frame(log: Interactions, data: Sequences, origin: str) -> pl.DataFrame:
    """Sequences of one origin as events."""
    row = data.events.row
    source = log.users.ids_of(data.user)
    names = source.cast(pl.String).alias("user_id")
    if origin == "synthetic":
        number = pl.int_range(pl.len()).over("user_id").cast(pl.String)
        rounds = pl.Series("round", data.round_index.numpy()).cast(pl.String)
        made = pl.concat_str("user_id", pl.lit("#r"), "round", pl.lit("."), number)
        names = pl.DataFrame([names, rounds]).select(made.alias("user_id"))["user_id"]
    events = pl.Series(row.numpy())
    return pl.DataFrame(
        {
            "user_id": names.gather(events),
            "item_id": log.items.ids_of(data.events.values),
            "timestamp": _times(log, data, origin),
            "origin": pl.repeat(origin, len(events), dtype=pl.String, eager=True),
            "source_user": source.gather(events),
        }
    )


def _times(log: Interactions, data: Sequences, origin: str) -> pl.Series:
    """Times of observed training events; invented ones for synthetic sequences."""
    row, place = data.events.row, data.events.position
    if log.time is None:
        return pl.Series(place.numpy())
    first = log.ragged.offsets[data.user[row]]
    time = log.time[first + place] if origin == "observed" else log.time[first] + place
    series = pl.Series(time.numpy())
    return series.cast(pl.Datetime("us", "UTC")) if log.time_is_date else series
