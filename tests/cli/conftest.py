"""The command line called in process, and a small finished run to use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cli.words import TINY, Outcome

import rsir
from rsir.cli import main


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Call the command line with these words."""

    def act(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return act


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on simulated users; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    rsir.run(None, folder, config=rsir.load_config(overrides=[*TINY, "recursion.rounds=1"]), device="cpu")
    return folder
