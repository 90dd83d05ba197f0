"""`rsir tune`: a budgeted search for settings on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rsir.cli import options as o
from rsir.cli.output import Stopped, print_json, print_line, print_table
from rsir.cli.progress import watching
from rsir.config import load_config
from rsir.errors import ConfigError
from rsir.tune import Tuning, tune
from rsir.tune.page import write_page
from rsir.tune.space import search_space

_PHASES: dict[str, Any] = {"base": ("base",), "recursion": ("recursion",), "both": ("base", "recursion")}

Out = Annotated[
    Path | None,
    typer.Option(help="folder of the search; default tunings/<name of the log>", show_default=False),
]
What = Annotated[str, typer.Option("--for", help="base, recursion or both; each gets the whole budget")]
Space = Annotated[Path | None, typer.Option(help="TOML file of what to search", show_default=False)]
Search = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=low..high", help="one setting to search, or KEY=low..high:log, KEY=a,b,c; repeatable"
    ),
]


def tune_verb(
    log: o.LogArgument = None,
    out: Out = None,
    what: What = "both",
    trials: Annotated[int, typer.Option(help="trials of each at most")] = 20,
    timeout: Annotated[float | None, typer.Option(help="seconds of each at most", show_default=False)] = None,
    space: Space = None,
    search: Search = None,
    model: Annotated[str | None, typer.Option(help="backbone", show_default=False)] = None,
    seed: o.Seed = None,
    device: o.Device = "auto",
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
    """Search for the settings that are best on validation; run the same words again to go on after a stop.

    The test split is not read. Without LOG, users are simulated.
    """
    if what not in _PHASES:
        raise ConfigError(f"--for {what!r}: choose base, recursion or both")
    reading = o.reading(user_column, item_column, time_column, format_name, no_header, separator)
    cleaning = o.cleaning(file_order, min_user_events, min_item_events)
    flags = {"model.name": model, "seed": seed, "split.kind": split, **reading, **cleaning}
    settings = load_config(config, o.overrides(flags, set_))
    tuning = Tuning(_PHASES[what], search_space(space, search or []), trials, timeout)
    folder = out or o.default_folder("tunings", log)
    try:
        with watching(quiet) as watch:
            result = tune(log, folder, tuning, config=settings, device=device, watch=watch)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; run the same words again to go on in {folder}") from None
    report = write_page(folder)
    print_json({**result, "report": str(report)}) if as_json else _print(result, report)


def _print(result: dict[str, Any], report: Path) -> None:
    """The best of each phase beside the first trial."""
    rows = []
    for phase in ("base", "recursion"):
        found = result[phase]
        if found is not None and found["best"] is not None:
            best, first = found["best"], found["first"]
            rows += [[phase, key, first["params"][key], value] for key, value in best["params"].items()]
            rows.append([phase, result["monitor"], first["value"], best["value"]])
    print_table(["", "setting", "first trial", "best trial"], rows)
    print_line(f"config: {result['config']}")
    print_line(f"report: {report}")
