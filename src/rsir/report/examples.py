"""Some synthetic sequences beside their source, the same ones every time."""

from __future__ import annotations

from typing import Any

import polars as pl
import torch
from torch import Tensor

from rsir.data.truth import Truth
from rsir.report.blocks import Example, Examples, Section, Step, Text
from rsir.report.view import View

SHOWN_EXAMPLES, SHOWN_ITEMS = 6, 16


def examples_section(view: View) -> Section | None:
    """Some synthetic sequences beside their source, chosen to differ: the same ones every time."""
    last = view.shown or max(view.generations, default=0)
    if last not in view.synthetic or not len(view.synthetic[last]):
        return None
    rows = _varied(view.synthetic[last]).to_dicts()
    examples = Examples(tuple(_example(view, row) for row in rows))
    text = (
        f"Admitted sequences of round {last}, picked to differ in stop reason and exploration. The number "
        "beside an item is the best rank of a remaining own item at the check that let it in."
    )
    return Section("Synthetic sequences beside their source", (Text(text), examples))


def _varied(frame: pl.DataFrame) -> pl.DataFrame:
    """A few rows, one a user, spread over ways of making, stop reasons and shares of explored items."""
    explored = frame["own"].list.eval(~pl.element()).list.sum()
    one_each = frame.with_columns(explored=explored, length=frame["items"].list.len()).unique(
        "user", keep="first", maintain_order=True
    )
    kind = ["earlier", "stop_reason"]
    ordered = one_each.sort(*kind, "explored", "length", maintain_order=True)
    groups = ordered.partition_by(kind, maintain_order=True)
    picked, left = [], SHOWN_EXAMPLES
    for place, group in enumerate(sorted(groups, key=len)):
        wanted = min(len(group), -(-left // (len(groups) - place)))
        spots = torch.linspace(0, len(group) - 1, wanted).round().long()
        picked.append(group[spots.tolist()])
        left -= wanted
    return pl.concat(picked)


def _example(view: View, row: dict[str, Any]) -> Example:
    source = _source_items(view, row["round"], row["source"])
    leaked = _leaked(view.truth, row) if view.truth is not None else [False] * len(row["items"])
    along = zip(row["items"], row["rank"], leaked, strict=True)
    steps = [Step(str(item), int(rank), str(item) in source, leak) for item, rank, leak in along]
    return Example(
        user=str(row["user"]),
        round_index=row["round"],
        how=_how(row),
        source=tuple(source[:SHOWN_ITEMS]),
        source_cut=max(0, len(source) - SHOWN_ITEMS),
        steps=tuple(steps[:SHOWN_ITEMS]),
        steps_cut=max(0, len(steps) - SHOWN_ITEMS),
    )


def _how(row: dict[str, Any]) -> str:
    """How a sequence was made, and why it ended."""
    if ahead := row["earlier"]:
        return f"{ahead} earlier item{'s' * (ahead > 1)}, then the source"
    return f"ended: {row['stop_reason'].replace('_', ' ')}"


def _source_items(view: View, round_index: int, source: int) -> list[str]:
    """The sequence a rollout was generated from: observed rows first, then the rounds before."""
    train = view.split.train
    if source < len(train):
        low, high = train.events.offsets[source : source + 2].tolist()
        return [str(item) for item in view.interactions.items.ids_of(train.events.values[low:high]).to_list()]
    earlier = pl.concat([view.synthetic[k] for k in range(1, round_index)])
    return [str(item) for item in earlier["items"][source - len(train)].to_list()]


def _leaked(truth: Truth, row: dict[str, Any]) -> list[bool]:
    user: Tensor = truth.user_indices([str(row["user"])] * len(row["items"]))
    return [bool(x) for x in truth.leakage(user, truth.item_indices(row["items"])).tolist()]
