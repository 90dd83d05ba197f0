"""The files around the code say the same as the code."""

import os
import re
import tomllib
from pathlib import Path

import rsir

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def make_commands(text: str) -> set[str]:
    """Targets of the `make` commands that a document shows, in blocks or in line."""
    return set(re.findall(r"(?:^|`)\s*(?:\$ )?(?:PYTHON=\S+ )?make ([a-z-]+)", text, re.MULTILINE))


def test_one_version() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert rsir.__version__ == PROJECT["version"] == cited[1]


def test_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert PROJECT["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in (ROOT / "CITATION.cff").read_text()


def test_both_papers_are_cited() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert "arXiv:2602.15659" in text
    assert "arXiv:2610.04302" in text


def test_types_are_shipped() -> None:
    assert (ROOT / "src" / "rsir" / "py.typed").is_file()


def test_shown_make_commands_exist() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        assert make_commands((ROOT / name).read_text()) <= targets()
    assert make_commands("```\n$ make test\nPYTHON=python3 make x\n```\nor `make run`; make sure") == {
        "test",
        "x",
        "run",
    }


def test_make_and_ci() -> None:
    assert {"run", "test", "check"} <= targets()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert make_commands((ROOT / ".ci" / "run").read_text()) == {"test", "check"}


def test_pytorch_is_held_by_the_constraints_alone() -> None:
    pinned = re.findall(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(pinned) == 1
    assert not [need for need in PROJECT["dependencies"] if "==" in need]


def test_changelog_knows_the_rule_and_the_version_is_not_ahead_of_it() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "*results change*" in text
    assert "## [Unreleased]" in text or f"## [{PROJECT['version']}]" in text
