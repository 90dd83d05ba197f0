"""Tiny runs to report, made once; a test that changes one works on a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from report.runs import hostile_log, small

import rsir


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds with control on a log with hostile ids."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    rsir.run(hostile_log(), folder, config=small())
    return folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round on simulated users."""
    folder = tmp_path_factory.mktemp("runs") / "simulated"
    rsir.run(None, folder, config=small(recursion={"rounds": 1}))
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a run that a test may change."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))
