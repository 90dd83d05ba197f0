"""docs/formats.md names every key and column that a run writes, and its schema fits `rsir run --json`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from report.runs import choose, comparison

from rsir.run import Run

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\s]+)`", TEXT)) | set(re.findall(r'"(\w+)"', TEXT))
FREE = {"packages", "config", "describe"}  # what lies under them is told elsewhere


def section(title: str) -> str:
    """What stands under a heading that names a file."""
    found = re.search(rf"^#+ `{re.escape(title)}`.*?$(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def keys(value: Any) -> Iterator[str]:
    """Every key at any depth; cutoffs as k."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield re.sub(r"@\d+$", "@k", key)
            if key not in FREE:
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.fixture
def run(finished: Path, simulated: Path, request: pytest.FixtureRequest) -> Path:
    return {"finished": finished, "simulated": simulated}[request.param]


@pytest.mark.parametrize("run", ["finished", "simulated"], indirect=True)
def test_every_key_is_named(run: Path) -> None:
    files = [path for path in run.rglob("*.json") if "truth" not in path.parts]
    lines = [json.loads(line) for path in run.rglob("*.jsonl") for line in path.read_text().splitlines()]
    values = [*(json.loads(path.read_text()) for path in files), *lines, Run.open(run).summary()]
    assert len(files) > 8
    assert set(keys(values)) - NAMED == set()


@pytest.mark.parametrize("name", ["round.json", "generation.json"])
def test_a_file_is_described_under_its_own_heading(simulated: Path, name: str) -> None:
    value = json.loads((simulated / "rounds" / "1" / name).read_text())
    assert [key for key in value if f"`{key}`" not in section(name)] == []


def test_comparisons_are_described(finished: Path, copy: Any) -> None:
    folder = copy(finished)
    choose(folder, 1, {"control": comparison(0.01, 0.02), "base": comparison(0.01, 0.02)})
    value = json.loads((folder / "result.json").read_text())
    named = set(re.findall(r"`([^`]+)`", section("result.json")))
    assert set(keys(value)) - named == set()


@pytest.mark.parametrize("name", ["synthetic.parquet", "valid.parquet", "test.parquet"])
def test_columns_are_described_with_their_types(simulated: Path, name: str) -> None:
    title = name if name == "synthetic.parquet" else "valid.parquet`, `test.parquet"
    said = re.findall(r"^\| `(\w+)` \| ([^ |]+) \|", section(title), re.MULTILINE)
    folder = simulated / "rounds" / ("1" if name == "synthetic.parquet" else "0")
    schema = pl.read_parquet_schema(folder / name)
    ids = {"user": "id", "target": "id", "items": "List(id)"}
    assert said == [(column, ids.get(column, str(kind))) for column, kind in schema.items()]


def test_every_file_is_named(simulated: Path) -> None:
    files = {path.name for path in simulated.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert files - NAMED == set()


@pytest.mark.parametrize("run", ["finished", "simulated"], indirect=True)
def test_the_schema_fits_the_summary(run: Path) -> None:
    schema = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])  # type: ignore[index]
    summary = Run.open(run).summary()
    fit(summary, schema, schema["$defs"])
    assert summary.keys() == schema["properties"].keys()
    with pytest.raises(AssertionError):
        fit({**summary, "status": "no such status"}, schema, schema["$defs"])
    with pytest.raises(AssertionError):
        fit(
            {**summary, "rounds": [{**summary["rounds"][0], "valid": {"ndcg@10": "high"}}]},
            schema,
            schema["$defs"],
        )


def fit(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Assert that a value fits the few kinds of rules the schema uses."""
    if "$ref" in schema:
        return fit(value, definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "oneOf" in schema:
        return fit(value, schema["oneOf"][1 if value is None else 0], definitions)
    assert value in schema.get("enum", [value])
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": int | float,
        "null": type(None),
    }
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    assert not wanted or any(isinstance(value, kinds[name]) for name in wanted)  # type: ignore[arg-type]
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= value.keys()
        for key, inner in value.items():
            fit(
                inner,
                schema.get("properties", {}).get(key, schema.get("additionalProperties", {})),
                definitions,
            )
    if isinstance(value, list):
        for inner in value:
            fit(inner, schema.get("items", {}), definitions)
    return None
