"""Verbs that use a run: `rsir generate`, `evaluate`, `recommend`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from rsir.assess import assess
from rsir.cli import options as o
from rsir.cli.output import print_facts, print_json, print_line, print_table
from rsir.cli.progress import watching
from rsir.compiled import tell_of_compiling
from rsir.data.write import check_suffix, write_log
from rsir.devices import resolve_device
from rsir.enrich import enrich
from rsir.errors import ConfigError
from rsir.files import whole_file
from rsir.report import write_report
from rsir.run import Run


def generate_verb(
    run: o.RunArgument,
    out: Annotated[
        Path, typer.Option(help="file to write: .parquet, .csv, .jsonl, .inter or .txt (one line a user)")
    ],
    round_index: o.Round = None,
    seed: o.Seed = None,
    only_synthetic: Annotated[
        bool, typer.Option("--only-synthetic", help="leave out the observed training events")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="a setting of generation or acquisition", metavar="KEY=VALUE"),
    ] = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write the enriched data set of RUN: training events and synthetic sequences, for any other library.

    Each synthetic sequence is a user of its own, USER#rROUND.NUMBER; held-out events are never written.
    """
    suffix, opened = check_suffix(out), Run.open(run)
    config = o.changed_only(
        opened.config, o.overrides({"seed": seed}, set_), ("seed", "generation", "acquisition")
    )
    where = resolve_device(device)
    with watching(quiet) as watch:
        watch.stage("generate", "rounds", opened.chosen_round() + 1)
        tell_of_compiling(watch, where)
        frame = enrich(
            opened,
            round_index=round_index,
            config=config,
            only_synthetic=only_synthetic,
            device=where,
            progress=lambda step, active: watch.advance(step, None),
        )
    with whole_file(out) as part:
        write_log(frame, part, suffix)
    facts = {"file": str(out), **_sizes(frame)}
    print_json(facts) if as_json else print_facts(facts)


def _sizes(frame: pl.DataFrame) -> dict[str, object]:
    """Sequences and events by origin."""
    parts = {name: frame.filter(pl.col("origin") == name) for name in ("observed", "synthetic")}
    return {
        name: {"sequences": part["user_id"].n_unique(), "events": len(part)} for name, part in parts.items()
    }


def evaluate_verb(
    run: o.RunArgument,
    round_index: o.Round = None,
    split: Annotated[str, typer.Option(help="test or valid")] = "test",
    seen: Annotated[
        str | None, typer.Option(help="items in the history: mask, mask_except_target or allow")
    ] = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Metrics of a model of RUN over the whole catalogue, beside the yardsticks."""
    opened = Run.open(run)
    given = o.overrides({"evaluation.seen": seen})
    config = o.changed_only(opened.config, given, ("evaluation",)).evaluation
    with watching(quiet) as watch:
        watch.stage("evaluate", "rounds", opened.chosen_round() if round_index is None else round_index)
        found = assess(
            opened,
            round_index=round_index,
            part=split,  # type: ignore[arg-type]
            config=config,
            device=resolve_device(device),
            progress=watch.advance,
        )
    print_json(found) if as_json else _print_assessment(found)


def _print_assessment(found: dict[str, Any]) -> None:
    counts = found["counts"]
    print_line(f"{found['run']}, round {found['round']}, {found['split']} split, seen items: {found['seen']}")
    print_line(
        f"{counts['cases']:,} cases, {counts['cold']:,} with a cold and {counts['repeated']:,} with a "
        f"repeated target; highest reachable recall {found['ceiling']:.4f}"
    )
    print_line()
    columns = {"model": found["metrics"], "warm only": found["warm_metrics"], **found["yardsticks"]}
    rows = [[name, *(column.get(name) for column in columns.values())] for name in found["metrics"]]
    print_table(["metric", *(name.replace("_", " ") for name in columns)], rows)
    for key, title in (("by_history_length", "by history length"), ("by_target_count", "by item popularity")):
        print_line()
        print_table([title, *list(found[key][0])[1:]], (row.values() for row in found[key]))


def recommend_verb(
    run: o.RunArgument,
    user: Annotated[list[str] | None, typer.Option(help="a user of the log; repeatable")] = None,
    history: Annotated[
        list[str] | None, typer.Option(help="item ids, oldest first: a,b,c; repeatable")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="all users of the log")] = False,
    n: Annotated[int, typer.Option("-n", help="items for each")] = 10,
    repeats: Annotated[bool, typer.Option("--repeats", help="also items already in the history")] = False,
    out: Annotated[Path | None, typer.Option(help="file to write: .parquet, .csv or .jsonl")] = None,
    as_json: o.Json = False,
) -> None:
    """The best next items for users of the log, or after histories given on the spot."""
    if [bool(user), bool(history), everyone].count(True) != 1:
        raise ConfigError("say for whom: one of --user, --history or --all")
    suffix = check_suffix(out, (".parquet", ".csv", ".jsonl")) if out else None
    opened = Run.open(run)
    users = opened.interactions.users.ids.to_list() if everyone else user or None
    histories = [[item.strip() for item in line.split(",")] for line in history] if history else None
    frame = opened.recommend(users, histories, n=n, repeats=repeats)
    if out is not None and suffix is not None:
        with whole_file(out) as part:
            write_log(frame, part, suffix)
        print_json({"file": str(out), "rows": len(frame)}) if as_json else print_line(str(out))
    elif as_json:
        print_json(_by_label(frame))
    else:
        print_table(frame.columns, frame.rows())


def _by_label(frame: pl.DataFrame) -> list[dict[str, object]]:
    """One object a user or history, its items best first."""
    label = frame.columns[0]
    return [
        {label: key[0], "items": part.select("item", "score").to_dicts()}
        for key, part in frame.group_by(label, maintain_order=True)
    ]


def report_verb(run: o.RunArgument, as_json: o.Json = False) -> None:
    """Write the report of RUN again, from the run directory alone."""
    path = write_report(Run.open(run).folder)
    print_json({"run": str(run), "report": str(path)}) if as_json else print_line(str(path))
