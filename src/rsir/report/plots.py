"""Panels as inline SVG. Colours become CSS variables, so that a plot follows light and dark."""

from __future__ import annotations

import io
import re
from typing import Any

from rsir.report.blocks import BarPanel, IntervalPanel, LinePanel, Panel, Series

COLOURS: dict[str, str] = {
    "rounds": "#0072b2",
    "control": "#d55e00",
    "base": "#6e7781",
    "synthetic": "#009e73",
    "amber": "#e69f00",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
    "pale": "#c4cad1",
}
"""Okabe and Ito's palette, distinguishable with any colour vision, and two greys."""
INK, FAINT, GRID, PAPER = "#24292f", "#57606a", "#e1e4e8", "#fefefe"
VARIABLES = {**COLOURS, "ink": INK, "faint": FAINT, "grid": GRID, "paper": PAPER}
LARGEST = 1.25
"""A panel grows to this many times its size where there is room."""
MARKERS = {"rounds": "o", "control": "s", "synthetic": "o", "base": "D", "pale": "^"}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def draw(panel: Panel, name: str) -> str:
    """One panel as an `<svg>` element.

    Args:
        panel: what to draw.
        name: distinct for each panel of a page; the element's ids begin with it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=_size(panel), layout="constrained")
        axes = figure.subplots()
        axes.set_title(panel.title)
        axes.set_xlabel(panel.x_label)
        if isinstance(panel, LinePanel):
            _lines(axes, panel)
        elif isinstance(panel, BarPanel):
            _bars(axes, panel)
        else:
            _intervals(axes, panel)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    return _inline(raw.getvalue(), panel.title, name)


def _size(panel: Panel) -> tuple[float, float]:
    """Inches; rows of bars and intervals need height, not width."""
    if isinstance(panel, BarPanel):
        return 4.6, 0.95 + 0.3 * len(panel.labels)
    if isinstance(panel, IntervalPanel):
        return 4.2, 1.0 + 0.28 * len(panel.labels)
    return 3.1, 2.35


def _lines(axes: Any, panel: LinePanel) -> None:
    """Lines, the level of the base, the ring around a chosen point."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if panel.level is not None:
        axes.axhline(panel.level, color=COLOURS["base"], linestyle=(0, (4, 3)), linewidth=1.4)
    for series in panel.series:
        _series(axes, series)
    if panel.ring is not None:
        axes.plot(
            *panel.ring,
            "o",
            clip_on=False,
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.3,
        )
    if panel.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    if panel.percent:
        low, high = axes.get_ylim()
        decimals = 0 if high - low > 0.05 else 1
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals, symbol=" %"))
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.06)


def _series(axes: Any, series: Series) -> None:
    colour = COLOURS[series.colour]
    if series.style == "area":
        axes.fill_between(series.x, series.y, step="mid", color=colour, alpha=0.35, linewidth=0)
    elif series.style == "steps":
        axes.step(series.x, series.y, where="mid", color=colour, alpha=series.opacity)
    else:
        marker = MARKERS.get(series.colour, "o") if series.style == "points" or len(series.x) == 1 else None
        axes.plot(series.x, series.y, color=colour, marker=marker, alpha=series.opacity)


def _bars(axes: Any, panel: BarPanel) -> None:
    """Stacked horizontal bars, the first label on top."""
    from matplotlib.ticker import PercentFormatter

    places = range(len(panel.labels))
    left = [0.0] * len(panel.labels)
    for colour, widths in panel.parts:
        axes.barh(places, widths, left=left, color=COLOURS[colour], height=0.62, edgecolor=PAPER, linewidth=1)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(list(places), panel.labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0, symbol=" %"))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _intervals(axes: Any, panel: IntervalPanel) -> None:
    """A point and its interval for each label; coloured where the interval leaves zero."""
    from matplotlib.ticker import MaxNLocator

    axes.axvline(0, color=FAINT, linewidth=1)
    for place, (middle, low, high) in enumerate(zip(panel.middle, panel.low, panel.high, strict=True)):
        colour = COLOURS["rounds" if low > 0 else "control" if high < 0 else "base"]
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([middle], [place], "o", color=colour)
    axes.set_yticks(list(range(len(panel.labels))), panel.labels)
    axes.set_ylim(max(1, len(panel.labels)) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _inline(svg: str, title: str, name: str) -> str:
    """Matplotlib's file as an element of a page: no prolog or namespaces, own ids, colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(
        r'<svg width="([\d.]+)pt" height="[^"]*"',
        lambda size: (
            f'<svg role="img" aria-label="{title}" style="max-width:{LARGEST * float(size[1]):.0f}pt"'
        ),
        svg,
        count=1,
    )
    for variable, colour in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.strip()
