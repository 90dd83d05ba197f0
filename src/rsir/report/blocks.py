"""What a report is made of, apart from how it looks. Every string is plain text; renderers escape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = Literal["rounds", "control", "base", "synthetic", "amber", "purple", "sky", "pale"]
"""Colours by meaning; the same in every figure. The style sheet says what they are."""


@dataclass(frozen=True)
class Text:
    """A paragraph; a quiet one is a remark."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to type."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Short remarks, one a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells as text. `wide` columns are text, aligned left; the others are figures, aligned right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: frozenset[int] = frozenset({0})
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Series:
    """One line of a panel."""

    colour: Colour
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["points", "line", "area", "steps"] = "points"
    opacity: float = 1.0


@dataclass(frozen=True)
class LinePanel:
    """Lines over x; `level` is a horizontal line in the base's colour, `ring` marks a point."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    level: float | None = None
    ring: tuple[float, float] | None = None
    whole_x: bool = False
    percent: bool = False
    from_zero: bool = False


@dataclass(frozen=True)
class BarPanel:
    """Stacked horizontal bars of shares, one a label."""

    title: str
    x_label: str
    labels: tuple[str, ...]
    parts: tuple[tuple[Colour, tuple[float, ...]], ...]


@dataclass(frozen=True)
class IntervalPanel:
    """A point with its interval for each label, beside a line at zero."""

    title: str
    x_label: str
    labels: tuple[str, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


Panel = LinePanel | BarPanel | IntervalPanel


@dataclass(frozen=True)
class Figure:
    """Panels side by side under one legend, and the same figures as a table."""

    panels: tuple[Panel, ...]
    table: Table
    legend: tuple[tuple[str, Colour, float], ...] = ()
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Step:
    """One item of a rollout: rank at its check (0: start or no check), whether it is in the source."""

    item: str
    rank: int
    own: bool
    leaked: bool = False


@dataclass(frozen=True)
class Example:
    """A synthetic sequence beside its source; `cut` items of either are not shown."""

    user: str
    round_index: int
    how: str
    source: tuple[str, ...]
    source_cut: int
    steps: tuple[Step, ...]
    steps_cut: int


@dataclass(frozen=True)
class Examples:
    """Some rollouts."""

    examples: tuple[Example, ...]


Block = Text | Code | Listing | Table | Figure | Examples


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Headline:
    """One figure of the answer: a name, the figure large, its interval or source small."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class Answer:
    """Did it help?"""

    kind: Literal["helped", "unclear", "hurt", "none"]
    title: str
    figures: tuple[Headline, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    answer: Answer
    sections: tuple[Section, ...]
