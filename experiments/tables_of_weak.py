"""The paper's base on real data, made by peers.py and measures.py: tables and a plot of a page."""

from __future__ import annotations

import statistics
from typing import Any

from figures import gained, rows_of, table
from matplotlib.figure import Figure

from rsir.report.plots import COLOURS

DATA, CONTROL = "Toys_and_Games", "weak-observed"
RULES = {
    "weak-all": "retain-all",
    "weak-cap3": "three a source, at random",
    "weak-da": "DA-RSIR",
    "weak-unverified": "retain-all without fidelity control",
    "weak-unverified-cap3": "three a source, without fidelity control",
    "weak-unverified-da": "DA-RSIR, without fidelity control",
    CONTROL: "observed data alone",
}
"""Plans of peers.py on the paper's base."""
SWEEPS: dict[str, tuple[str, dict[float, str]]] = {
    "τ": (
        "τ, the largest rank (right: none)",
        {
            1: "weak-tau1",
            3: "weak-tau3",
            5: "weak-tau5",
            10: "weak-all",
            20: "weak-tau20",
            50: "weak-tau50",
            11_924: "weak-unverified",
        },
    ),
}
"""What is swept: the axis, and the plan of each value."""
MEASURED = {
    "weak-all": "the paper's base, retain-all",
    "weak-unverified": "the paper's base, without fidelity control",
    "default": "the strong base, the default",
}
"""Plans of measures.py."""
Row = dict[str, Any]


def rules_table() -> str:
    """Test figures of acquisition rules on the paper's base, each against another."""
    made = list[list[str]]()
    rows = [row for row in rows_of("peers_test.jsonl") if row["plan"] in RULES and row["data"] == DATA]
    order = list(RULES)
    for row in sorted(rows, key=lambda row: (order.index(row["plan"]), row["round"], row["against"])):
        if row["round"] == 1 and len(row["seeds"]) == 2:
            continue  # the sweeps' own
        cells = [RULES[row["plan"]], RULES[row["against"]], str(row["round"]), str(len(row["seeds"]))]
        made.append(cells + gained(row))
    return table(
        "rule | against | round | seeds | NDCG@10 | over the other | Recall@10 | over the other", made
    )


def made_by(plan: str, data: str = DATA) -> list[Row]:
    """The successors of round 1 of a plan, one a seed."""
    keys = {"data": data, "plan": plan, "round": 1}
    return [row for row in rows_of("peers.jsonl") if keys.items() <= row.items() and row["peer"] != "all"]


def sweep_rows() -> list[tuple[str, float, Row]]:
    """The test figures of each swept value over the same seeds."""
    rows = rows_of("peers_test.jsonl")
    found = []
    for name, (_, plans) in SWEEPS.items():
        for value, plan in plans.items():
            keys = {"plan": plan, "against": CONTROL, "data": DATA, "round": 1, "seeds": ["0", "1"]}
            some = [row for row in rows if keys.items() <= row.items()]
            found += [(name, value, row) for row in some[-1:]]
    return found


def sweeps_table() -> str:
    """Claim b on real data."""
    lines = list[list[str]]()
    for name, value, row in sweep_rows():
        made = [one for one in made_by(row["plan"]) if one["peer"].split(".")[1] in row["seeds"]]
        count = statistics.fmean(one["synthetic"] for one in made)
        length = statistics.fmean(one["synthetic_events"] / max(1, one["synthetic"]) for one in made)
        setting = "no rank test" if row["plan"] == "weak-unverified" else f"{name} = {value:g}"
        lines.append([setting, f"{count:,.0f}", f"{length:.1f}", *gained(row)])
    return table("setting | sequences | mean length | NDCG@10 | gain | Recall@10 | gain", lines)


def measures_table() -> str:
    """Claims e and f on real data: means over seeds; how many successors are flatter than their control."""
    rows = [row for row in rows_of("measures.jsonl") if row["log"] == DATA]
    lines = list[list[str]]()
    for plan, name in MEASURED.items():
        for k in sorted({row["round"] for row in rows if row["plan"] == plan}):
            some = [row for row in rows if row["plan"] == plan and row["round"] == k]
            cells = [name, str(k), str(len(some))]
            for key, digits in (
                ("density", 5),
                ("distinct_density", 5),
                ("entropy", 3),
                ("entropy_augmented", 3),
            ):
                values = [row["data"][key] for row in some if key in row["data"]]
                cells.append(f"{statistics.fmean(values):.{digits}f}".removeprefix("0") if values else "–")
            cells.append(f"{statistics.fmean(row['model'] for row in some):.2f}")
            if k:
                cells.append(f"{statistics.fmean(row['control'] for row in some):.2f}")
                cells.append(f"{sum(row['model'] < row['control'] for row in some)} of {len(some)}")
            else:
                cells += ["–", "–"]
            lines.append(cells)
    return table(
        "base and data | round | seeds | density | distinct | entropy | entropy, augmented | λ_max | "
        "its control's | flatter",
        lines,
    )


def sweeps_plot() -> Figure | None:
    """Gains of round 1 over its control by what was swept, on test, with their intervals."""
    found = sweep_rows()
    swept = [name for name in SWEEPS if sum(one == name for one, *_ in found) > 1]
    if not swept:
        return None
    figure = Figure(figsize=(1.2 + 2.8 * len(swept), 2.8), layout="constrained")
    panels = figure.subplots(1, len(swept), sharey=True, squeeze=False)[0]
    lines = (("ndcg@10", "NDCG@10", "rounds", "o"), ("recall@10", "Recall@10", "purple", "^"))
    for axes, name in zip(panels, swept, strict=True):
        x, rows = zip(*((value, row) for one, value, row in found if one == name), strict=True)
        for metric, text, colour, marker in lines:
            low, y, high = (
                [100 * row[metric][f"relative{end}"] for row in rows] for end in ("_low", "", "_high")
            )
            axes.plot(x, y, color=COLOURS[colour], marker=marker, label=text)
            axes.fill_between(x, low, high, color=COLOURS[colour], alpha=0.12, linewidth=0)
        axes.axhline(0, color=COLOURS["base"], linewidth=1)
        axes.set(xlabel=SWEEPS[name][0])
        if name != "p":
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("gain on control, %")
    panels[0].legend(frameon=False)
    return figure
