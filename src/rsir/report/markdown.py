"""The Markdown twin: the same blocks, figures as tables."""

from __future__ import annotations

import re

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


def to_markdown(document: Document) -> str:
    """The whole report as Markdown."""
    parts = [f"# {escape(document.title)}", escape(document.subtitle), _answer(document.answer)]
    parts += [_section(section) for section in document.sections]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Plain text that Markdown leaves alone, on one line, in table cells too.

    >>> print(escape("<b> a|b *c*"))
    &lt;b&gt; a\|b \*c\*
    """
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(re.sub(r"([\\`*_\[\]|~#])", r"\\\1", safe).split())


def _answer(answer: Answer) -> str:
    """A quotation, the answer in bold."""
    lines = [f"**{escape(answer.title)}**"]
    lines += [
        f"{escape(figure.name)}: **{escape(figure.value)}** ({escape(figure.detail)})"
        for figure in answer.figures
    ]
    lines += [escape(line) for line in answer.lines]
    return "\n>\n".join(f"> {line}" for line in lines)


def _section(section: Section) -> str:
    return "\n\n".join([f"## {escape(section.title)}", *(_block(block) for block in section.blocks)])


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"*{escape(block.text)}*" if block.quiet else escape(block.text)
        case Code():
            return f"```\n{block.text}\n```"
        case Listing():
            return "\n".join(f"- {escape(line)}" for line in block.lines)
        case Table():
            return _table(block)
        case Figure():
            titles = ", ".join(panel.title for panel in block.panels)
            return "\n\n".join([f"**{escape(titles)}**", _table(block.table), *_note(block)])
        case Examples():
            return _examples(block)


def _note(figure: Figure) -> list[str]:
    return [f"*{escape(figure.note)}*"] if figure.note else []


def _table(table: Table) -> str:
    rule = ["---" if place in table.wide else "---:" for place in range(len(table.columns))]
    rows = [
        [f"**{escape(cell)}**" if number in table.strong and cell else escape(cell) for cell in row]
        for number, row in enumerate(table.rows)
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(map(escape, table.columns)), rule, *rows])


def _examples(examples: Examples) -> str:
    legend = "Items in bold are in the source, the others explored; the rank at acceptance in brackets."
    columns = ("user", "source", "synthetic", "how")
    rows = [" | ".join(_example(example)) for example in examples.examples]
    head = [" | ".join(columns), " | ".join(["---"] * len(columns))]
    return legend + "\n\n" + "\n".join(f"| {row} |" for row in [*head, *rows])


def _example(example: Example) -> tuple[str, ...]:
    source = " → ".join([*map(escape, example.source), *_more(example.source_cut)])
    steps = " → ".join([*map(_step, example.steps), *_more(example.steps_cut)])
    return escape(example.user), source, steps, escape(example.how)


def _more(cut: int) -> list[str]:
    return [f"… {cut} more"] if cut else []


def _step(step: Step) -> str:
    item = f"**{escape(step.item)}**" if step.own else escape(step.item)
    rank = f" ({step.rank})" if step.rank else ""
    return item + rank + (" off" if step.leaked else "")
