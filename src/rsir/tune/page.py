"""The page of a search, from its folder alone: the best settings, the trials, what mattered."""

from __future__ import annotations

import json
import shlex
from itertools import accumulate
from pathlib import Path
from typing import Any

from rsir.files import read_json, write_text
from rsir.report.blocks import (
    Answer,
    BarPanel,
    Block,
    Code,
    Document,
    Figure,
    Headline,
    LinePanel,
    Section,
    Series,
    Table,
    Text,
)
from rsir.report.html import to_html
from rsir.report.markdown import to_markdown

TITLES = {"base": "The base", "recursion": "Self-improvement"}


def write_page(folder: str | Path) -> Path:
    """Write `report.html` and `report.md` into the folder of a search; the path of the HTML file.

    Raises:
        StoreError: if the search has no result, or the folder cannot be written.
    """
    folder = Path(folder)
    result = read_json(folder / "result.json")
    lines = (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    document = compose(result, [json.loads(line) for line in lines])
    write_text(folder / "report.md", to_markdown(document))
    write_text(folder / "report.html", to_html(document))
    return folder / "report.html"


def compose(result: dict[str, Any], records: list[dict[str, Any]]) -> Document:
    """Everything the page says, the answer first."""
    phases = [phase for phase in TITLES if result[phase] is not None]
    sections = [_section(phase, result, [r for r in records if r["phase"] == phase]) for phase in phases]
    use = Section("How to use it", (Code(shlex.join(["rsir", "run", "LOG", "--config", result["config"]])),))
    counts = [sum(result[phase]["trials"].values()) for phase in phases]
    return Document(
        title=Path(result["out"]).name,
        subtitle=f"Search on validation {result['monitor']}: {' and '.join(map(str, counts))} trials",
        answer=Answer(
            "none", "The best settings found", tuple(map(_headline, phases, map(result.get, phases))), NOTES
        ),
        sections=(*sections, use),
    )


NOTES = (
    "The test split was not read. The best of many trials looks better on validation than it is: compare the "
    "best settings with the ones before on the test split, over several seeds (rsir compare).",
)


def _headline(phase: str, found: Any) -> Headline:
    """The best figure, and what the settings as they were gave."""
    if found["best"] is None:
        return Headline(TITLES[phase], "–", "no trial was completed")
    first = found["first"]["value"]
    before = "–" if first is None else f"{first:.4f}"
    start = "" if found["start"] is None else f", the base it starts from {found['start']:.4f}"
    return Headline(TITLES[phase], f"{found['best']['value']:.4f}", f"first trial {before}{start}")


def _section(phase: str, result: dict[str, Any], records: list[dict[str, Any]]) -> Section:
    found = result[phase]
    blocks: list[Block] = [_history(result["monitor"], records)]
    if found["importance"]:
        blocks.append(_importance(found["importance"]))
    else:
        blocks.append(Text("Too few completed trials to say which settings matter.", quiet=True))
    states = ", ".join(f"{count} {state}" for state, count in found["trials"].items())
    blocks.append(Text(f"Trials: {states}; {found['seconds']:,.0f} seconds.", quiet=True))
    return Section(TITLES[phase], tuple(blocks))


def _history(monitor: str, records: list[dict[str, Any]]) -> Figure:
    """Completed trials and the best so far."""
    done = [(float(r["number"]), float(r["value"])) for r in records if r["state"] == "completed"]
    x, y = tuple(number for number, _ in done), tuple(value for _, value in done)
    top = tuple(accumulate(y, max))
    series = (Series("pale", x, y), Series("rounds", x, top, style="steps"))
    keys = list(records[0]["params"]) if records else []
    rows = tuple(
        (
            str(r["number"]),
            r["state"],
            "–" if r["value"] is None else f"{r['value']:.4f}",
            *(_cell(r["params"][k]) for k in keys),
        )
        for r in records
    )
    best = {
        number for number, r in enumerate(records) if y and r["state"] == "completed" and r["value"] == max(y)
    }
    table = Table(("trial", "state", monitor, *keys), rows, frozenset({1}), frozenset(best))
    panel = LinePanel(f"Validation {monitor}", "trial", series, whole_x=True)
    legend = (("a trial", "pale", 1.0), ("the best so far", "rounds", 1.0))
    return Figure((panel,), table, legend, folded=True)  # type: ignore[arg-type]


def _importance(shares: dict[str, float]) -> Figure:
    """What distinguishes the best trials."""
    names = tuple(sorted(shares, key=lambda key: -shares[key]))
    parts = (("rounds", tuple(shares[name] for name in names)),)
    panel = BarPanel("Importance", "share", names, parts)  # type: ignore[arg-type]
    table = Table(("setting", "share"), tuple((name, f"{shares[name]:.3f}") for name in names))
    note = (
        "PED-ANOVA: how far the distribution of each setting among the better trials is from that among all."
    )
    return Figure((panel,), table, note=note, folded=True)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
