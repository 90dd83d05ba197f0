"""The data: before and after, and where it came from."""

from __future__ import annotations

import torch
from torch import Tensor

from rsir.data.describe import length_histogram
from rsir.report.blocks import Figure, LinePanel, Listing, Section, Series, Table
from rsir.report.numbers import NONE, count, plain, share
from rsir.report.view import View

LONGEST_DRAWN = 50


def data_section(view: View) -> Section | None:
    """Sequences, events, density and lengths of the training data by round."""
    if not view.rounds:
        return None
    columns = (
        "training data",
        "sequences",
        "synthetic",
        "events",
        "density",
        "mean length",
        "median",
        "items",
    )
    rows = tuple(
        (
            f"after round {arm.index}" if arm.index else "observed",
            count(facts["sequences"]),
            count(facts["synthetic"]),
            count(facts["events"]),
            share(facts["density"], 4),
            plain(facts["mean_length"]),
            plain(facts["median_length"]),
            count(facts["items_seen"]),
        )
        for arm in view.rounds
        for facts in (arm.record["data"],)
    )
    figure = _lengths(view)
    return Section("Data before and after", (Table(columns, rows), *([figure] if figure else [])))


def _lengths(view: View) -> Figure | None:
    """How long observed and synthetic sequences are."""
    frames = [frame for k, frame in view.synthetic.items() if len(frame)]
    if not frames:
        return None
    observed = view.split.train.events.lengths
    made = torch.cat([torch.from_numpy(f["items"].list.len().to_numpy().copy()).long() for f in frames])
    panel = LinePanel(
        "Sequence lengths",
        "events in a sequence",
        (_shares("base", "area", observed), _shares("synthetic", "steps", made)),
        percent=True,
        from_zero=True,
    )
    bins = {
        name: (length_histogram(observed)[name], length_histogram(made)[name])
        for name in length_histogram(made)
    }
    rows = tuple(
        (f"{name} events", f"{count(a)} ({share(a / len(observed))})", f"{count(b)} ({share(b / len(made))})")
        for name, (a, b) in bins.items()
        if a or b
    )
    legend = (("observed", "base", 1.0), (f"synthetic, rounds 1 to {max(view.synthetic)}", "synthetic", 1.0))
    note = f"Shares of sequences; {LONGEST_DRAWN} stands for more, too. Density is events / (users × items)."
    return Figure((panel,), Table(("length", "observed", "synthetic"), rows), legend, note)  # type: ignore[arg-type]


def _shares(colour: str, style: str, lengths: Tensor) -> Series:
    """The share of sequences of each length."""
    counts = torch.bincount(lengths.clamp(max=LONGEST_DRAWN), minlength=2)
    stop = int(lengths.max().clamp(max=LONGEST_DRAWN)) + 1
    y = (counts / counts.sum())[1:stop].tolist()
    return Series(colour, tuple(map(float, range(1, stop))), tuple(y), style)  # type: ignore[arg-type]


def source_section(view: View) -> Section:
    """What the log is, by counts and by fingerprint, and what reading it guessed."""
    about = view.data["describe"]
    length, popularity, time = about["sequence_length"], about["item_popularity"], about["time"]
    rows = [
        ("source", str(view.data["source"])),
        ("users, items, events", " · ".join(count(about[key]) for key in ("users", "items", "events"))),
        ("density", share(about["density"], 4)),
        ("events of a user", _spread(length)),
        ("events of an item", _spread(popularity)),
        ("Gini of item popularity", f"{popularity['gini']:.3f}"),
        ("events of the top 10 % of items", share(popularity["event_share_of_top_10_percent"])),
        ("repeated events", share(about["repeat_rate"])),
        (
            "times",
            NONE if time is None else f"{time['first']} to {time['last']}; ties {share(time['tie_rate'])}",
        ),
        ("fingerprint (SHA-256)", str(view.data["fingerprint"])),
    ]
    table = Table(("data", "value"), tuple(rows), wide=frozenset({0, 1}))
    return Section("Data", (table, Listing(tuple(view.data["notes"]))))


def _spread(values: dict[str, float]) -> str:
    return (
        f"mean {plain(values['mean'])}, median {plain(values['median'])}, "
        f"90th percentile {plain(values['p90'])}, largest {plain(values['max'])}"
    )
