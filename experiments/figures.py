"""What the tables share: reading results, and how figures are written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rsir.evidence.significance import holm

HERE = Path(__file__).parent
METRICS = ("ndcg@10", "recall@10")


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of a file of results."""
    return [json.loads(line) for line in (HERE / "results" / name).read_text().splitlines()]


def table(heads: str, rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; heads are separated by bars.

    >>> print(table("data | figure", [["Toys", ".06"]]), end="")
    | data | figure |
    |---|---|
    | Toys | .06 |
    """
    lines = [f"| {heads} |", "|" + "---|" * len(heads.split(" | "))]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)]) + "\n"


def short(value: float) -> str:
    """Four decimals without the leading zero."""
    return f"{value:.4f}".removeprefix("0")


def interval(found: dict[str, Any]) -> str:
    """A relative gain with its interval."""
    mean, low, high = (100 * found[f"relative{end}"] for end in ("", "_low", "_high"))
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]"


def gained(row: dict[str, Any]) -> list[str]:
    """Each metric of a row of peers_test.jsonl, and its gain over the control."""
    return [text for metric in METRICS for text in (short(row[metric]["mean_b"]), interval(row[metric]))]


def standing(gains: list[tuple[str, str, dict[str, Any]]]) -> str:
    """How many gains, each with backbone and metric, stand after Holm over all, and means by backbone."""
    found: dict[str, dict[str, list[float]]] = {}
    for backbone, metric, one in gains:
        found.setdefault(backbone, {}).setdefault(metric, []).append(one["relative"])
    values = [one["p"] if one["relative"] > 0 else 1.0 for *_, one in gains]
    passed = sum(p < 0.05 for p in holm(values))
    means = "; ".join(
        f"{backbone} " + ", ".join(f"{100 * statistics.fmean(v):+.1f} % {metric}" for metric, v in by.items())
        for backbone, by in found.items()
    )
    return f"Of these {len(values)} gains {passed} stand at 5 % after Holm over all. Means: {means}.\n"
