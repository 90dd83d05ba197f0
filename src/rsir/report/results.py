"""Results: the outcome in a table, curves by round and by update, where gains fall."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import polars as pl

from rsir.evaluate import BUCKETS, by_bucket
from rsir.evidence.significance import growth
from rsir.metrics import by_name
from rsir.report.blocks import Figure, IntervalPanel, LinePanel, Section, Series, Table, Text
from rsir.report.numbers import GROWTH_COLUMNS, NONE, count, figure, gain, growth_cells, signed
from rsir.report.verdict import PARTS, compare, label, ranks_of
from rsir.report.view import Arm, Contrast, View

FEWEST_USERS = 20
"""Users a bucket needs for an interval."""


def outcome_section(view: View) -> Section | None:
    """Base, chosen round and control on test and validation."""
    if not view.rounds:
        return None
    k = view.shown
    arms = [("base", view.rounds[0])]
    arms += [(f"further base {arm.index}", arm) for arm in view.bases]
    if k:
        name = f"round {k}, chosen" if k == view.chosen else f"round {k}, best after the base"
        arms += [(name, view.rounds[k])]
    if k in view.control:
        arms.append((f"control {k}", view.control[k]))
    metrics = (view.ndcg, view.recall, f"coverage@{view.cutoff}")
    cells = [
        (part, name, *(figure(take(metric)) for metric in metrics))
        for part in ("test", "validation")
        for name, arm in arms
        for take in (arm.tested if part == "test" else arm.valid,)
        if part == "validation" or arm.test
    ]
    strong = frozenset(place for place, row in enumerate(cells) if "chosen" in row[1])
    columns = ("split", "model", *map(label, metrics))
    note = "Coverage is the share of the catalogue recommended to at least one user."
    if view.bases:
        further = min(view.config.recursion.bases_of(max(k, 1)) - 1, len(view.bases))
        note += f" The base and {further} of other seeds wrote and judged the rollouts together."
        note += _better_base(view)
    if k and not view.rounds[k].test:
        note += f" The test split was not read for round {k} or its control."
    table = Table(columns, tuple(cells), wide=frozenset({0, 1}), strong=strong)
    return Section("Outcome", (table, Text(note, quiet=True)))


def _better_base(view: View) -> str:
    """That luck with the seed was worth more than the rounds, where it was."""
    monitor = view.config.monitor
    best = max(view.bases, key=lambda arm: arm.record["valid"][monitor])
    if (
        view.chosen is None
        or best.record["valid"][monitor] <= view.rounds[view.chosen].record["valid"][monitor]
    ):
        return ""
    return f" On validation further base {best.index} is better than the model that was kept: try seeds, too."


def curves_section(view: View) -> Section | None:
    """NDCG, Recall and coverage on validation by round."""
    if len(view.rounds) < 2:
        return None
    metrics = (view.ndcg, view.recall, f"coverage@{view.cutoff}")
    panels = tuple(_curve(view, metric) for metric in metrics)
    legend = [("with synthetic data", "rounds", 1.0), ("base", "base", 1.0)]
    if view.control:
        legend.insert(1, ("control", "control", 1.0))
    note = "Validation, whole catalogue; the axes do not begin at zero."
    if view.chosen:
        note += f" The ring marks the chosen round {view.chosen}."
    curves = Figure(panels, _round_table(view, metrics), tuple(legend), note)  # type: ignore[arg-type]
    return Section("Curves by round", (curves, *_growth(view)))


def _growth(view: View) -> tuple[Text | Table, ...]:
    """Whether a round gains more over its control than the round before; nothing if there are not two."""
    known = sorted(k for k in view.control if k < len(view.rounds))
    steps = [(before, k) for before, k in pairwise(known) if before == k - 1]
    if not steps:
        return ()
    ranks = {
        k: [ranks_of(arm.folder.frame("valid"))[None] for arm in (view.control[k], view.rounds[k])]
        for k in known
    }
    rows = list[tuple[str, ...]]()
    for before, k in steps:
        for metric in (view.ndcg, view.recall):
            first, second = (tuple(by_name(metric, rank) for rank in ranks[step]) for step in (before, k))
            found = growth(first, second, seed=view.config.seed)  # type: ignore[arg-type]
            rows.append((f"{k} after {before}", label(metric), *growth_cells(asdict(found))))
    text = (
        "Do gains grow? Each round's gain over its own control on validation, beside that of the round "
        "before. Users of this one seed are resampled, the four models together."
    )
    return Text(text), Table(("round", *GROWTH_COLUMNS), tuple(rows), wide=frozenset({0, 1}))


def _curve(view: View, metric: str) -> LinePanel:
    """One metric by round: the run, its control, the base as a line."""
    rounds = [(float(arm.index), arm.valid(metric)) for arm in view.rounds]
    controls = [rounds[0], *((float(k), arm.valid(metric)) for k, arm in sorted(view.control.items()))]
    series = [_series("rounds", rounds)]
    if view.control:
        series.insert(0, _series("control", controls))
    ring = next(((x, y) for x, y in rounds if view.chosen and x == view.chosen and y is not None), None)
    return LinePanel(label(metric), "round", tuple(series), level=rounds[0][1], ring=ring, whole_x=True)


def _series(colour: str, points: list[tuple[float, float | None]]) -> Series:
    known = [(x, y) for x, y in points if y is not None]
    return Series(colour, tuple(x for x, _ in known), tuple(y for _, y in known))  # type: ignore[arg-type]


def _round_table(view: View, metrics: tuple[str, ...]) -> Table:
    """The figures of the curves."""
    columns = ("arm", *(label(metric) for metric in metrics), "training sequences", "admitted", "updates")
    arms: list[tuple[str, Arm]] = []
    for arm in view.rounds:
        arms.append((f"round {arm.index}" if arm.index else "base", arm))
        if arm.index in view.control:
            arms.append((f"control {arm.index}", view.control[arm.index]))
    rows = tuple(
        (
            name,
            *(figure(arm.valid(metric)) for metric in metrics),
            count(arm.record["sequences"]),
            count(arm.record["admitted"]) if arm.record["admitted"] else NONE,
            count(arm.record["updates"]),
        )
        for name, arm in arms
    )
    chosen = "base" if view.chosen == 0 else f"round {view.chosen}"
    strong = frozenset(place for place, (name, _) in enumerate(arms) if name == chosen)
    return Table(columns, rows, strong=strong)


def training_section(view: View) -> Section | None:
    """How the base was fitted."""
    if not view.rounds or not view.rounds[0].looks:
        return None
    base = view.rounds[0]
    updates = tuple(float(look["updates"]) for look in base.looks)
    values = tuple(look["value"] for look in base.looks)
    best = updates.index(base.record["best_updates"]) if base.record["best_updates"] in updates else 0
    panels = (
        LinePanel(
            f"{label(view.config.monitor)}, validation",
            "updates",
            (Series("base", updates, values, "line"),),
            ring=(updates[best], values[best]),
        ),
        LinePanel(
            "Loss, training",
            "updates",
            (Series("base", updates, tuple(look["loss"] for look in base.looks), "line"),),
        ),
    )
    note = (
        f"{count(base.record['updates'])} updates in all; the ring marks the best look at validation, whose "
        f"weights are kept. Training ended by {base.record['ended']}."
    )
    step = max(1, -(-len(base.looks) // 12))
    looks = [look for place, look in enumerate(base.looks) if place % step == 0 or place == best]
    rows = tuple((count(look["updates"]), figure(look["value"]), figure(look["loss"])) for look in looks)
    table = Table(("updates", f"{label(view.config.monitor)}, validation", "loss"), rows, wide=frozenset())
    return Section("Training of the base", (Figure(panels, table, note=note, folded=True),))


def bucket_section(view: View) -> Section | None:
    """Where gains fall: by history length and by popularity of the target."""
    contrast = view.contrast
    if contrast is None:
        return None
    part = PARTS[contrast.part]
    intro = (
        f"{label(view.ndcg)} of {contrast.name_b} minus {contrast.name_a} on {part}, by events in the "
        "history and by training events of the target. Right of zero are gains; blue or orange where the "
        "interval leaves zero. Each interval is for its own bucket; with this many, one may leave zero by "
        f"chance. Buckets of fewer than {FEWEST_USERS} users have none."
    )
    if not contrast.controlled:
        intro += " The base is no control: these differences cannot be put down to the synthetic data."
    names = {"history_length": "By history length", "target_count": "By popularity of the target"}
    units = {"history_length": "history", "target_count": "target"}
    cut = {by: _buckets(contrast, by, view) for by in names}
    panels = tuple(_panel(title, cut[by], view.ndcg) for by, title in names.items())
    columns = ("bucket", "users", contrast.name_a, contrast.name_b, "difference", "95 % interval", "relative")
    rows = tuple(bucket.cells(units[by]) for by in names for bucket in cut[by])
    return Section("Where gains fall", (Text(intro), Figure(panels, Table(columns, rows))))


@dataclass(frozen=True)
class _Bucket:
    """One bucket: its name, and arm b against arm a in it."""

    name: str
    compared: dict[str, Any]

    @property
    def enough(self) -> bool:
        """Whether resampling its users means something."""
        return bool(self.compared["cases"] >= FEWEST_USERS)

    def cells(self, unit: str) -> tuple[str, ...]:
        """A row of the table."""
        c = self.compared
        means, interval = (
            (figure(c["mean_a"]), figure(c["mean_b"])),
            f"{signed(c['low'])} to {signed(c['high'])}",
        )
        gains = (signed(c["difference"]), interval if self.enough else "too few", gain(c["relative"]))
        return (f"{unit} {self.name}", count(c["cases"]), *means, *gains)


def _buckets(contrast: Contrast, by: str, view: View) -> list[_Bucket]:
    """Each bucket that has cases."""
    edges = BUCKETS[by]
    tests = [pl.col(by).is_between(low, high - 1) for low, high in pairwise(edges)]
    tests.append(pl.col(by) >= edges[-1])
    cuts = [replace(contrast, a=contrast.a.filter(test), b=contrast.b.filter(test)) for test in tests]
    names = by_bucket(contrast.a, by, names=(view.ndcg,))["bucket"].to_list()  # type: ignore[arg-type]
    return [
        _Bucket(name, compare(cut, view.ndcg, view.config.seed))
        for name, cut in zip(names, (cut for cut in cuts if len(cut.a)), strict=True)
    ]


def _panel(title: str, buckets: list[_Bucket], metric: str) -> IntervalPanel:
    buckets = [bucket for bucket in buckets if bucket.enough]
    middle, low, high = (
        tuple(bucket.compared[key] for bucket in buckets) for key in ("difference", "low", "high")
    )
    labels = tuple(f"{bucket.name}  ({count(bucket.compared['cases'])})" for bucket in buckets)
    return IntervalPanel(title, f"difference of {label(metric)}", labels, middle, low, high)
