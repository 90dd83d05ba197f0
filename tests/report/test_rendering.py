"""Blocks as HTML, Markdown and SVG; numbers as text."""

import re

import pytest

from rsir.report import numbers
from rsir.report.blocks import (
    Answer,
    BarPanel,
    Code,
    Document,
    Figure,
    IntervalPanel,
    LinePanel,
    Panel,
    Section,
    Series,
    Table,
    Text,
)
from rsir.report.html import to_html
from rsir.report.markdown import to_markdown
from rsir.report.plots import COLOURS, draw

TABLE = Table(("a", "b"), (("x|y", "<1>"), ("", "2")), strong=frozenset({0, 1}))
LINES = LinePanel("Lines", "x", (Series("rounds", (0.0, 1.0), (0.1, 0.2)),), level=0.15, ring=(1.0, 0.2))
PANELS: list[Panel] = [
    LINES,
    LinePanel(
        "Steps", "x", (Series("base", (1.0,), (0.5,), "area"), Series("synthetic", (1.0,), (1.0,), "steps"))
    ),
    BarPanel("Bars", "share", ("one", "two"), (("sky", (0.2, 1.0)), ("amber", (0.8, 0.0)))),
    IntervalPanel("Points", "difference", ("one",), (0.1,), (0.05,), (0.2,)),
]


def document(*blocks: object) -> Document:
    answer = Answer("none", "a < b", (), ("one & two",))
    return Document("t", "s", answer, (Section("S", tuple(blocks)),))  # type: ignore[arg-type]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_panels_follow_the_style_sheet(panel: Panel) -> None:
    svg = draw(panel, "name")
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert "xmlns" not in svg
    assert "var(--ink)" in svg
    assert not [colour for colour in COLOURS.values() if colour in svg]
    assert all(name.startswith("name-") for name in re.findall(r'\bid="([^"]*)"', svg))
    assert f">{panel.title}</text>" in svg, "text stays text"


def test_series_have_the_colour_of_their_meaning() -> None:
    svg = draw(LINES, "name")
    assert "var(--rounds)" in svg
    assert "var(--control)" not in svg


def test_panels_of_a_page_share_no_id() -> None:
    page = to_html(document(Figure((LINES, LINES), TABLE), Figure((LINES,), TABLE)))
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_html_is_escaped() -> None:
    page = to_html(document(TABLE, Text("<i>"), Code("a && b")))
    assert "a &lt; b" in page
    assert "&lt;1&gt;" in page
    assert "<i>" not in page
    assert "a &amp;&amp; b" in page


def test_markdown_table() -> None:
    text = to_markdown(document(TABLE))
    assert "| a | b |\n| --- | ---: |\n| **x\\|y** | **&lt;1&gt;** |\n|  | **2** |" in text
    assert "> one &amp; two" in text


def test_a_figure_is_a_table_in_markdown() -> None:
    text = to_markdown(document(Figure((LINES,), TABLE, note="a note")))
    assert "**Lines**\n\n| a | b |" in text
    assert "*a note*" in text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_missing_is_a_dash(value: float | None) -> None:
    shown = [numbers.figure, numbers.signed, numbers.gain, numbers.share, numbers.plain, numbers.duration]
    assert {show(value) for show in shown} == {"–"}
