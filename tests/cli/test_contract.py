"""The contract for scripts: one JSON object on standard output, key by key."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.words import TINY_FLAGS, Outcome

import rsir
from rsir.cli import app
from rsir.data.simulate import SimulationConfig, simulate

SPLIT_METRICS = {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20)}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log as CSV, with integer ids."""
    world = SimulationConfig(num_users=50, num_items=60, num_topics=3, max_events=20)
    frame = simulate(world, seed=3).frame
    path = tmp_path_factory.mktemp("log") / "shop.csv"
    with open(path, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["customer", "product", "when"])
        lines.writerows((int(u[1:]) + 1000, int(i[1:]), t) for u, i, t in frame.iter_rows())
    return path


COLUMNS = ["--user-column", "customer", "--item-column", "product", "--time-column", "when"]


def run(call: Callable[..., Outcome], *words: object) -> dict[str, Any]:
    """The object that `rsir run … --json` prints; nothing else may stand there."""
    outcome = call("run", *words, *TINY_FLAGS, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def check_round(row: dict[str, Any], index: int, tested: bool) -> None:
    assert row["round"] == index
    assert row["seconds"] > 0
    assert row["valid"].keys() >= SPLIT_METRICS
    assert all(0 <= row["valid"][name] <= 1 for name in SPLIT_METRICS)
    assert (row["test"] is not None) == tested
    if tested:
        assert row["test"].keys() >= SPLIT_METRICS


def check(summary: dict[str, Any], folder: Path, rounds: int) -> None:
    """Every key of the contract."""
    assert summary["status"] == "completed"
    assert summary["run"] == str(folder)
    assert summary["data"].keys() == {"users", "items", "events", "fingerprint"}
    assert len(summary["data"]["fingerprint"]) == 64
    assert [row["origin"] for row in summary["rounds"]] == ["observed"] + ["synthetic"] * rounds
    assert [row["origin"] for row in summary["control"]] == ["observed"] * rounds
    chosen = summary["chosen_round"]
    assert chosen in range(rounds + 1)
    for k, row in enumerate(summary["rounds"]):
        check_round(row, k, tested=k in (0, chosen))
    for k, row in enumerate(summary["control"], start=1):
        check_round(row, k, tested=k == chosen)
        assert row["admitted"] == 0
    observed = summary["rounds"][0]["sequences"]
    for row in summary["rounds"]:
        assert row["sequences"] == observed + row["admitted"]
    assert summary["stop_reason"] in {"completed", "saturated", "collapsed", "nothing_admitted"}
    assert summary["seconds"] > 0
    assert summary["peak_rss_bytes"] > 50e6


def test_on_simulated_users(call: Callable[..., Outcome], tmp_path: Path) -> None:
    summary = run(call, "--out", tmp_path / "out", "--rounds", "2")
    check(summary, tmp_path / "out", rounds=len(summary["rounds"]) - 1)
    assert summary["data"]["users"] == 60
    assert (tmp_path / "out" / "report.html").is_file()


def test_on_a_log(call: Callable[..., Outcome], tmp_path: Path, log: Path) -> None:
    summary = run(call, log, "--out", tmp_path / "out", "--rounds", "1", *COLUMNS)
    check(summary, tmp_path / "out", rounds=1)
    assert summary["data"] == {
        "users": 50,
        "items": rsir.Run.open(tmp_path / "out").interactions.item.unique().numel(),
        "events": len(log.read_text().splitlines()) - 1,
        "fingerprint": summary["data"]["fingerprint"],
    }


def test_no_rounds_is_the_base(call: Callable[..., Outcome], tmp_path: Path) -> None:
    summary = run(call, "--out", tmp_path / "out", "--rounds", "0")
    check(summary, tmp_path / "out", rounds=0)
    assert summary["control"] == []
    assert summary["chosen_round"] == 0


def test_no_control(call: Callable[..., Outcome], tmp_path: Path) -> None:
    summary = run(call, "--out", tmp_path / "out", "--rounds", "1", "--no-control")
    assert summary["control"] == []
    assert len(summary["rounds"]) == 2


def untimed(summary: dict[str, Any]) -> dict[str, Any]:
    """All but what differs between two runs of the same numbers."""
    rows = {
        arm: [{key: value for key, value in row.items() if key != "seconds"} for row in summary[arm]]
        for arm in ("bases", "rounds", "control")
    }
    return {**summary, **rows, "run": None, "seconds": None, "peak_rss_bytes": None}


def test_the_seed_fixes_everything(call: Callable[..., Outcome], tmp_path: Path, log: Path) -> None:
    words = [log, *COLUMNS, "--rounds", "1"]
    one, same, other = (
        untimed(run(call, *words, "--out", tmp_path / str(place), "--seed", seed))
        for place, seed in enumerate((5, 5, 6))
    )
    assert one == same
    assert one["rounds"] != other["rounds"]


def test_resume_of_a_finished_run_prints_it_again(call: Callable[..., Outcome], finished: Path) -> None:
    outcome = call("run", "--resume", "--out", finished, "--json", "--rounds", "1")
    assert outcome.code == 0
    assert json.loads(outcome.out) == rsir.Run.open(finished).summary()


def test_the_table_for_people_has_every_model(call: Callable[..., Outcome], finished: Path) -> None:
    lines = call("run", "--resume", "--out", finished).out.splitlines()
    for name in ("base", "round 1", "further base 1", "further base 2", "control 1"):
        assert any(line.startswith(f"{name} ") for line in lines), name


def test_quiet_says_nothing(call: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = call("run", "--out", tmp_path / "a", "--rounds", "0", "--quiet", "--json", *TINY_FLAGS)
    assert outcome.err == ""
    outcome = call("run", "--out", tmp_path / "b", "--rounds", "0", *TINY_FLAGS)
    assert "base: validation ndcg@10" in outcome.err
    assert "\x1b" not in outcome.err + outcome.out  # no bars, no colours where there is no terminal
    assert "run: " + str(tmp_path / "b") in outcome.out


def test_a_stop_says_how_to_go_on(tmp_path: Path) -> None:
    """SIGTERM in the middle of training; then --resume ends the run."""
    out = tmp_path / "out"
    script = str(Path(sys.executable).with_name("rsir"))
    words = [script, "run", "--out", str(out), "--rounds", "0", "--quiet", *TINY_FLAGS]
    long = [*words, "--set", "training.max_periods=100000", "--set", "training.patience=100000"]
    process = subprocess.Popen(long, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not (out / "rounds" / "0" / "checkpoint.safetensors").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == ""
    assert said == f"rsir: stopped; go on with: rsir run --resume --out {out}\n"
    assert json.loads((out / "status.json").read_text())["status"] == "interrupted"
    assert not [name for name in os.listdir(tmp_path) if name != "out"]


def test_evaluate(call: Callable[..., Outcome], finished: Path) -> None:
    summary = rsir.Run.open(finished).summary()
    found = json.loads(call("evaluate", finished, "--json", "--quiet").out)
    assert found["round"] == summary["chosen_round"]
    assert found["metrics"] == pytest.approx(summary["rounds"][found["round"]]["test"])
    assert found["yardsticks"].keys() == {"most_popular", "recent_popular", "item_knn"}
    for name in ("by_history_length", "by_target_count"):
        assert sum(bucket["cases"] for bucket in found[name]) == found["counts"]["cases"]
        mean = sum(b["cases"] * b["ndcg@10"] for b in found[name]) / found["counts"]["cases"]
        assert math.isclose(mean, found["metrics"]["ndcg@10"])
    valid = json.loads(call("evaluate", finished, "--split", "valid", "--round", "0", "--json").out)
    assert valid["metrics"] == pytest.approx(summary["rounds"][0]["valid"])


def test_evaluate_for_people(call: Callable[..., Outcome], finished: Path) -> None:
    outcome = call("evaluate", finished)
    assert outcome.code == 0
    for words in ("highest reachable recall", "most popular", "item knn", "by history length"):
        assert words in outcome.out


def test_the_test_split_of_an_unfinished_run_stays_sealed(
    call: Callable[..., Outcome], tmp_path: Path, finished: Path
) -> None:
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    outcome = call("evaluate", tmp_path / "run")
    assert outcome.code == 2
    assert "its test split is read at the end" in outcome.err
    assert call("evaluate", tmp_path / "run", "--split", "valid").code == 0


def test_recommend(call: Callable[..., Outcome], finished: Path, tmp_path: Path) -> None:
    run = rsir.Run.open(finished)
    users, items = run.interactions.users.ids, run.interactions.items.ids
    found = json.loads(call("recommend", finished, "--user", users[3], "-n", "4", "--json").out)
    had = set(items.gather(run.interactions.ragged.tolists()[3]).to_list())
    assert [row["user"] for row in found] == [users[3]]
    listed = [row["item"] for row in found[0]["items"]]
    assert len(set(listed)) == 4
    assert set(listed) <= set(items) - had
    history = f"{items[0]},{items[1]}"
    found = json.loads(call("recommend", finished, "--history", history, "--history", items[0], "--json").out)
    assert [row["history"] for row in found] == [1, 2]
    assert call("recommend", finished, "--all", "-n", "2", "--out", tmp_path / "all.csv").code == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 2 * len(users)


def test_integers_come_back_as_integers(call: Callable[..., Outcome], tmp_path: Path, log: Path) -> None:
    run(call, log, "--out", tmp_path / "out", "--rounds", "0", *COLUMNS)
    found = json.loads(call("recommend", tmp_path / "out", "--user", "1001", "-n", "1", "--json").out)
    assert found[0]["user"] == 1001
    assert isinstance(found[0]["items"][0]["item"], int)


def test_describe_simulate_list(call: Callable[..., Outcome], tmp_path: Path) -> None:
    told = json.loads(
        call("data", "simulate", "--out", tmp_path / "log.txt", "--users", 60, *TINY_FLAGS, "--json").out
    )
    found = json.loads(call("data", "describe", tmp_path / "log.txt", "--json").out)
    assert (found["users"], found["events"]) == (60, told["events"])
    assert "users: 60" in call("data", "describe", tmp_path / "log.txt").out
    assert "amazon-beauty" in {row["name"] for row in json.loads(call("data", "list", "--json").out)}


def test_doctor_and_config(call: Callable[..., Outcome]) -> None:
    facts = json.loads(call("doctor", "--json").out)
    assert facts["threads"] >= 1
    assert facts["packages"]["torch"]
    assert "threads: " in call("doctor").out
    shown = call("config", "show", "--set", "model.dim=32").out
    line = next(line for line in shown.splitlines() if "model.dim" in line)
    assert line.startswith("* model.dim")
    assert "32" in line
    values = json.loads(call("config", "show", "--json", "--set", "model.dim=32").out)
    assert values["model.dim"]["value"] == 32
    assert values["model.dim"]["default"] != 32
    assert all(row["meaning"] for row in values.values())


def test_version_and_help(call: Callable[..., Outcome]) -> None:
    assert call("--version") == Outcome(0, f"{rsir.__version__}\n", "")
    for words in ([], ["run"], ["data"], ["config", "show"]):
        outcome = call(*words, "--help")
        assert outcome.code == 0
        assert outcome.err == ""


def test_the_document_names_every_key_and_verb(finished: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    summary = rsir.Run.open(finished).summary()
    for key in (*summary, *summary["data"], *summary["rounds"][0]):
        assert f"`{key}`" in text, key
    verbs = {command.name for command in app.registered_commands}
    assert verbs == set(re.findall(r"^\| `rsir (\w+)[^|]*` \|", text, re.MULTILINE)) - {
        "data",
        "config",
        "bench",
    }
