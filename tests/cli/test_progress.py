"""Bars in a terminal, lines elsewhere, nothing under --quiet."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.words import TINY_FLAGS, Outcome
from rich.console import Console
from rich.progress import Progress

from rsir.cli.output import print_facts, print_json, print_table
from rsir.cli.progress import Bars, Lines, watching
from rsir.compiled import tell_of_compiling
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


def test_who_waits_for_loops_to_be_compiled_is_told_so(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Outcome]
) -> None:
    """Where generation begins and none is kept; not without generation, and not again.

    Nothing is compiled here: `finished` has them all.
    """
    pytest.importorskip("numba", reason="numba is not installed: pip install 'rsir[fast]'")
    monkeypatch.setattr("rsir.compiled._folder", lambda: str(tmp_path / "loops"))
    said = "compiling loops for this machine"
    run = ["run", *TINY_FLAGS, "--set", "recursion.bases=1", "--no-control", "--device", "cpu"]
    assert said not in call(*run, "--rounds", "0", "--out", tmp_path / "base").err
    lines = call(*run, "--rounds", "1", "--out", tmp_path / "first").err.splitlines()
    place = [line.startswith(said) for line in lines].index(True)
    assert lines[place - 1].startswith("base: ")
    assert lines[place + 1].startswith("round 1: ")
    generate = ["generate", finished, "--device", "cpu", "--out"]
    assert call(*generate, tmp_path / "a.csv").err.startswith(said)
    (tmp_path / "loops" / "models").mkdir(parents=True)
    (tmp_path / "loops" / "models" / "topk.nbi").touch()
    assert said not in call(*generate, tmp_path / "b.csv").err


def test_a_gpu_has_nothing_to_compile_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsir.compiled._folder", lambda: str(tmp_path))
    told: list[str] = []
    monkeypatch.setattr(Watch, "note", lambda _, line: told.append(line))
    tell_of_compiling(Watch(), "cuda")
    assert told == []


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
