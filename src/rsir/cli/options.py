"""Flags that several verbs share, and what they mean for the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from rsir.config import Config, describe_config, load_config
from rsir.errors import ConfigError

LogArgument = Annotated[
    Path | None,
    typer.Argument(metavar="LOG", help="log of events; without one, users are simulated", show_default=False),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory", show_default=False)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings: a TOML, JSON or YAML file", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="one setting, as in generation.max_rank=10; repeatable", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seed = Annotated[int | None, typer.Option(help="fixes everything random", show_default=False)]
Round = Annotated[
    int | None, typer.Option("--round", help="whose model; default: the chosen round", show_default=False)
]
UserColumn = Annotated[str | None, typer.Option(help="column of user ids", show_default=False)]
ItemColumn = Annotated[str | None, typer.Option(help="column of item ids", show_default=False)]
TimeColumn = Annotated[str | None, typer.Option(help="column of times", show_default=False)]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="parquet, csv, tsv, inter, jsonl or lines", show_default=False),
]
NoHeader = Annotated[bool, typer.Option("--no-header", help="csv, tsv: the first line is an event")]
Separator = Annotated[str | None, typer.Option(help="csv, tsv: between columns", show_default=False)]
FileOrder = Annotated[bool, typer.Option("--file-order", help="take the order of the file, not the times")]
MinUserEvents = Annotated[int | None, typer.Option(help="k-core: least events a user", show_default=False)]
MinItemEvents = Annotated[int | None, typer.Option(help="k-core: least events an item", show_default=False)]
SplitKind = Annotated[
    str | None, typer.Option("--split", help="leave_one_out or global_time", show_default=False)
]


def overrides(flags: Mapping[str, object], given: list[str] | None = None) -> list[str]:
    """Flags as overrides of settings, then those of --set; flags that were not given are left out.

    >>> overrides({"seed": 7, "data.user_column": None}, ["model.dim=64"])
    ['seed=7', 'model.dim=64']
    """
    told = [
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in flags.items()
        if value is not None
    ]
    return told + (given or [])


def default_folder(parent: str, log: Path | None) -> Path:
    """Where results go if --out is not given.

    >>> default_folder("runs", Path("logs/events.csv.gz")).as_posix(), default_folder("runs", None).as_posix()
    ('runs/events', 'runs/quickstart')
    """
    return Path(parent) / (log.name.split(".")[0] if log else "quickstart")


def changed(
    stored: Config, file: Path | None, given: list[str]
) -> tuple[Config, list[tuple[str, object, object]]]:
    """Stored settings with a file and overrides on top, and which of them differ: (name, stored, given)."""
    config = load_config(file, given, base=stored.model_dump(mode="json"))
    before, now = ({name: value for name, value, *_ in describe_config(c)} for c in (stored, config))
    names = dict.fromkeys([*before, *now])  # another backbone has other settings
    pairs = ((name, before.get(name), now.get(name)) for name in names)
    return config, [(name, old, new) for name, old, new in pairs if old != new]


def changed_only(stored: Config, given: list[str], sections: tuple[str, ...]) -> Config:
    """Stored settings with overrides of some sections on top.

    Raises:
        ConfigError: if a setting of another section was given.
    """
    config, differences = changed(stored, None, given)
    for name, old, _ in differences:
        if name.split(".")[0] not in sections:
            raise ConfigError(
                f"{name} is {old!r} in the run and means nothing here: set {', '.join(sections)}"
            )
    return config


def reading(
    user_column: str | None,
    item_column: str | None,
    time_column: str | None,
    format_name: str | None,
    no_header: bool,
    separator: str | None,
) -> dict[str, object]:
    """Flags on the form of a log, as settings."""
    return {
        "data.user_column": user_column,
        "data.item_column": item_column,
        "data.time_column": time_column,
        "data.format": format_name,
        "data.has_header": False if no_header else None,
        "data.separator": separator,
    }


def cleaning(file_order: bool, min_user_events: int | None, min_item_events: int | None) -> dict[str, object]:
    """Flags on what is kept of a log, as settings."""
    return {
        "data.file_order": True if file_order else None,
        "data.min_user_events": min_user_events,
        "data.min_item_events": min_item_events,
    }
