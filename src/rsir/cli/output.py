"""What the verbs print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 140
"""Columns where the output is no terminal, so that pipes get whole lines."""


class Stopped(Exception):
    """The user stopped the command; the message says how to go on."""


def complain(message: str) -> None:
    """One line on standard error."""
    print(" ".join(message.split()), file=sys.stderr)


def print_json(values: object) -> None:
    """One JSON document on standard output; figures that are not finite become null."""
    print(json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False))


def print_line(text: str = "") -> None:
    """A line for people."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A table for people; figures stand to the right."""
    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        numbers = all(isinstance(row[place], int | float | None) for row in rows)
        table.add_column(head, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(_figure(value)) for value in row))
    _console().print(table)


def print_facts(facts: Mapping[str, Any], indent: int = 0) -> None:
    """Nested facts, a line each."""
    for name, value in facts.items():
        head = " " * indent + name.replace("_", " ")
        if isinstance(value, Mapping):
            print_line(head)
            print_facts(value, indent + 2)
        elif isinstance(value, list | tuple):
            print_line(f"{head}: {'; '.join(map(shown, value)) or 'none'}")
        elif name.endswith("_bytes") and isinstance(value, int):
            print_line(f"{head.removesuffix(' bytes')}: {value / 2**30:.2f} GiB")
        else:
            print_line(f"{head}: {shown(value)}")


def shown(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 10 else f"{value:.4g}"
    return str(value)


def _figure(value: object) -> str:
    """A value in a table: four decimals where they matter."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return shown(value)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _plain(values: object) -> object:
    if isinstance(values, Mapping):
        return {str(key): _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
