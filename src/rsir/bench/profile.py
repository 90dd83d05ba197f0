"""Where the time of an act goes, by function."""

from __future__ import annotations

import cProfile
import pstats
import re
from collections.abc import Callable
from pathlib import Path

from rsir.bench.clock import figure

Place = tuple[str, int, str]
"""File, line and function, as `pstats` has them."""
LARGEST = 12
"""Functions shown."""


def profile(act: Callable[[], object], name: str, module: str) -> tuple[float | None, dict[str, float]]:
    """The share of time spent in a function, and the functions that take most time of their own.

    Args:
        act: what is profiled.
        name: the function whose share is asked for, with all that it calls.
        module: the last part of its module's name.

    Returns:
        The share, None if the function was not called; own shares by function, largest first.

    >>> share, where = profile(lambda: figure(1.0), "figure", "clock")
    >>> 0 < share <= 1, "clock.figure" in where
    (True, True)
    """
    watch = cProfile.Profile()
    watch.runcall(act)
    stats: dict[Place, tuple] = pstats.Stats(watch).stats  # type: ignore[attr-defined]
    total = sum(found[2] for found in stats.values())
    inside = [found[3] for place, found in stats.items() if label(place) == f"{module}.{name}"]
    share = figure(min(1.0, max(inside) / total)) if inside else None
    largest = sorted(stats.items(), key=lambda item: -item[1][2])[:LARGEST]
    return share, {label(place): figure(found[2] / total, 3) for place, found in largest}


def label(place: Place) -> str:
    """`module.function` in Python, `Tensor.method` or `torch.function` of what is built in.

    >>> label(("~", 0, "<method 'topk' of 'torch._C.TensorBase' objects>"))
    'Tensor.topk'
    """
    file, _, name = place
    plain = name.strip("<>").removeprefix("built-in method ")
    method = re.match(r"method '(\w+)' of '([\w.]+)' objects", plain)
    if method:
        return f"{method[2].split('.')[-1].removesuffix('Base')}.{method[1]}"
    return plain if file == "~" else f"{Path(file).stem}.{plain}"
