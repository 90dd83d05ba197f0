"""Numbers as a reader wants them: four decimals, relative gains in percent, thousands separated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NONE = "–"
GROWTH_COLUMNS = ("metric", "gain before", "gain", "growth", "interval")
"""Columns of tables of growth: a metric, then `growth_cells`."""


def figure(value: float | None) -> str:
    """A metric.

    >>> figure(0.32893), figure(None)
    ('0.3289', '–')
    """
    return NONE if _missing(value) else f"{value:.4f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference of metrics.

    >>> signed(0.00123), signed(-0.00123), signed(0.0)
    ('+0.0012', '−0.0012', '0.0000')
    """
    return NONE if _missing(value) else _sign(f"{value:+.4f}")


def gain(value: float | None) -> str:
    """A relative difference.

    >>> gain(0.0213), gain(-0.0004)
    ('+2.1 %', '0.0 %')
    """
    return NONE if value is None or _missing(value) else _sign(f"{100 * value:+.1f} %")


def growth_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The gain of the round before, of the round, and by how much it grew, with its interval.

    >>> growth_cells({"before": 0.01, "after": 0.03, "difference": 0.02, "low": -0.01, "high": 0.05})
    ('+1.0 %', '+3.0 %', '+2.0 %', '−1.0 % to +5.0 %')
    """
    low, high = gain(record["low"]), gain(record["high"])
    interval = NONE if NONE in (low, high) else f"{low} to {high}"
    return gain(record["before"]), gain(record["after"]), gain(record["difference"]), interval


def share(value: float | None, decimals: int = 1) -> str:
    """A share of a whole.

    >>> share(0.125)
    '12.5 %'
    """
    return NONE if value is None or _missing(value) else f"{100 * value:.{decimals}f} %"


def count(value: float | None) -> str:
    """How many.

    >>> count(1234567)
    '1,234,567'
    """
    return NONE if _missing(value) else f"{value:,.0f}".replace("-", "−")


def plain(value: float | None) -> str:
    """A quantity of three significant digits.

    >>> plain(5.969), plain(0.005969), plain(12345.6), plain(2e-6)
    ('5.97', '0.00597', '12,346', '2.00e-06')
    """
    if value is None or _missing(value):
        return NONE
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.2e}"


def duration(seconds: float | None) -> str:
    """A time span.

    >>> duration(0.42), duration(61.3), duration(7384)
    ('0.4 s', '1 min 1 s', '2 h 3 min')
    """
    if seconds is None or _missing(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def memory(size: float | None) -> str:
    """Bytes.

    >>> memory(534605824)
    '0.50 GiB'
    """
    return NONE if size is None or _missing(size) else f"{size / 2**30:.2f} GiB"


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _sign(text: str) -> str:
    """A true minus sign; none before a zero."""
    digits = text.strip("+-0. %")
    return text.replace("-", "−") if digits else text.lstrip("+-")
