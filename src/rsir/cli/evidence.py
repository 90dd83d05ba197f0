"""Verbs that weigh runs: `rsir compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rsir.cli import options as o
from rsir.cli.output import print_json, print_line, print_table
from rsir.evidence.compare import Sampling, compare_runs
from rsir.report.comparison import check_comparison_suffix, comparison_answer, write_comparison

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="run directories, the reference first", show_default=False),
]


def compare_verb(
    runs: Runs,
    which: Annotated[str, typer.Option("--round", help="whose model: chosen, base or a number")] = "chosen",
    split: Annotated[str, typer.Option(help="test or valid")] = "test",
    within: Annotated[
        bool, typer.Option("--within", help="that round against the controls and base of its own run")
    ] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="as in ndcg@10; repeatable", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="bootstrap samples")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="of the bootstrap")] = 0,
    out: Annotated[Path | None, typer.Option(help="page to write: .html, .md or .json")] = None,
    as_json: o.Json = False,
) -> None:
    """Compare runs by paired bootstrap over seeds and users, with Holm over all comparisons.

    Runs that differ in their seed alone are one arm; the first arm is the reference. Two runs are two arms.
    """
    if out is not None:
        check_comparison_suffix(out)
    found = compare_runs(
        runs,
        which=which,
        part=split,  # type: ignore[arg-type]
        within=within,
        metrics=metric,
        sampling=Sampling(samples, seed=seed),
    )
    if out is not None:
        write_comparison(out, found)
    if as_json:
        print_json(found)
        return
    _print_comparisons(found)
    if out is not None:
        print_line(f"page: {out}")


def _print_comparisons(found: dict[str, Any]) -> None:
    for arm in found["arms"]:
        print_line(f"{arm['name']}: seeds {', '.join(map(str, arm['seeds']))}, rounds {arm['rounds']}")
    heads = [
        "metric",
        "users",
        "seeds",
        "reference",
        "other",
        "difference",
        "from",
        "to",
        "relative %",
        "p",
        "Holm",
    ]
    for c in found["comparisons"]:
        print_line()
        rows = (
            [name, *(r[key] for key in ("users", "seeds", "mean_a", "mean_b", "difference", "low", "high")),
             None if r["relative"] is None else 100 * r["relative"], r["p"], r["p_holm"]]
            for name, r in c["metrics"].items()
        )  # fmt: skip
        print_table(heads, rows, title=f"{c['b']} against {c['a']}")
    print_line()
    print_line(comparison_answer(found).title)
    for note in found["notes"]:
        print_line(note)
