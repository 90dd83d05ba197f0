"""Bars in a terminal, lines elsewhere, nothing under --quiet."""

import io
import json
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from rsir.cli.output import print_facts, print_json, print_table
from rsir.cli.progress import Bars, Lines, watching
from rsir.watch import Watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("quiet", "stream", "kind"),
    [
        (False, Terminal, Bars),
        (False, io.StringIO, Lines),
        (True, Terminal, Watch),
        (True, io.StringIO, Watch),
    ],
)
def test_the_watch_fits_the_stream(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, stream: type[io.StringIO], kind: type[Watch]
) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    with watching(quiet) as watch:
        assert type(watch) is kind
        watch.note("a [bold]line[/bold]")
    assert ("a [bold]line[/bold]" in sys.stderr.getvalue()) == (not quiet)  # type: ignore[attr-defined]


def test_a_stage_replaces_the_last() -> None:
    progress = Progress(console=Console(file=io.StringIO()))
    bars = Bars(progress)
    bars.advance(1, 2)  # before any stage: nothing to move
    bars.stage("train", "rounds", 0)
    bars.advance(30, 120)
    bars.stage("train", "control", 2)
    bars.advance(5, None)
    (task,) = progress.tasks
    assert (task.description, task.completed, task.total) == ("train control of round 2", 5, None)
    assert task.fields["unit"] == "updates"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), (1.5, None)]})
    printed = capsys.readouterr().out
    assert json.loads(printed, parse_constant=pytest.fail) == {"a": None, "b": [None, [1.5, None]]}


def test_tables_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "value"], [["a[b]", 0.25], ["c", None]])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["id", "value"],
        ["a[b]", "0.2500"],
        ["c", "–"],
    ]
    print_facts({"peak_rss_bytes": 2**30, "parts": {"one_more": 1234}, "notes": []})
    assert capsys.readouterr().out == "peak rss: 1.00 GiB\nparts\n  one more: 1,234\nnotes: none\n"
