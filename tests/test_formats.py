"""docs/formats.md names every file and key of a real run, and its schema fits."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import rsir
from rsir.config import load_config
from rsir.run import Run

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "formats.md").read_text()
NAMED = set(re.findall(r"`([^`]+)`", TEXT))
FREE = {"valid", "valid_warm", "metrics", "warm_metrics", "config", "describe", "split", "packages"}
"""Keys whose own keys are metrics, settings or described elsewhere."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    settings = ["simulation.num_users=120", "simulation.num_items=60", "simulation.num_topics=6"]
    settings += ["simulation.max_events=15", "model.dim=8", "training.max_periods=2", "training.min_period=2"]
    config = load_config(overrides=settings)
    return rsir.run(None, tmp_path_factory.mktemp("formats") / "run", rounds=1, config=config)


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in FREE and not any(
                "@" in name for name in (inner if isinstance(inner, dict) else ())
            ):
                yield from keys(inner)


def test_every_key_is_named(run: Run) -> None:
    for path in run.folder.rglob("*.json"):
        if "truth" not in path.parts:
            unnamed = set(keys(json.loads(path.read_text()))) - NAMED
            assert not unnamed, (path.name, unnamed)
    for path in run.folder.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            named = {key for key in json.loads(line) if "@" not in key}
            assert path.name == "log.jsonl" or named <= NAMED, (path.name, named - NAMED)


def test_every_file_and_column_is_named(run: Run) -> None:
    for path in run.folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            names = {path.name, str(path.relative_to(run.folder))}
            assert names & NAMED, path
    for name in ("synthetic", "valid"):
        assert set(run.store.arm("rounds", 1).frame(name).columns) <= NAMED


def test_the_schema_fits_the_summary(run: Run) -> None:
    """Required keys and plain types, without a schema library."""
    (block,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    schema = json.loads(block)
    summary = run.summary()
    assert set(schema["required"]) <= summary.keys() == schema["properties"].keys()
    for row in summary["rounds"] + summary["control"]:
        assert row.keys() == schema["$defs"]["round"]["properties"].keys()
    kinds: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "null": type(None)}
    kinds |= {"array": list, "object": dict}
    for key, rule in schema["properties"].items():
        if "type" in rule:
            allowed = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
            assert isinstance(summary[key], tuple(kinds[kind] for kind in allowed)), key
        if "enum" in rule:
            assert summary[key] in rule["enum"]
