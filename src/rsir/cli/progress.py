"""Progress on standard error: bars in a terminal, plain lines elsewhere, nothing under --quiet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
)
from rich.progress import TextColumn as Words
from rich.text import Text

from rsir.watch import Watch

_UNITS = {"train": "updates", "generate": "steps", "evaluate": "cases", "fetch": "bytes"}


class _Rate(ProgressColumn):
    """How much of the stage's unit a second."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else unit, style="dim")


class _Left(ProgressColumn):
    """The time left, where the end is known."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None else f"at most {timedelta(seconds=int(left))} left")


class Lines(Watch):
    """Notes as plain lines."""

    def note(self, line: str) -> None:
        """Print it to standard error."""
        print(line, file=sys.stderr, flush=True)


class Bars(Watch):
    """One bar for the stage at hand, notes above it. Training may stop before its bar is full."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None

    def stage(self, name: str, arm: str, round_index: int) -> None:
        """Begin a new bar in place of the last."""
        if self.task is not None:
            self.progress.remove_task(self.task)
        label = f"{name} {arm}" if name == "fetch" else f"{name} {_arm(arm, round_index)}"
        self.task = self.progress.add_task(label, total=None, unit=_UNITS.get(name, ""))

    def advance(self, done: int, total: int | None) -> None:
        """Move the bar."""
        if self.task is not None:
            self.progress.update(self.task, completed=done, total=total)

    def note(self, line: str) -> None:
        """Print it above the bar."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watching(quiet: bool) -> Iterator[Watch]:
    """The watch that fits where standard error goes."""
    if quiet or not sys.stderr.isatty():
        yield Watch() if quiet else Lines()
        return
    columns = (Words("{task.description}"), BarColumn(20), MofNCompleteColumn(), _Rate())
    with Progress(
        *columns, TimeElapsedColumn(), _Left(), console=Console(stderr=True), transient=True
    ) as progress:
        yield Bars(progress)


def _arm(arm: str, k: int) -> str:
    kind = "round" if arm == "rounds" else f"{arm.removeprefix('controls/')} of round"
    return "base" if k == 0 else f"{kind} {k}"
