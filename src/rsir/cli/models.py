"""`rsir models`: the backbones, what each costs, when to choose it."""

from __future__ import annotations

from typing import Annotated

import typer

from rsir.cli import options as o
from rsir.cli.output import print_json, print_line, print_table
from rsir.models import MODELS, backbone_facts


def models_verb(
    items: Annotated[int, typer.Option(min=1, help="catalogue that parameters are counted for")] = 10_000,
    as_json: o.Json = False,
) -> None:
    """The backbones that `rsir run --model NAME` takes."""
    rows = [backbone_facts(name, items) for name in MODELS]
    if as_json:
        print_json(rows)
        return
    heads = ["name", "paper", "parameters", "incremental", "causal", "cost", "choose it for"]
    keys = ["name", "paper", "parameters", "incremental", "causal", "cost", "choose"]
    print_table(heads, ([row[key] for key in keys] for row in rows))
    print_line(f"parameters: of the default settings, for a catalogue of {items:,} items")
