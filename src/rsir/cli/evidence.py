"""Verbs that weigh runs: `rsir compare`, `audit`, `diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rsir.cli import options as o
from rsir.cli.output import print_json, print_line, print_table
from rsir.devices import resolve_device
from rsir.errors import ConfigError
from rsir.evidence.audit import audit
from rsir.evidence.compare import Sampling, compare_runs
from rsir.evidence.diagnose import Effort, diagnose
from rsir.report.comparison import check_comparison_suffix, comparison_answer, write_comparison
from rsir.run import Run

DATA = ("sequences", "density", "distinct_density", "approximate_entropy")
MADE = (
    "accepted_share", "length_drift", "popularity_drift", "mean_percentile", "coverage", "novelty",
    "approximate_entropy",
)  # fmt: skip
THEORY = ("leakage", "weight", "error", "growth", "contraction", "breakdown_point")
"""Columns of the tables of a diagnosis."""
GROWTH = ("before", "after", "difference", "low", "high")
"""Relative gains of a comparison by round."""

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="run directories, the reference first", show_default=False),
]


def compare_verb(
    runs: Runs,
    which: Annotated[str, typer.Option("--round", help="whose model: chosen, base or a number")] = "chosen",
    split: Annotated[
        str | None, typer.Option(help="test or valid; default test, by round valid", show_default=False)
    ] = None,
    within: Annotated[
        bool, typer.Option("--within", help="that round against the controls and base of its own run")
    ] = False,
    by_round: Annotated[
        bool, typer.Option("--by-round", help="each round against its control, and whether gains grow")
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
    if within and by_round:
        raise ConfigError("--within and --by-round are two questions: ask one at a time")
    if by_round and which != "chosen":
        raise ConfigError(f"--by-round shows every round: leave out --round {which}")
    if out is not None:
        check_comparison_suffix(out)
    found = compare_runs(
        runs,
        which=which,
        part=split or ("valid" if by_round else "test"),  # type: ignore[arg-type]
        how="within" if within else "by_round" if by_round else "between",
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
    _print_growth(found["growth"])
    print_line()
    print_line(comparison_answer(found).title)
    for note in found["notes"]:
        print_line(note)


def _print_growth(grown: list[dict[str, Any]]) -> None:
    heads = ["metric", "gain before %", "gain after %", "growth", "from", "to", "p", "Holm"]
    for step in grown:
        print_line()
        rows = [
            [name, *(None if r[key] is None else 100 * r[key] for key in GROWTH), r["p"], r["p_holm"]]
            for name, r in step["metrics"].items()
        ]
        print_table(
            heads, rows, title=f"gain of round {step['after']} against that of round {step['before']}"
        )


def audit_verb(
    run: o.RunArgument,
    permutations: Annotated[int, typer.Option(min=1, help="draws of chance")] = 999,
    seed: Annotated[int, typer.Option(min=0, help="of the draws")] = 0,
    as_json: o.Json = False,
) -> None:
    """Audit RUN for leaks: where all training data comes from, held-out events, the sealed test split.

    A check that fails ends with exit code 2 and one line that names it.
    """
    found = audit(Run.open(run), permutations=permutations, seed=seed)
    print_json(found) if as_json else _print_audit(found)


def _print_audit(found: dict[str, Any]) -> None:
    checks, test = found["checks"], found["test"]
    print_line(
        f"no leak by construction: {checks['sequences']:,} synthetic sequences lead to their sources, "
        f"{checks['training_data']} models were trained on the training split and admitted sequences alone"
    )
    order = {True: "after all training and generation", None: "when, the log does not say"}[test["ordered"]]
    print_line(f"test split read for: {', '.join(test['read']) or 'none'}; {order}")
    print_line()
    rows = [
        [split, statistic.replace("_", " "), against, r["observed"], r["mean"], r["low"], r["high"], r["p"]]
        for split, held in found["held_out"].items()
        for statistic in ("transitions", "items", "earlier_items")
        for against, r in held.get(statistic, {}).items()
    ]
    if rows:
        heads = ["held out", "in synthetic data", "against", "observed", "expected", "from", "to", "p"]
        print_table(heads, rows)
        print_line(
            "chance: targets permuted among users, as popular; a model that knows a user's taste is above it "
            "without a leak. neighbours: items that the bases as one (for earlier items, the model of "
            "reversed sequences) rank next to the target; far above these is what a leak looks like."
        )


def diagnose_verb(
    run: o.RunArgument,
    rows: Annotated[int, typer.Option(min=1, help="sequences whose loss is differentiated")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="Lanczos steps")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="of all draws")] = 0,
    device: o.Device = "auto",
    as_json: o.Json = False,
) -> None:
    """Density, entropy, drift, sharpness and the error recursion of RUN, round by round."""
    effort = Effort(rows=rows, steps=steps, seed=seed)
    found = diagnose(Run.open(run), effort=effort, device=resolve_device(device))
    print_json(found) if as_json else _print_diagnosis(found)


def _print_diagnosis(found: dict[str, Any]) -> None:
    rounds = found["rounds"]
    _print_part("data", rounds, "data", DATA)
    _print_part("what each round added", rounds, "synthetic", MADE)
    print_line()
    rows = (
        [f"{name} {r['round']}", r[key]["largest_eigenvalue"], r[key]["loss"], *_changes(r[key])]
        for r in rounds
        for name, key in (("round", "model"), ("control", "control"))
        if r[key]
    )
    heads = ["model", "largest eigenvalue", "loss", "along", "across", "ratio", "true error"]
    print_table(heads, rows, title="sharpness on observed data, change along and across generated directions")
    _print_part("error recursion (simulated users)", rounds, "theory", THEORY)


def _print_part(title: str, rounds: list[dict[str, Any]], part: str, names: tuple[str, ...]) -> None:
    """One table over the rounds that have the part."""
    rows = [[r["round"], *(r[part][name] for name in names)] for r in rounds if r[part]]
    if rows:
        print_line()
        print_table(["round", *(name.replace("_", " ") for name in names)], rows, title=title)


def _changes(model: dict[str, Any]) -> list[Any]:
    change = model["change"] or dict.fromkeys(("along", "across", "ratio"))
    return [*change.values(), model.get("error")]
