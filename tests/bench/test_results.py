"""The kept results and what is made of them."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
DOCUMENT = (ROOT / "docs" / "benchmarks.md").read_text()


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_results_are_equal_to_the_oracle_and_hold_no_paths(path: Path) -> None:
    text = path.read_text()
    found = json.loads(text)
    assert not re.findall(r'"/(?:home|root|work|tmp|usr)', text)
    assert all(part["equal_to_oracle"] for name, part in found.items() if name.startswith("generation"))
    assert all(part["date"] and part["machine"]["processor"] for part in found.values())


def sections(tables: str) -> list[str]:
    """The table of each stage, with its heading."""
    return [part.strip() for part in tables.split("### ")[1:]]


@pytest.mark.parametrize("place", ["tables", "tables of a GPU"])
def test_the_document_holds_the_tables_of_kept_results(place: str) -> None:
    tables, on_gpu = script("tables")["tables"], place != "tables"
    results = [json.loads(path.read_text()) for path in KEPT]
    of_kind = [
        {name: part for name, part in found.items() if (part["machine"]["device"] != "cpu") == on_gpu}
        for found in results
    ]
    kept = {part for found in of_kind for part in sections(tables(found))}
    shown = sections(DOCUMENT.split(f"<!-- {place} -->")[1].split(f"<!-- end of {place} -->")[0])
    assert len(shown) == len({part.splitlines()[0] for part in kept})
    assert set(shown) <= kept


def test_the_document_holds_the_slopes_of_kept_points() -> None:
    growth = script("growth")
    lines = growth["read"](ROOT / "benchmarks" / "results" / "growth.jsonl")
    assert growth["table"](lines) in DOCUMENT
    kept = [growth["key"](line) for line in lines]
    assert all(kept.count(point) == 1 for point in growth["points"]())


def test_a_slope_is_the_power() -> None:
    slope = script("growth")["slope"]
    assert slope([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]) == pytest.approx(2.0)
    assert slope([1.0, 10.0], [5.0, 5.0]) == pytest.approx(0.0)


def test_tables_show_what_was_not_measured_as_such() -> None:
    tables = script("tables")
    assert tables["share"](None) == tables["gib"](None) == tables["times"](None) == "–"
    assert tables["both"]({"speedup_vs_x": 12.34, "cpu_speedup_vs_x": 9.876}, "x") == "12.3 × (9.88 ×)"
