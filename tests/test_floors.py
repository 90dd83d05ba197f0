"""A module imports from its own floor or a lower one; optional libraries are imported where used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "rsir"
FLOORS = {
    0: {"errors", "settings", "rng", "ragged", "devices", "watch", "files", "weights", "compiled"},
    1: {"data"},
    2: {"models", "losses", "softmax", "fused_softmax", "descent", "touched", "replay", "metrics"},
    3: {"train", "evaluate", "explore", "fidelity"},
    4: {"generate", "steps", "acquire"},
    5: {"config", "store"},
    6: {
        "recursion",
        "earlier",
        "evidence",
        "run",
        "launch",
        "enrich",
        "assess",
        "teaching",
        "lineage",
        "refusals",
    },
    7: {"adapters", "bench", "report", "tune"},
    8: {"cli"},
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
ENTRANCES = {"__init__", "__main__"}  # of the package itself: they may name everything
OPTIONAL = {"pandas", "pyarrow", "yaml", "ranx", "pytest", "hypothesis", "rectools", "recbole", "optuna"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The floor-bearing name of a file: its top folder, or its own stem."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of everything a tree imports, relative imports resolved against `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def parts_used(source: str, package: str) -> set[str]:
    """Parts of rsir that a source imports from, at any depth."""
    names = (name.split(".") for name in imported(ast.parse(source), package))
    return {name[1] for name in names if name[0] == "rsir" and len(name) > 1 and name[1] in FLOOR}


def imported_on_load(source: str) -> set[str]:
    """Top-level names of libraries imported when the module is, conditions and classes included."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return {name.split(".")[0] for name in imported(Outside().visit(ast.parse(source)), "rsir")}


def package_of(path: Path) -> str:
    return ".".join(["rsir", *path.relative_to(PACKAGE).parts[:-1]])


def test_every_module_has_a_floor() -> None:
    homeless = {part(path) for path in FILES} - FLOOR.keys() - ENTRANCES
    assert not homeless, f"{homeless} stand on no floor; add them here and to docs/architecture.md"


def test_the_document_says_the_same() -> None:
    rows = re.findall(r"^\| (\d) \| ([^|]+)\|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    said = {
        int(floor): {name.rstrip("/") for name in re.findall(r"`([^`]+)`", names)} for floor, names in rows
    }
    assert said == FLOORS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_go_up(path: Path) -> None:
    own = part(path)
    if own in FLOOR:
        higher = {name for name in parts_used(path.read_text(), package_of(path)) if FLOOR[name] > FLOOR[own]}
        assert not higher, f"{own} (floor {FLOOR[own]}) imports {higher}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_libraries_are_imported_where_used(path: Path) -> None:
    assert not imported_on_load(path.read_text()) & OPTIONAL


def test_the_checks_can_fail() -> None:
    source = "def f():\n    from rsir.recursion import recurse\nfrom ..train import fit\nfrom rsir import cli"
    assert parts_used(source, "rsir.data") == {"recursion", "train", "cli"}
    assert parts_used("from . import rng\nimport rsir.store", "rsir") == {"rng", "store"}
    assert imported_on_load("try:\n    import pandas as pd\nexcept ImportError:\n    pass") == {"pandas"}
    assert imported_on_load("def f():\n    import yaml") == set()
    assert imported_on_load("if TYPE_CHECKING:\n    import pandas") == set()


@pytest.mark.parametrize("name", sorted(FLOORS[3]))
def test_acts_do_not_know_each_other(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    if path.exists():
        assert not parts_used(path.read_text(), "rsir") & (FLOORS[3] - {name})
