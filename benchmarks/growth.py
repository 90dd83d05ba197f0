"""Time and peak memory of each stage as the data grows, on random data; points as JSON lines.

    python benchmarks/growth.py            measures what is missing in results/growth.jsonl
    python benchmarks/growth.py --plot     draws docs/growth.svg, puts the slopes into docs/benchmarks.md

Each point is measured in a process of its own, so that its peak memory is its own; a stopped run goes on
where it was. Along each axis one size grows and the others stay. Rollouts end at the length of their source
(no rank test), so that their number of steps is known: sources × m × length.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rsir.bench import readers
from rsir.bench.alone import last_json
from rsir.bench.clock import commit, figure, peak_bytes, timed
from rsir.bench.ingest import write_logs
from rsir.bench.workload import random_sources, train_for, untrained
from rsir.config import Config, load_config
from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.evaluate import evaluate
from rsir.generate import generate

RESULTS = Path(__file__).parent / "results" / "growth.jsonl"
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PLOT = DOCUMENT.parent / "growth.svg"
CENTRE = {"users": 2000, "items": 2000, "length": 10, "rollouts": 5}
"""Where the axes cross."""
FEW = {"users": 500}
"""On the axis of items, whose last point would take minutes otherwise."""
USERS, ITEMS = [1000, 10_000, 100_000], [1000, 10_000, 100_000, 1_000_000]
LENGTHS, ROLLOUTS = [5, 10, 20, 50], [5, 10, 20]
AXES: dict[str, dict[str, list[int]]] = {
    "ingest": {"events": [10_000, 100_000, 1_000_000, 10_000_000]},
    "training": {"users": USERS, "items": ITEMS, "length": LENGTHS},
    "generation": {"users": USERS, "items": ITEMS, "length": LENGTHS, "rollouts": ROLLOUTS},
    "evaluation": {"users": USERS, "items": ITEMS, "length": LENGTHS},
}
LABELS = {
    "events": "events",
    "users": "sequences",
    "items": "items",
    "length": "events a sequence",
    "rollouts": "rollouts m",
}


def ingest(sizes: dict[str, int]) -> dict[str, float]:
    """Reading a Parquet log."""
    events = sizes["events"]
    with tempfile.TemporaryDirectory() as name:
        write_logs(Path(name), events, max(10, events // 100), max(10, events // 50))
        found = last_json([sys.executable, "-P", readers.__file__, "rsir", str(Path(name) / "log.parquet")])
    return {key: found[key] for key in ("seconds", "cpu_seconds", "peak_rss_bytes")}


def measure(stage: str, sizes: dict[str, int]) -> dict[str, float]:
    """One stage at one point, in this process, on one thread."""
    torch.set_num_threads(1)
    longest = max(2, sizes["length"])
    config = load_config(
        None,
        [
            "model.dim=32",
            "model.num_blocks=1",
            f"generation.num_rollouts={sizes['rollouts']}",
            f"generation.max_length={longest}",
            "generation.max_rank=none",
        ],
    )
    data = random_sources(sizes["items"], sizes["users"], sizes["length"], seed=0)
    act = {"training": training, "generation": generation, "evaluation": evaluation}[stage]
    act(random_sources(sizes["items"], 20, sizes["length"], seed=1), config)()  # warms up
    found = timed(act(data, config))
    return {
        "seconds": figure(found.seconds),
        "cpu_seconds": figure(found.cpu_seconds),
        "peak_rss_bytes": peak_bytes(),
    }


def training(data: Sequences, config: Config) -> Callable[[], object]:
    """One pass."""
    model = untrained(config, data.num_items, "cpu")
    return lambda: train_for(model, data, config.training, 1, seed=0, device="cpu")


def generation(data: Sequences, config: Config) -> Callable[[], object]:
    model = untrained(config, data.num_items, "cpu")
    return lambda: generate(model, data, config.generation, seed=0, round_index=1)


def evaluation(data: Sequences, config: Config) -> Callable[[], object]:
    """The last item of each sequence after the others."""
    events = data.events
    histories = events.slice_rows(torch.zeros_like(events.lengths), events.lengths - 1)
    cases = Cases(histories, events.values[events.last], data.user)
    model, counts = untrained(config, data.num_items, "cpu"), data.item_counts()
    return lambda: evaluate(model, cases, counts, config.evaluation, with_lists=False)


def points() -> list[dict[str, Any]]:
    """All points: stage, axis, sizes."""
    found = []
    for stage, axes in AXES.items():
        for axis, values in axes.items():
            centre = {} if stage == "ingest" else {**CENTRE, **(FEW if axis == "items" else {})}
            found += [{"stage": stage, "axis": axis, "sizes": {**centre, axis: value}} for value in values]
    return found


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(line: dict[str, Any]) -> dict[str, Any]:
    """What tells a point from others."""
    return {name: line[name] for name in ("stage", "axis", "sizes")}


def run(path: Path, backwards: bool) -> None:
    """Measure the points that are not there yet; a second process can come from the other end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for point in sorted(points(), key=points().index, reverse=backwards):
        if point in map(key, read(path)):
            continue
        print(point, file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--point", json.dumps(point)]
        load = round(os.getloadavg()[0], 2)
        line = {**point, **last_json(command), "load_average": load, "commit": commit()}
        with path.open("a") as out:
            out.write(json.dumps(line) + "\n")


def slope(xs: list[float], ys: list[float]) -> float:
    """Of the straight line with least squares through the logarithms.

    >>> round(slope([1, 10, 100], [2, 20, 200]), 6)
    1.0
    """
    us, vs = [math.log(x) for x in xs], [math.log(y) for y in ys]
    u, v = sum(us) / len(us), sum(vs) / len(vs)
    return sum((a - u) * (b - v) for a, b in zip(us, vs, strict=True)) / sum((a - u) ** 2 for a in us)


def series(lines: list[dict[str, Any]], stage: str, axis: str, key: str) -> tuple[list[float], list[float]]:
    """Sizes and figures along an axis, rising."""
    chosen = [line for line in lines if (line["stage"], line["axis"]) == (stage, axis)]
    pairs = sorted((line["sizes"][axis], line[key]) for line in chosen)
    return [float(x) for x, _ in pairs], [float(y) for _, y in pairs]


def table(lines: list[dict[str, Any]]) -> str:
    """Slopes over the whole axis and over its last step, in processor seconds and peak memory."""
    rows = [
        "| stage | against | from … to | seconds (CPU) | slope | last step | peak GiB | slope |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stage, axes in AXES.items():
        for axis in axes:
            xs, seconds = series(lines, stage, axis, "cpu_seconds")
            _, peaks = series(lines, stage, axis, "peak_rss_bytes")
            if len(xs) < 2:
                continue
            ends = f"{xs[0]:,.0f} … {xs[-1]:,.0f}"
            spent = f"{seconds[0]:.3g} … {seconds[-1]:.3g}"
            held = f"{peaks[0] / 2**30:.2f} … {peaks[-1] / 2**30:.2f}"
            last = slope(xs[-2:], seconds[-2:])
            rows.append(
                f"| {stage} | {LABELS[axis]} | {ends} | {spent} | {slope(xs, seconds):.2f} | {last:.2f} "
                f"| {held} | {slope(xs, peaks):.2f} |"
            )
    return "\n".join(rows)


def shown(size: int) -> str:
    """A size on an axis.

    >>> shown(20), shown(100_000), shown(10_000_000)
    ('20', '100 k', '10 M')
    """
    if size < 1000:
        return str(size)
    return f"{size / 10**6:g} M" if size >= 10**6 else f"{size / 1000:g} k"


def plot(lines: list[dict[str, Any]], out: Path) -> None:
    """A row of plots for time, one for memory: a column an axis, a line a stage."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rsir"
    from matplotlib import pyplot

    figures, places = pyplot.subplots(2, len(LABELS), figsize=(16, 6.5), sharey="row")
    for row, (key, unit, scale) in enumerate(
        (("cpu_seconds", "processor seconds", 1), ("peak_rss_bytes", "peak memory, GiB", 2**30))
    ):
        places[row][0].set_ylabel(unit)
        for place, axis in zip(places[row], LABELS, strict=True):
            place.set(xscale="log", yscale="log", xlabel=LABELS[axis])
            place.grid(alpha=0.3)
            for number, stage in enumerate(AXES):
                xs, ys = series(lines, stage, axis, key)
                if len(xs) > 1:
                    label = f"{stage}, slope {slope(xs, ys):.2f}"
                    place.plot(xs, [y / scale for y in ys], marker="o", color=f"C{number}", label=label)
            place.legend(fontsize=7)
            points = sorted({x for stage in AXES for x in AXES[stage].get(axis, [])})
            place.set_xticks(points, [shown(x) for x in points])
            if row:
                place.set_yticks([0.3, 0.5, 1, 2])
            place.minorticks_off()
            place.yaxis.set_major_formatter("{x:g}")
    figures.tight_layout()
    figures.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--backwards", action="store_true")
    parser.add_argument("--point", type=json.loads)
    asked = parser.parse_args()
    if asked.point:
        stage, sizes = asked.point["stage"], asked.point["sizes"]
        print(json.dumps(ingest(sizes) if stage == "ingest" else measure(stage, sizes)))
    elif asked.plot:
        plot(read(asked.out), PLOT)
        made = f"<!-- growth -->\n\n{table(read(asked.out))}\n\n<!-- end of growth -->"
        text = DOCUMENT.read_text()
        DOCUMENT.write_text(
            re.sub("<!-- growth -->.*<!-- end of growth -->", lambda _: made, text, flags=re.DOTALL)
        )
    else:
        run(asked.out, asked.backwards)


if __name__ == "__main__":
    main()
