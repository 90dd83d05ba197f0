"""Tables of successors.py: from a cold start, and of teachers; docs/what-pays.md."""

from __future__ import annotations

from typing import Any

from figures import interval, rows_of, short, standing, table

ROLLOUTS = {
    "three bases, τ 100": "rollouts of 3, rank 100",
    "three bases, τ 10": "verified rollouts of 3",
    "three bases, to their end": "whole rollouts of 3",
    "one base, to their end": "whole rollouts",
    "one base, τ 10": "retain-all, cold",
    "one base, τ 10, m 10: all": "10 rollouts of 1, all",
    "one base, τ 10, m 10: 3 a source": "10 rollouts of 1, 3 a source",
    "one base, τ 10, m 10: DA-RSIR": "10 rollouts of 1, DA-RSIR",
    "three successors, to their end": "second generation",
    "three successors, to their end, beside round 1": "second round",
    "three successors and the bases, τ 100, beside round 1": "second round with the bases, rank 100",
    "three bases, to their end; dropout .3": "whole rollouts of 3, dropout .3",
    "three bases, to their end; d 128": "whole rollouts of 3, d 128",
    "three bases, τ 100; d 128": "rollouts of 3, rank 100, d 128",
    "three bases, to their end; p .8": "whole rollouts of 3, p .8",
    "three bases, to their end; twice the updates": "whole rollouts of 3, 44 passes",
}
"""Who writes and until when, by the arm's name: what is learnt from rollouts alone, from a cold start."""


CONTROL = "observed, cold"


def split_name(name: str) -> tuple[str, str]:
    """The backbone of an arm of successors.py, and the rest of its name."""
    backbone, _, arm = name.partition(", ")
    return (backbone, arm) if backbone in ("hstu", "gru4rec") else ("sasrec", name)


def successors_table() -> str:
    """Validation figures of successors by arm, best first."""
    rows = rows_of("successors.jsonl")
    made = list[list[str]]()
    for row in sorted(rows, key=lambda row: (row["data"], -row["valid"]["ndcg@10"])):
        synthetic = f"{row['synthetic']:,}" if "synthetic" in row else "–"
        ndcg, recall = (short(row["valid"][metric]) for metric in ("ndcg@10", "recall@10"))
        made.append(
            [
                row["arm"],
                row["data"].replace("_", " "),
                f"{row['seed']}",
                ndcg,
                recall,
                synthetic,
                f"{row['cpu_seconds']:,}",
            ]
        )
    return table(
        "successor | data | seed | validation NDCG@10 | Recall@10 | synthetic sequences | CPU s",
        made,
    )


def rollouts_table() -> str:
    """Validation figures of rollouts as training data: each arm with its control, by data and backbone."""
    rows = rows_of("successors.jsonl")
    made = list[list[str]]()
    found = {(row["data"], *split_name(row["arm"]), row["seed"]): row["valid"] for row in rows}
    for writers, arm in ROLLOUTS.items():
        for data, backbone, given, seed in sorted(found):
            control = found.get((data, backbone, CONTROL, seed))
            if given != arm or control is None:
                continue
            cells = [data.replace("_", " "), backbone, writers, str(seed)]
            for metric in ("ndcg@10", "recall@10"):
                value, rival = found[data, backbone, given, seed][metric], control[metric]
                cells += [short(value), short(rival), f"{100 * (value / rival - 1):+.1f} %"]
            made.append(cells)
    return table(
        "data | successor | written by | seed | NDCG@10 | control | gain | Recall@10 | control | gain",
        made,
    )


def gains() -> list[tuple[str, str, dict[str, Any], str]]:
    """What was read on test: backbone, arm, row, and the name of its control; one backbone after another."""
    order, found = ["sasrec", "gru4rec", "hstu"], []
    for row in rows_of("successors_test.jsonl"):
        backbone, arm = split_name(row["test"])
        control = CONTROL if backbone == "sasrec" else f"{backbone}, {CONTROL}"
        if arm in ROLLOUTS.values() and f"ndcg@10 against {control}" in row:
            found.append((backbone, arm, row, control))
    return sorted(found, key=lambda one: (order.index(one[0]), one[1], one[2]["data"]))


def several_table() -> str:
    """Test figures of successors of several bases beside their controls, for the README."""
    written = {arm: writers for writers, arm in ROLLOUTS.items()}
    made = list[list[str]]()
    for backbone, arm, row, control in gains():
        rollouts = written[arm].removeprefix("three bases, ")
        cells = [backbone, row["data"].replace("_", " "), rollouts, str(row["seeds"])]
        for metric in ("ndcg@10", "recall@10"):
            cells.append(short(sum(row[metric]) / row["seeds"]))
            cells.append(interval(row[f"{metric} against {control}"]))
        made.append(cells)
    return table(
        "backbone | data | rollouts | seeds | NDCG@10 | over its control | Recall@10 | over its control",
        made,
    )


def holm_line() -> str:
    """How many of these gains stand after Holm over all of them, and their means by backbone."""
    found = [
        (backbone, metric, row[f"{metric.lower()} against {control}"])
        for backbone, _, row, control in gains()
        for metric in ("NDCG@10", "Recall@10")
    ]
    return standing(found)


def taught_table() -> str:
    """Test figures of the arms that were confirmed, and each one's gain over its rivals."""
    rows = rows_of("successors_test.jsonl")
    rows = [row for row in rows if not any(name.endswith(CONTROL) for name in (row["test"], *row))]
    made = list[list[str]]()
    for row in rows:
        means = [sum(row[m]) / row["seeds"] for m in ("ndcg@10", "recall@10")]
        gains = [
            "; ".join(gain(key.split(" against ")[1], row[key]) for key in row if f"{metric} against" in key)
            for metric in ("ndcg@10", "recall@10")
        ]
        made.append(
            [
                row["test"],
                row["data"].replace("_", " "),
                f"{row['seeds']}",
                short(means[0]),
                short(means[1]),
                gains[0],
                gains[1],
            ]
        )
    return table(
        "arm | data | seeds | NDCG@10 | Recall@10 | NDCG@10 against … | Recall@10 against …",
        made,
    )


def gain(rival: str, found: dict[str, Any]) -> str:
    """A relative gain over a rival."""
    return f"{rival}: {interval(found)}"
