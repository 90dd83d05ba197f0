"""`rsir data`: look at a log, simulate one, fetch a public one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsir.cli import options as o
from rsir.cli.output import print_facts, print_json, print_line, print_table
from rsir.cli.progress import watching
from rsir.config import load_config
from rsir.data.describe import describe
from rsir.data.fetch import fetch, list_datasets
from rsir.data.public import find_dataset
from rsir.data.read import read_log
from rsir.data.simulate import simulate
from rsir.data.splits import split as cut_log
from rsir.data.write import check_suffix, write_log
from rsir.files import whole_file

app = typer.Typer(help="Look at a log, simulate one, fetch a public one.", no_args_is_help=True)


@app.command("describe")
def describe_verb(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="log of events", show_default=False)],
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
) -> None:
    """Users, items, lengths, popularity, repeats, ties, and what the split and its evaluation hold."""
    flags = {
        "split.kind": split,
        **o.reading(user_column, item_column, time_column, format_name, no_header, separator),
        **o.cleaning(file_order, min_user_events, min_item_events),
    }
    settings = load_config(config, o.overrides(flags, set_))
    interactions = read_log(log, settings.data)
    facts = describe(interactions, cut_log(interactions, settings.split))
    print_json(facts) if as_json else print_facts(facts)


@app.command("simulate")
def simulate_verb(
    out: Annotated[Path, typer.Option(help="file to write: .parquet, .csv, .jsonl or .txt")],
    users: Annotated[int | None, typer.Option(help="number of users", show_default=False)] = None,
    items: Annotated[int | None, typer.Option(help="number of items", show_default=False)] = None,
    seed: o.Seed = None,
    config: o.ConfigFile = None,
    set_: o.Set = None,
    as_json: o.Json = False,
) -> None:
    """Write the log of simulated users."""
    suffix = check_suffix(out)
    flags = {"simulation.num_users": users, "simulation.num_items": items, "seed": seed}
    settings = load_config(config, o.overrides(flags, set_))
    frame = simulate(settings.simulation, settings.seed).frame
    with whole_file(out) as part:
        write_log(frame, part, suffix)
    facts = {
        "file": str(out),
        "users": frame["user_id"].n_unique(),
        "items": frame["item_id"].n_unique(),
        "events": len(frame),
        "seed": settings.seed,
    }
    print_json(facts) if as_json else print_facts(facts)


@app.command("fetch")
def fetch_verb(
    name: Annotated[str, typer.Argument(metavar="NAME", help="see rsir data list", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder for the files")] = Path("data"),
    mirror: Annotated[str | None, typer.Option(help="address of a folder with the archive")] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Download a public data set, verify it, and prepare it as Parquet."""
    dataset = find_dataset(name)
    with watching(quiet) as watch:
        watch.stage("fetch", dataset.name, 0)
        path = fetch(dataset, out, base_url=mirror, progress=watch.advance)
    print_json({"name": dataset.name, "file": str(path)}) if as_json else print_line(str(path))


@app.command("list")
def list_verb(as_json: o.Json = False) -> None:
    """The public data sets known by name."""
    known = list_datasets()
    if as_json:
        print_json([{"name": d.name, "url": d.url, "events": d.rows, "licence": d.licence} for d in known])
    else:
        print_table(["name", "events", "licence"], ([d.name, d.rows, d.licence] for d in known))
