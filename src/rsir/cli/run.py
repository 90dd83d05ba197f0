"""`rsir run`: from a log to a self-improved recommender."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rsir.cli import options as o
from rsir.cli.output import Stopped, print_json, print_line, print_table
from rsir.cli.progress import watching
from rsir.config import load_config
from rsir.data.read import read_log
from rsir.errors import ConfigError, StoreError
from rsir.launch import resume, run
from rsir.report import write_report
from rsir.report.verdict import answer
from rsir.report.view import View
from rsir.run import Run
from rsir.store import RunStore

Out = Annotated[
    Path | None, typer.Option(help="run directory; default runs/<name of the log>", show_default=False)
]
Controls = Annotated[
    str | None,
    typer.Option(
        help="arms beside: updates, plain, duplicates, unverified, augmented; with commas", show_default=False
    ),
]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(help="a run whose model generates and judges; repeatable", show_default=False),
]


def run_verb(
    log: o.LogArgument = None,
    out: Out = None,
    rounds: Annotated[int | None, typer.Option(help="K: rounds of self-improvement")] = None,
    model: Annotated[str | None, typer.Option(help="backbone", show_default=False)] = None,
    seed: o.Seed = None,
    resuming: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    device: o.Device = "auto",
    no_control: Annotated[bool, typer.Option("--no-control", help="train no control beside")] = False,
    controls: Controls = None,
    teacher: Teachers = None,
    user_column: o.UserColumn = None,
    item_column: o.ItemColumn = None,
    time_column: o.TimeColumn = None,
    format_name: o.FormatName = None,
    no_header: o.NoHeader = False,
    separator: o.Separator = None,
    file_order: o.FileOrder = False,
    min_user_events: o.MinUserEvents = None,
    min_item_events: o.MinItemEvents = None,
    split: o.SplitKind = None,
    config: o.ConfigFile = None,
    set_: o.Set = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a recommender on LOG, let it teach itself, and report whether that helped.

    Without LOG, users are simulated whose preferences are known.
    """
    flags = {
        "recursion.rounds": rounds,
        "recursion.teachers": [str(folder.resolve()) for folder in teacher] if teacher else None,
        "recursion.control": _control_arms(no_control, controls),
        "model.name": model,
        "seed": seed,
        "split.kind": split,
        **o.reading(user_column, item_column, time_column, format_name, no_header, separator),
        **o.cleaning(file_order, min_user_events, min_item_events),
    }
    given = o.overrides(flags, set_)
    folder = out or o.default_folder("runs", log)
    with _told_how_to_go_on(folder), watching(quiet) as watch:
        if resuming:
            refuse_changes(folder, log, config, given)
            done = resume(folder, device=device, watch=watch)
        else:
            done = run(log, folder, config=load_config(config, given), device=device, watch=watch)
    report = write_report(folder)
    print_json(done.summary()) if as_json else print_summary(done, report)


@contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    """Who stops a run is told how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        made = (folder / "data.json").is_file()
        raise Stopped(
            f"stopped; go on with: rsir run --resume --out {folder}" if made else "stopped; nothing was made"
        ) from None


def _control_arms(none: bool, named: str | None) -> bool | str | None:
    """What --no-control and --controls say; None if neither was given.

    Raises:
        ConfigError: if both were.
    """
    if none and named is not None:
        raise ConfigError("--no-control and --controls exclude each other: leave one out")
    return False if none else named


def refuse_changes(folder: Path, log: Path | None, file: Path | None, given: list[str]) -> None:
    """Fail if a run cannot go on since other settings, or another log, are given than it has.

    Raises:
        ConfigError: names the first setting that differs.
        StoreError: if there is no run, or the log is another one.
    """
    store = RunStore.open(folder)
    config, differences = o.changed(store.config, file, given)
    if differences:
        name, old, new = differences[0]
        raise ConfigError(
            f"--resume goes on with the settings of the run, where {name} = {old!r}; given was {new!r}: "
            "leave it out, or choose another --out"
        )
    if log is not None and read_log(log, config.data).fingerprint != store.data_facts["fingerprint"]:
        raise StoreError(f"{folder} is a run of another log than {log}: choose another --out")


def print_summary(done: Run, report: Path) -> None:
    """The outcome in a table and a sentence."""
    summary = done.summary()
    cutoff = done.config.monitor.split("@")[1]
    names = [f"ndcg@{cutoff}", f"recall@{cutoff}"]
    if int(cutoff) not in done.config.evaluation.cutoffs:
        names = [done.config.monitor]
    heads = ["", "sequences", "admitted"]
    heads += [f"{part}\n{name}" for part in ("valid", "test") for name in names]
    print_table([*heads, "seconds"], _rows(summary, names))
    print_line()
    found = answer(View.load(done.store))
    print_line(found.title)
    for figure in found.figures:
        print_line(f"  {figure.name} {figure.value} ({figure.detail})")
    if summary["advice"]:
        print_line(f"{summary['stop_reason']}: {summary['advice']}")
    print_line(f"run: {done.folder}")
    print_line(f"report: {report}")


def _rows(summary: dict[str, Any], names: list[str]) -> Iterator[list[object]]:
    arms = {
        "round": summary["rounds"],
        "further base": summary["bases"],
        "reversed": summary["reversed"],
        "control": summary["control"],
    }
    arms |= summary["controls"]
    for arm, found in arms.items():
        for row in found:
            k = row["round"]
            label = "base" if k == 0 else f"{arm} {k}"
            chosen = " *" if arm == "round" and k == summary["chosen_round"] else ""
            test = row["test"] or {}
            figures = [*(row["valid"].get(name) for name in names), *(test.get(name) for name in names)]
            yield [label + chosen, row["sequences"], row["admitted"], *figures, row["seconds"]]
