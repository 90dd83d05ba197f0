"""The HTML file: the same blocks, figures drawn, nothing loaded from elsewhere, no script."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from itertools import count as numbers

from rsir.report.blocks import (
    Answer,
    Block,
    Code,
    Document,
    Example,
    Examples,
    Figure,
    Listing,
    Section,
    Step,
    Table,
    Text,
)
from rsir.report.plots import draw


def to_html(document: Document) -> str:
    """The whole report as one self-contained page."""
    style = files("rsir.report").joinpath("style.css").read_text(encoding="utf-8")
    body = "\n".join(_section(section) for section in document.sections)
    contents = " ".join(
        f'<a href="#{_anchor(section.title)}">{escape(section.title)}</a>' for section in document.sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(document.title)} – rsir report</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{escape(document.title)}</h1>
<p class="quiet">{escape(document.subtitle)}</p>
</header>
{_answer(document.answer)}
<nav>{contents}</nav>
{body}
</main>
</body>
</html>
"""


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower())


def _answer(answer: Answer) -> str:
    figures = "".join(
        f'<div><span class="name">{escape(f.name)}</span><span class="value">{escape(f.value)}</span>'
        f'<span class="detail">{escape(f.detail)}</span></div>'
        for f in answer.figures
    )
    lines = "\n".join(f"<p>{escape(line)}</p>" for line in answer.lines)
    return (
        f'<section class="answer {answer.kind}">\n<h2>{escape(answer.title)}</h2>\n'
        f'<div class="headlines">{figures}</div>\n{lines}\n</section>'
    )


def _section(section: Section) -> str:
    anchor = _anchor(section.title)
    blocks = "\n".join(_block(block, f"{anchor}-{place}") for place, block in enumerate(section.blocks))
    return f'<section id="{anchor}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block, name: str) -> str:
    match block:
        case Text():
            return (
                f'<p class="quiet">{escape(block.text)}</p>'
                if block.quiet
                else f"<p>{escape(block.text)}</p>"
            )
        case Code():
            return f"<pre><code>{escape(block.text)}</code></pre>"
        case Listing():
            return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in block.lines) + "</ul>"
        case Table():
            return _table(block)
        case Figure():
            return _figure(block, name)
        case Examples():
            return _examples(block)


def _table(table: Table) -> str:
    """A table that scrolls within itself where the page is narrower."""
    kinds = ['class="wide"' if place in table.wide else "" for place in range(len(table.columns))]
    head = "".join(f"<th {kind}>{escape(text)}</th>" for kind, text in zip(kinds, table.columns, strict=True))
    rows = "\n".join(
        f"<tr{' class=strong' if number in table.strong else ''}>"
        + "".join(f"<td {kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    page = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return f'<div class="scroll">{page}</div>'.replace("<th >", "<th>").replace("<td >", "<td>")


def _figure(figure: Figure, name: str) -> str:
    legend = "".join(
        f'<span><i style="background:var(--{colour});opacity:{opacity:.2f}"></i>{escape(text)}</span>'
        for text, colour, opacity in figure.legend
    )
    places = numbers(1)
    panels = "\n".join(f'<div class="panel">{draw(p, f"{name}-{next(places)}")}</div>' for p in figure.panels)
    table = _table(figure.table)
    if figure.folded:
        table = f"<details><summary>The figures</summary>{table}</details>"
    note = f'<figcaption class="quiet">{escape(figure.note)}</figcaption>' if figure.note else ""
    key = f'<div class="legend">{legend}</div>' if legend else ""
    return f'<figure>\n{key}\n<div class="panels">{panels}</div>\n{note}\n</figure>\n{table}'


def _examples(examples: Examples) -> str:
    leaked = any(step.leaked for example in examples.examples for step in example.steps)
    key = '<span class="item own">item of the source</span>'
    key += '<span class="item">explored item<sup>rank</sup></span>'
    if leaked:
        key += '<span class="item leaked">off the true preferences</span>'
    body = "\n".join(_example(example) for example in examples.examples)
    return f'<div class="legend">{key}</div>\n{body}'


def _example(example: Example) -> str:
    source = "".join(f'<span class="item own">{escape(item)}</span>' for item in example.source)
    steps = "".join(_step(step) for step in example.steps)
    return (
        f'<div class="example"><p><b>{escape(example.user)}</b> · round {example.round_index} · '
        f"{escape(example.how)}</p>\n"
        + _chips("source", source + _more(example.source_cut))
        + _chips("synthetic", steps + _more(example.steps_cut))
        + "</div>"
    )


def _chips(name: str, items: str) -> str:
    return f'<div class="chips"><span class="name">{name}</span><div>{items}</div></div>\n'


def _more(cut: int) -> str:
    return f'<span class="name">… {cut} more</span>' if cut else ""


def _step(step: Step) -> str:
    kinds = "item" + (" own" if step.own else "") + (" leaked" if step.leaked else "")
    rank = f"<sup>{step.rank}</sup>" if step.rank else ""
    return f'<span class="{kinds}">{escape(step.item)}{rank}</span>'
