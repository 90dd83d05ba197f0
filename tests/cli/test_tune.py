"""`rsir tune`, as typed: the budget, going on after a stop, the contract, what it refuses."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.words import TINY_FLAGS, Outcome

import rsir
from rsir.config import load_config
from rsir.tune.search import _Search
from rsir.tune.space import SPACE, Axis, check_axes, parse_axis
from rsir.tune.trials import importance

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'rsir[tune]'")

FEW = ["--set", "recursion.rounds=1", "--set", "generation.num_rollouts=2", "--quiet"]
AXES = [
    *("--search", "model.dim=4,8", "--search", "training.batch_size=16,256"),
    *("--search", "generation.num_rollouts=1..3"),
]


def tune(call: Callable[..., Outcome], folder: Path, *words: object) -> dict[str, Any]:
    outcome = call("tune", "--out", folder, *TINY_FLAGS, *FEW, *AXES, *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def trials(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of both phases, three trials each."""
    from rsir.cli import main

    folder = tmp_path_factory.mktemp("tune") / "search"
    words = ["tune", "--out", str(folder), *TINY_FLAGS, *FEW, *AXES, "--trials", "3", "--json"]
    assert main(words) == 0
    return folder


def test_both_get_the_same_budget_and_the_contract_holds(searched: Path) -> None:
    result, rows = json.loads((searched / "result.json").read_text()), trials(searched)
    assert result.keys() == {"out", "monitor", "budget", "config", "base", "recursion"}
    for phase in ("base", "recursion"):
        of_phase = [row for row in rows if row["phase"] == phase]
        found = result[phase]
        assert len(of_phase) == sum(found["trials"].values()) == 3
        completed = [row["value"] for row in of_phase if row["state"] == "completed"]
        assert found["best"]["value"] == max(completed)
        assert found["first"]["number"] == 0
        assert set(found["best"]["params"]) == {axis.key for axis in SPACE[phase]}
    assert result["recursion"]["start"] == pytest.approx(result["base"]["best"]["value"])


def test_the_best_settings_run_and_give_the_same_base(
    searched: Path, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    best = json.loads((searched / "result.json").read_text())
    outcome = call("run", "--config", searched / "best.toml", "--out", tmp_path / "run", "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    rounds = json.loads(outcome.out)["rounds"]
    assert rounds[0]["valid"]["ndcg@10"] == pytest.approx(best["base"]["best"]["value"])
    assert rounds[1]["valid"]["ndcg@10"] == pytest.approx(best["recursion"]["best"]["value"])


def test_the_test_split_is_never_read(searched: Path) -> None:
    """The only test figures there are those of the validation cases, which stand in their place."""
    assert not list(searched.glob(".trial*"))
    round_ = searched / "base" / "rounds" / "0"
    valid = json.loads((round_ / "round.json").read_text())["valid"]
    assert json.loads((round_ / "test.json").read_text())["metrics"] == valid
    assert rsir.Run.open(searched / "base").split().test.target.tolist() != (
        rsir.Run.open(searched / "base").split().valid.target.tolist()
    )


def test_a_search_that_was_killed_goes_on_as_one_that_was_not(
    searched: Path, call: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, made = _Search._trial, []

    def killed(self: _Search, *rest: Any) -> Any:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(rest)
        return whole(self, *rest)

    monkeypatch.setattr(_Search, "_trial", killed)
    outcome = call("tune", "--out", tmp_path / "b", *TINY_FLAGS, *FEW, *AXES, "--trials", "3", "--json")
    assert outcome.code == 130
    assert "run the same words again" in outcome.err
    assert len(trials(tmp_path / "b")) == 4
    monkeypatch.undo()
    tune(call, tmp_path / "b", "--trials", "3")
    assert untimed(trials(tmp_path / "b")) == untimed(trials(searched))


def test_a_finished_search_is_not_made_again_but_may_grow(
    searched: Path, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path / "more")
    before = trials(searched)
    tune(call, tmp_path / "more", "--trials", "3")
    assert trials(tmp_path / "more") == before
    result = tune(call, tmp_path / "more", "--trials", "99", "--timeout", "0.001")
    assert trials(tmp_path / "more") == before
    assert result["budget"] == {"trials": 99, "timeout": 0.001}
    assert (tmp_path / "more" / "report.html").read_text().count("<svg") >= 2


def test_one_phase_alone(call: Callable[..., Outcome], tmp_path: Path) -> None:
    result = tune(call, tmp_path / "a", "--for", "base", "--trials", "1")
    assert result["recursion"] is None
    assert result["base"]["best"]["params"]["model.dim"] == 8  # the first trial: the settings as given


def test_a_network_that_sees_later_events_fails_where_every_place_predicts(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Whether it does is only known when it is made: the trial fails, not the search."""
    (tmp_path / "mine.py").write_text(
        "import rsir.models\n"
        "class Mine(rsir.models.SASRec):\n"
        "    causal = False\n"
        "    def __init__(self, num_items, config):\n"
        "        super().__init__(num_items)\n"
    )
    own = ["--model", "own", "--set", f"model.factory={tmp_path / 'mine.py'}:Mine", "--for", "base"]
    searched = ["--search", "training.targets=every,last", "--search", "training.batch_size=16,64"]
    words = ["--out", tmp_path / "out", *own, *TINY_FLAGS, "--quiet", *searched, "--trials", "6", "--json"]
    outcome = call("tune", *words)
    assert outcome.code == 0, outcome.err
    rows = trials(tmp_path / "out")
    wrong = [row for row in rows if row["params"]["training.targets"] == "every"]
    assert 0 < len(wrong) < len(rows)
    assert all(row["state"] == "failed" and "later events" in row["reason"] for row in wrong)
    assert all(row["state"] != "failed" for row in rows if row not in wrong)


def test_values_that_do_not_go_together_fail_one_trial(call: Callable[..., Outcome], tmp_path: Path) -> None:
    """Each number of heads is possible, but not each divides each width."""
    found = tune(call, tmp_path / "a", "--for", "base", "--search", "model.num_heads=1..8", "--trials", "5")
    rows = trials(tmp_path / "a")
    wrong = [row for row in rows if row["params"]["model.dim"] % row["params"]["model.num_heads"]]
    assert found["base"]["trials"]["failed"] == len(wrong) > 0
    assert all(row["state"] == "failed" and "num_heads" in row["reason"] for row in wrong)
    assert found["base"]["best"]["number"] not in [row["number"] for row in wrong]


def test_a_width_of_successors_can_be_searched(call: Callable[..., Outcome], tmp_path: Path) -> None:
    """They begin afresh though nothing says so; one that is told to begin warm fails alone."""
    (tmp_path / "space.toml").write_text('[recursion]\n"recursion.dim" = {choices = [8, 12]}\n')
    words = ["--for", "recursion", "--space", tmp_path / "space.toml", "--trials", "2"]
    found = call("tune", "--out", tmp_path / "wide", *TINY_FLAGS, *FEW, *words, "--json")
    assert found.code == 0, found.err
    assert [row["state"] for row in trials(tmp_path / "wide")] == ["completed", "completed"]
    words += ["--search", "recursion.start=warm"]
    found = call("tune", "--out", tmp_path / "warm", *TINY_FLAGS, *FEW, *words, "--json")
    assert found.code == 0, found.err
    failed = trials(tmp_path / "warm")
    assert {row["state"] for row in failed} == {"failed"}
    assert "begin afresh" in failed[0]["reason"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--for", "all"], "choose base, recursion or both"),
        (["--trials", "0"], "a budget of 0 trials"),
        (["--search", "model.dim"], "another form than KEY=low..high"),
        (["--search", "model.dim=8..4"], "must be a number below"),
        (["--search", "model.dimm=4..8"], "did you mean 'model.dim'"),
        (["--search", "seed=1..3"], "'seed' cannot be searched"),
        (["--search", "model.dropout=.2..1.5"], "impossible value model.dropout"),
        (["--space", "nowhere.toml"], "nowhere.toml: no such file"),
        (["--set", "recursion.rounds=0"], "no self-improvement to tune"),
        (["--set", "recursion.teachers=['nowhere']"], "there is no run directory nowhere"),
    ],
)
def test_refusals(call: Callable[..., Outcome], tmp_path: Path, words: list[str], what: str) -> None:
    outcome = call("tune", "--out", tmp_path / "a", *TINY_FLAGS, *words)
    assert outcome.code == 2
    assert what in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_another_search_in_the_folder_is_refused(searched: Path, call: Callable[..., Outcome]) -> None:
    outcome = call("tune", "--out", searched, *TINY_FLAGS, *FEW, *AXES, "--seed", "5")
    assert outcome.code == 2
    assert "a search of another log, space or settings" in outcome.err


def test_two_processes_do_not_search_in_one_folder(
    call: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process, begun during the first one's trial, is told to wait; the first goes on as alone."""
    words = ["tune", "--out", str(tmp_path / "a"), *TINY_FLAGS, *FEW, "--for", "base", "--trials", "2"]
    whole, seconds = _Search._trial, list[subprocess.CompletedProcess[str]]()

    def meanwhile(self: _Search, *rest: Any) -> Any:
        command = [sys.executable, "-m", "rsir", *words]
        seconds.append(subprocess.run(command, capture_output=True, text=True))
        monkeypatch.undo()
        return whole(self, *rest)

    monkeypatch.setattr(_Search, "_trial", meanwhile)
    first = call(*words)
    assert first.code == 0, first.err
    assert [second.returncode for second in seconds] == [2]
    assert f"another process is working in {tmp_path / 'a'}: wait for it or stop it" in seconds[0].stderr
    assert seconds[0].stderr.count("\n") == 1
    assert [row["number"] for row in trials(tmp_path / "a")] == [0, 1]


def test_a_folder_that_only_was_held_can_be_used(call: Callable[..., Outcome], tmp_path: Path) -> None:
    """So it is left where a process was killed before it could write what it searches."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".lock").touch()
    tune(call, tmp_path / "a", "--for", "base", "--trials", "1")


def test_a_folder_with_something_else_is_refused_as_it_was(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "other.txt").touch()
    outcome = call("tune", "--out", tmp_path, *TINY_FLAGS, *FEW)
    assert outcome.code == 2
    assert f"{tmp_path} is not empty: choose another --out" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_a_space_file_replaces_the_table_of_its_phase(call: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(
        '[base]\n"training.learning_rate" = {low = 1e-3, high = 1e-2, log = true}\n'
    )
    words = ["--space", tmp_path / "space.toml", "--for", "base", "--trials", "1", "--json"]
    outcome = call("tune", "--out", tmp_path / "a", *TINY_FLAGS, *FEW, *words)
    assert outcome.code == 0, outcome.err
    assert list(json.loads(outcome.out)["base"]["best"]["params"]) == ["training.learning_rate"]


def test_the_table_of_the_default_space_is_possible() -> None:
    for axes in SPACE.values():
        check_axes(axes, load_config())


def test_importance_finds_the_setting_that_matters() -> None:
    axes = [Axis("model.dropout", 0.0, 1.0), parse_axis("model.num_blocks=1..4")]
    rows = [
        {
            "state": "completed",
            "value": 1 - abs(place / 40 - 0.5),
            "params": {"model.dropout": place / 40, "model.num_blocks": 1 + place % 4},
            "looks": [],
        }
        for place in range(40)
    ]
    shares = importance(rows, axes, seed=0)
    assert shares is not None
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["model.dropout"] > 0.9
    assert importance(rows[:5], axes, seed=0) is None
