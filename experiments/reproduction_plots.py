"""Draw docs/figures/ and write the tables of docs/reproduction.md anew from results/reproduction.jsonl.

    python experiments/reproduction_plots.py [--png FOLDER]

A gain is the test figure of a round less that of its matched control, relative to the control. Its 95 %
interval is 1.96 standard errors: over users (paired) where there is one seed, and for several the larger of
this one, averaged, and the one between seeds, so that seeds that agree by luck do not make it narrow.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import matplotlib
import tables_of_weak as weak
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsir.report.plots import COLOURS, STYLE

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "reproduction.jsonl"
DOCUMENT = HERE.parent / "docs" / "reproduction.md"
FIGURES = HERE.parent / "docs" / "figures"
METRICS = ("ndcg@10", "recall@10")
BASES = ("weak", "strong")
SWEEPS: dict[str, tuple[str, float, str]] = {
    "tau": ("tau", 10, "τ, the largest rank"),
    "own": ("p", 0.5, "p, own items"),
    "rollouts": ("m", 5, "m, rollouts of a sequence"),
}
"""Study, prefix of its arms, the value that the run of study "rounds" has, and the axis."""
Row = dict[str, Any]


class Gain(NamedTuple):
    """A relative gain and half its interval; how many seeds."""

    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        low, high = 100 * (self.mean - self.half), 100 * (self.mean + self.half)
        return f"{100 * self.mean:+.1f} % [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--png", type=Path, help="also draw as PNG into this folder")
    given = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        text = between(text, name, make(rows))
    FIGURES.mkdir(exist_ok=True)
    for name, (plot, caption) in PLOTS.items():
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
            figure = plot(rows)
            line = f"![{caption}](figures/{name}.svg)\n" if figure else ""
            text = between(text, f"plot {name}", line)
            if figure:
                save(figure, name, given.png)
    DOCUMENT.write_text(text, encoding="utf-8")


def between(text: str, name: str, new: str) -> str:
    """The text with something new between the markers of this name."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: found[1] + new + found[2], text, flags=re.DOTALL)


def save(figure: Figure, name: str, png: Path | None) -> None:
    """As SVG beside the page, and where asked as PNG to look at."""
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    if png:
        figure.savefig(png / f"{name}.png", dpi=80)


def pick(rows: list[Row], arm: str, base: str = "weak", start: str = "cold", **more: Any) -> list[Row]:
    """The rows of an arm, one a seed; on clean simulated users unless `more` says otherwise."""
    wanted = {"data": "simulated", "noise": 0.0, "arm": arm, "base": base, "start": start, **more}
    return [row for row in rows if all(row["job"][key] == value for key, value in wanted.items())]


def gain(rows: list[Row], k: int, metric: str = "ndcg@10") -> Gain:
    """Round k against its control over the seeds."""
    made = [row["rounds"][k] for row in rows if len(row["rounds"]) > k]
    control = fmean(one["control"]["test"][metric] for one in made)
    differences = [one["gain"][metric]["difference"] for one in made]
    within = fmean(one["gain"][metric]["standard_error"] ** 2 for one in made)
    spread = max(within, stdev(differences) ** 2) if len(made) > 1 else within
    half = 1.96 * (spread / len(made)) ** 0.5
    return Gain(fmean(differences) / control, half / control, len(made))


def mean_of(rows: list[Row], k: int, get: Callable[[Row], float | None]) -> float | None:
    """Mean of a figure of round k over the seeds; None where there is none."""
    values = [get(row["rounds"][k]) for row in rows if len(row["rounds"]) > k]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def on_test(name: str) -> Callable[[Row], float | None]:
    """Test NDCG@10 of a model of a round."""
    return lambda row: row[name]["test"]["ndcg@10"] if name in row else None


def leaked(row: Row, what: str = "synthetic") -> float | None:
    """The share of generated events off their user's true preferences."""
    found = (row.get("generation") or {}).get("leakage")
    return found[what] if found else None


def observed_leaked(row: Row) -> float | None:
    """The same share of observed events."""
    return leaked(row, "observed")


def accepted(row: Row) -> float | None:
    """The share of rollouts that were long enough when their check failed."""
    made = row.get("generation")
    return made["accepted"] / made["rollouts"] if made else None


def with_growth(rows: Iterable[Row]) -> None:
    """Put the events of each union relative to the observed ones into its round."""
    for row in rows:
        for one in row["rounds"]:
            one["growth"] = one["data"]["events"] / row["events"]


def short(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}".removeprefix("0")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def table(head: str, lines: list[str]) -> str:
    """A Markdown table of lines with bars between cells."""
    if not lines:
        return "Not run yet.\n"
    rule = "---|" * (head.count("|") + 1)
    return f"| {head} |\n|{rule}\n" + "".join(f"| {line} |\n" for line in lines)


def rounds_table(rows: list[Row], data: str = "simulated", starts: tuple[str, ...] = ("cold", "warm")) -> str:
    """Claims a and c: figures by round, against the control."""
    with_growth(rows)
    lines = []
    for base in BASES:
        for start in starts:
            for arm in ("rsir", "no fidelity", "3 bases", "3 bases, no fidelity"):
                some = pick(rows, arm, base, start, data=data)
                for k in range(max((len(row["rounds"]) for row in some), default=0)):
                    if k or arm == "rsir":
                        lines.append(round_line(some, base, start, arm, k))
    head = "base, start | arm | round | seeds | NDCG@10 | control | gain NDCG@10 | gain Recall@10 "
    return table(head + "| events / observed | leakage", lines)


def round_line(rows: list[Row], base: str, start: str, arm: str, k: int) -> str:
    cells = [
        f"{base}, {start}",
        arm if k else "base",
        str(k),
        str(sum(len(row["rounds"]) > k for row in rows)),
    ]
    cells += [short(mean_of(rows, k, on_test("model"))), short(mean_of(rows, k, on_test("control")))]
    cells += [str(gain(rows, k, metric)) if k else "–" for metric in METRICS]
    cells += [
        short(mean_of(rows, k, lambda row: row["growth"]), 1),
        percent(mean_of(rows, k or 1, leaked if k else observed_leaked)),
    ]
    return " | ".join(cells)


def sweep_points(rows: list[Row], study: str, base: str) -> list[tuple[float, list[Row]]]:
    """The values of a swept setting and their rows, smallest first."""
    prefix, default, _ = SWEEPS[study]
    arms = {row["job"]["arm"] for row in rows}
    named = [(float(arm.split()[1]), arm) for arm in arms if re.fullmatch(rf"{prefix} [\d.]+", arm)]
    seeds = {row["job"]["seed"] for _, arm in named for row in pick(rows, arm, base)}
    pairs = [*named, (default, "rsir")]
    found = [
        (value, [row for row in pick(rows, arm, base) if row["job"]["seed"] in seeds]) for value, arm in pairs
    ]
    return sorted((value, some) for value, some in found if some)


def sweep_table(rows: list[Row]) -> str:
    """Claim b: round 1 by τ, p and m."""
    lines = []
    for study, (prefix, _, _) in SWEEPS.items():
        name = {"tau": "τ"}.get(prefix, prefix)
        for base in BASES:
            for value, some in sweep_points(rows, study, base):
                lines.append(f"{base} | {name} = {value:g} | {round_one(some)}")
    return table(f"base | setting | {ROUND_ONE}", lines)


ROUND_ONE = "seeds | accepted | mean length | leakage | NDCG@10 | gain NDCG@10 | gain Recall@10"


def round_one(rows: list[Row]) -> str:
    """The cells of `ROUND_ONE`."""
    length = mean_of(rows, 1, lambda row: row["generation"]["mean_length"])
    cells = [str(len(rows)), percent(mean_of(rows, 1, accepted)), short(length, 1)]
    cells += [percent(mean_of(rows, 1, leaked)), short(mean_of(rows, 1, on_test("model")))]
    return " | ".join([*cells, *(str(gain(rows, 1, metric)) for metric in METRICS)])


def acquisition_table(rows: list[Row]) -> str:
    """Claim g: which verified sequences of ten rollouts are admitted."""
    names = {"m 10": "retain all", "disagreement": "disagreement (DA-RSIR), three bins"}
    names |= {"lowest": "disagreement, lowest bin", "highest": "disagreement, highest bin"}
    lines = []
    for base in BASES:
        for arm in ("m 10", "cap 3", "cap 1", "disagreement", "lowest", "highest", "balanced"):
            if some := pick(rows, arm, base):
                count = mean_of(some, 1, lambda row: row["data"]["sequences"]) or 0
                lines.append(f"{base} | {names.get(arm, arm)} | {count:,.0f} | {round_one(some)}")
    return table(f"base | rule | sequences of D_1 | {ROUND_ONE}", lines)


def noise_table(rows: list[Row]) -> str:
    """Claim d: round 1 with random items mixed into the training data."""
    lines = []
    for base in BASES:
        for ratio, some in noise_points(rows, base):
            start = short(mean_of(some, 0, on_test("model")))
            control = short(mean_of(some, 1, on_test("control")))
            lines.append(f"{base} | {100 * ratio:.0f} % | {start} | {control} | {round_one(some)}")
    return table(f"base | random events for each real one | base | control | {ROUND_ONE}", lines)


def noise_points(rows: list[Row], base: str) -> list[tuple[float, list[Row]]]:
    ratios = sorted({row["job"]["noise"] for row in pick_all(rows, "once", base)})
    points = [(ratio, pick(rows, "once", base, noise=ratio)) for ratio in ratios]
    seeds = {row["job"]["seed"] for _, some in points for row in some}
    clean = [row for row in pick(rows, "rsir", base) if row["job"]["seed"] in seeds]
    return [(0.0, clean), *points] if points and clean else points


def pick_all(rows: list[Row], arm: str, base: str) -> list[Row]:
    return [row for row in rows if row["job"]["arm"] == arm and row["job"]["base"] == base]


def data_table(rows: list[Row]) -> str:
    """Claim e: density and information of the unions."""
    lines = []
    for base in BASES:
        for arm in ("rsir", "no fidelity"):
            some = pick(rows, arm, base)
            for k in range(max((len(row["rounds"]) for row in some), default=0)):
                if k or arm == "rsir":
                    cells = [base, arm if k else "observed", str(k), str(len(some))]
                    for key in ("density", "distinct_density"):
                        cells.append(short(mean_of(some, k, lambda row, key=key: row["data"][key]), 5))
                    for key in ("entropy", "entropy_augmented"):
                        cells.append(short(mean_of(some, k, lambda row, key=key: row["data"].get(key)), 3))
                    lines.append(" | ".join(cells))
    return table("base | arm | round | seeds | density | distinct | entropy | entropy, augmented", lines)


def sharpness_table(rows: list[Row]) -> str:
    """Claim f: largest eigenvalue of the Hessian."""
    lines = []
    for base in BASES:
        for start in ("cold", "warm"):
            for arm in ("rsir", "no fidelity"):
                for row in pick(rows, arm, base, start):
                    last = max(int(name.split()[1]) for name in row["sharpness"] if name != "base")
                    names = ("base", "round 1", "control 1", f"round {last}", f"control {last}")
                    cells = [f"{row['sharpness'][name]:.1f}" for name in names]
                    head = [f"{base}, {start}", arm, str(row["job"]["seed"])]
                    lines.append(" | ".join([*head, *cells]))
    return table("base, start | arm | seed | base | round 1 | its control | last round | its control", lines)


def runs_table(rows: list[Row]) -> str:
    """What was run, and what it took."""
    lines = []
    for data in sorted({row["job"]["data"] for row in rows}):
        some = [row for row in rows if row["job"]["data"] == data]
        seconds, models = sum(row["cpu_seconds"] for row in some), sum(len(row["rounds"]) for row in some)
        commits = ", ".join(sorted({row["commit"] for row in some}))
        lines.append(f"{data} | {len(some)} | {models} | {seconds:,.0f} | {commits}")
    return table("data | runs | models beside controls | CPU seconds | commit", lines)


def rounds_plot(rows: list[Row]) -> Figure:
    """Test NDCG@10 by round: with and without fidelity, and the control."""
    bases = [base for base in BASES if pick(rows, "rsir", base)]
    figure = Figure(figsize=(3.6 * len(bases), 2.9), layout="constrained")
    panels = figure.subplots(1, len(bases), squeeze=False)[0]
    kinds = (
        ("rsir", "model", "with fidelity (τ = 10)", "rounds", "o"),
        ("no fidelity", "model", "without fidelity", "purple", "^"),
        ("rsir", "control", "control", "control", "s"),
    )
    for axes, base in zip(panels, bases, strict=True):
        for arm, name, label, colour, marker in kinds:
            line_by_round(axes, pick(rows, arm, base), on_test(name), label, COLOURS[colour], marker)
        seeds = len(pick(rows, "rsir", base))
        axes.set(title=f"{base} base, cold start", xlabel="round", ylim=(0, None))
        axes.set_xlabel(f"round ({seeds} seed{'s' if seeds > 1 else ''}, mean and each)")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("test NDCG@10")
    panels[-1].legend(frameon=False, loc="lower left")
    return figure


def line_by_round(
    axes: Axes,
    rows: list[Row],
    get: Callable[[Row], float | None],
    label: str,
    colour: str,
    marker: str,
) -> None:
    """The mean over seeds by round, and each seed thin; a control begins at the base."""

    def value(one: Row) -> float | None:
        found = get(one)
        return one["model"]["test"]["ndcg@10"] if found is None and one["round"] == 0 else found

    for row in rows:
        axes.plot([value(one) for one in row["rounds"]], color=colour, alpha=0.25, linewidth=0.8)
    most = max((len(row["rounds"]) for row in rows), default=0)
    if not most:
        return
    axes.plot([mean_of(rows, k, value) for k in range(most)], color=colour, marker=marker, label=label)


def sweeps_plot(rows: list[Row]) -> Figure | None:
    """Gain of round 1 on its control by τ, p and m."""
    swept = [study for study in SWEEPS if any(len(sweep_points(rows, study, base)) > 1 for base in BASES)]
    if not swept:
        return None
    figure = Figure(figsize=(1 + 2.6 * len(swept), 2.7), layout="constrained")
    panels = figure.subplots(1, len(swept), sharey=True, squeeze=False)[0]
    for axes, study in zip(panels, swept, strict=True):
        _, default, label = SWEEPS[study]
        for base, colour, marker in (("weak", "rounds", "o"), ("strong", "control", "s")):
            points = [(value, gain(some, 1)) for value, some in sweep_points(rows, study, base)]
            if len(points) > 1:
                bars(axes, points, f"{base} base", COLOURS[colour], marker)
        axes.axhline(0, color=COLOURS["base"], linewidth=1)
        axes.axvline(default, color=COLOURS["pale"], linewidth=1, linestyle=":")
        axes.set(xlabel=label)
        if study != "own":
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("gain on control, NDCG@10, %")
    panels[0].legend(frameon=False)
    return figure


def bars(axes: Axes, points: list[tuple[float, Gain]], label: str, colour: str, marker: str) -> None:
    """Gains in percent with their intervals."""
    x = [value for value, _ in points]
    y, half = ([100 * getattr(one, name) for _, one in points] for name in ("mean", "half"))
    axes.errorbar(x, y, yerr=half, color=colour, marker=marker, capsize=2, elinewidth=0.8, label=label)


def noise_plot(rows: list[Row]) -> Figure | None:
    """Base, control and round 1 by the share of random events."""
    points = noise_points(rows, "weak")
    if not points:
        return None
    figure = Figure(figsize=(3.8, 2.7), layout="constrained")
    axes = figure.subplots()
    kinds = [("model", 0, "base", "base", "D"), ("control", 1, "control", "control", "s")]
    for name, k, label, colour, marker in [*kinds, ("model", 1, "RSIR, round 1", "rounds", "o")]:
        x = [100 * ratio for ratio, _ in points]
        y = [mean_of(some, k, on_test(name)) for _, some in points]
        axes.plot(x, y, color=COLOURS[colour], marker=marker, label=label)
    axes.set(xlabel="random events for 100 real ones", ylabel="test NDCG@10", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def data_plot(rows: list[Row]) -> Figure:
    """Density and approximate entropy of the union by round, weak base."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    panels = figure.subplots(1, 2)
    names = (("density", "events / (users × items)"), ("entropy", "approximate entropy, nats"))
    for axes, (key, label) in zip(panels, names, strict=True):
        for arm, text, colour, marker in (
            ("rsir", "with fidelity", "rounds", "o"),
            ("no fidelity", "without fidelity", "purple", "^"),
        ):
            if not (some := pick(rows, arm)):
                continue
            most = max((len(row["rounds"]) for row in some), default=0)
            y = [mean_of(some, k, lambda row, key=key: row["data"][key]) for k in range(most)]
            axes.plot(y, color=COLOURS[colour], marker=marker, label=text)
        axes.set(xlabel="round", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_yscale("log")
    panels[0].legend(frameon=False)
    return figure


TABLES = {
    "rounds": rounds_table,
    "sweeps": sweep_table,
    "acquisition": acquisition_table,
    "noise": noise_table,
    "data": data_table,
    "sharpness": sharpness_table,
    "runs": runs_table,
}
PLOTS: dict[str, tuple[Callable[[list[Row]], Figure | None], str]] = {
    "collapse": (rounds_plot, "Test NDCG@10 by round, with and without fidelity, and the control"),
    "sweeps": (sweeps_plot, "Gain of round 1 on its control by τ, p and m"),
    "weak-sweeps": (
        lambda _: weak.sweeps_plot(),
        "Gain of round 1 on its control by τ, Toys, the paper's base",
    ),
    "noise": (noise_plot, "Test NDCG@10 of base, control and round 1 by noise"),
    "data-by-round": (data_plot, "Density and approximate entropy of the training data by round"),
}

if __name__ == "__main__":
    main()
