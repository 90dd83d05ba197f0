"""The tables of docs/benchmarks.md, from the newest file of results; --write puts them in.

python benchmarks/tables.py [RESULTS.json ...] [--write]

Of several files the last that measured a stage on a kind of device counts for it.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"
Row = tuple[str, str]


def shown(value: float | int | bool | None, unit: str = "") -> str:
    """A figure for people, – where nothing was measured.

    >>> shown(0.01234, " s"), shown(1234567.0), shown(True), shown(None)
    ('0.0123 s', '1,230,000', 'yes', '–')
    """
    if value is None or isinstance(value, bool):
        return "–" if value is None else "yes" if value else "no"
    rounded = float(f"{value:.3g}")
    return (f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}") + unit


def gib(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**30:.2f} GiB"


def times(value: float | None) -> str:
    return shown(value, " ×")


def generation(found: dict[str, Any]) -> list[Row]:
    more = found["four_times_the_rollouts"] or {}
    return [
        ("rollouts equal to the exact loop, item for item", shown(found["equal_to_oracle"])),
        ("rollouts a second", shown(found["rollouts_per_second"])),
        ("steps a second; time a step", f"{shown(found['steps_per_second'])}; {us(found)}"),
        ("seconds, wall (CPU)", f"{shown(found['seconds'])} ({shown(found['cpu_seconds'])})"),
        ("steps, distinct prefixes", f"{found['steps']:,}, {found['distinct_prefixes']:,}"),
        ("faster than the loop over rows, wall (CPU)", both(found, "row_loop")),
        ("faster than dense rollouts × items, wall (CPU)", both(found, "dense")),
        ("a plain fp32 product of all distinct prefixes, of our time (CPU)", of_matrix(found)),
        ("the same, of the time spent in scoring", share(found["matrix_rate_fraction_of_scoring"])),
        (f"time for m {more_m(found)}, wall (CPU)", four(more)),
        *memory(found),
    ]


def memory(found: dict[str, Any]) -> list[Row]:
    rows = [("peak memory", gib(found["peak_rss_bytes"]))]
    if "peak_device_bytes" in found:
        rows.append(("peak memory of the GPU, rivals included", gib(found["peak_device_bytes"])))
    return rows


def of_matrix(found: dict[str, Any]) -> str:
    return f"{share(found['matrix_rate_fraction'])} ({share(found['cpu_matrix_rate_fraction'])})"


def four(more: dict[str, Any]) -> str:
    return f"{times(more.get('time_ratio'))} ({times(more.get('cpu_time_ratio'))})"


def us(found: dict[str, Any]) -> str:
    return shown(found["microseconds_per_step"], " µs")


def more_m(found: dict[str, Any]) -> str:
    m = found["settings"]["rollouts"]
    return f"{m} → {4 * m}"


def both(found: dict[str, Any], rival: str) -> str:
    """The ratio in wall and in processor seconds."""
    return f"{times(found.get(f'speedup_vs_{rival}'))} ({times(found.get(f'cpu_speedup_vs_{rival}'))})"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def training(found: dict[str, Any]) -> list[Row]:
    rows = [
        ("seconds a pass, wall (CPU)", wall_and_cpu(found)),
        ("predictions a second", shown(found["predictions_per_second"])),
        ("arithmetic of a pass", shown(found["tflop_per_pass"], " TFLOP")),
        ("arithmetic at the fp32 matrix rate, of our time", share(found["matrix_rate_fraction_float32"])),
        *memory(found),
    ]
    for name, rival in found["rivals"].items():
        label = rival.get("library", f"{name} PyTorch")
        part = rival["share_of_pass"]
        measured = "" if part >= 1 else f" (from {100 * part:.0f} % of a pass)"
        rows.append((f"{label}: seconds a pass, wall (CPU){measured}", wall_and_cpu(rival)))
        rows.append((f"faster than {label}, wall (CPU)", both(found, name)))
        ours = found.get("our_seconds_to_ndcg", {}).get(name)
        if rival.get("ndcg@10") is not None:
            goal = f"seconds to the NDCG@10 {rival['ndcg@10']:.4f} of {label}, theirs and ours"
            rows.append((goal, f"{shown(rival['seconds_to_ndcg'])}, {shown(ours)}"))
        by_then = found.get("our_ndcg_by_then", {}).get(name)
        if by_then is not None:
            rows.append((f"our NDCG@10 by the time {label} had it", f"{by_then:.4f}"))
    return rows


def wall_and_cpu(found: dict[str, Any]) -> str:
    return f"{shown(found['seconds_per_pass'])} ({shown(found['cpu_seconds_per_pass'])})"


def evaluation(found: dict[str, Any]) -> list[Row]:
    return [
        ("cases, items", f"{found['cases']:,}, {found['data']['items']:,}"),
        ("seconds for all, wall (CPU)", f"{shown(found['seconds'])} ({shown(found['cpu_seconds'])})"),
        ("the same with lists and beyond-accuracy metrics", shown(found["seconds_with_lists"], " s")),
        ("share of a training pass", share(found["share_of_epoch"])),
        ("one plain fp32 product of all cases, of our time", share(found["matrix_rate_fraction"])),
        ("faster than sorting", times(found["speedup_vs_sorting"])),
        *memory(found),
    ]


def ingest(found: dict[str, Any]) -> list[Row]:
    rows = []
    for form in ("parquet", "csv"):
        for reader, facts in found.get(form, {}).items():
            spent = (
                f"{shown(facts['seconds'])} s ({shown(facts['cpu_seconds'])}), {gib(facts['peak_rss_bytes'])}"
            )
            rows.append((f"{facts['events']:,} events of {form}, {reader}: wall (CPU), peak", spent))
    return rows


def run(found: dict[str, Any]) -> list[Row]:
    trained = [*found["rounds"], *found["bases"], *found["control"]]
    chosen, base = found["rounds"][found["chosen_round"]], found["rounds"][0]
    return [
        ("seconds of the command from start to report", shown(found["seconds_in_all"])),
        (
            "the base: seconds, updates, looks at validation included",
            f"{shown(base['seconds'])}, {base['updates']:,}",
        ),
        ("seconds of training, all models", shown(sum(one["seconds"] for one in trained))),
        ("models trained; updates of all", f"{len(trained)}; {sum(one['updates'] for one in trained):,}"),
        (
            "test NDCG@10 of the base and of the chosen round",
            f"{base['test']['ndcg@10']:.4f}, {chosen['test']['ndcg@10']:.4f}",
        ),
    ]


TABLES = {
    "generation": ("Generation", generation),
    "training": ("Training", training),
    "evaluation": ("Evaluation", evaluation),
    "ingest": ("Reading a log", ingest),
    "generation_large": ("Generation, 1 million items", generation),
    "training_large": ("Training, 1 million items", training),
    "run": ("From a log to a report", run),
}


def where(found: dict[str, Any]) -> str:
    """The circumstances in one line."""
    machine, data = found["machine"], found["data"]
    sizes = ", ".join(f"{data[key]:,} {key}" for key in ("sequences", "items", "events") if key in data)
    width = f", d {found['settings']['dim']}" if "settings" in found else ""
    return (
        f"{data['name']} ({sizes}){width}; {machine['processor']}, {machine['threads']} threads, "
        f"{machine['device']}; PyTorch {machine['packages']['torch']}; {found['date'][:10]}, "
        f"commit {found['commit']}, load {found['load_average']}."
    )


def tables(results: dict[str, dict[str, Any]]) -> str:
    """All tables of a file of results."""
    parts = []
    for name, (title, rows) in TABLES.items():
        if name in results:
            body = "\n".join(f"| {label} | {value} |" for label, value in rows(results[name]))
            parts.append(f"### {title}\n\n{where(results[name])}\n\n| figure | value |\n|---|---|\n{body}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    newest = max((HERE / "results").glob("*.json"), key=lambda path: path.stat().st_mtime, default=None)
    paths = asked.results or ([newest] if newest else [])
    if not paths:
        parser.error("there are no results: call make bench")
    found: dict[str, dict[str, dict[str, Any]]] = {"tables": {}, "tables of a GPU": {}}
    for path in paths:
        for name, result in json.loads(path.read_text()).items():
            on_cpu = result["machine"]["device"] == "cpu"
            found["tables" if on_cpu else "tables of a GPU"][name] = result
    text = DOCUMENT.read_text()
    for place, results in found.items():
        if not results:
            continue
        made = f"<!-- {place} -->\n\n{tables(results)}\n\n<!-- end of {place} -->"
        pattern = rf"<!-- {place} -->.*<!-- end of {place} -->"
        text = re.sub(pattern, lambda _, made=made: made, text, flags=re.DOTALL)
        if not asked.write:
            print(made)
    if asked.write:
        DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
