"""The loop: what reaches what, which round is kept, why it ends, and that a stop changes nothing."""

import dataclasses
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import rsir
import rsir.files
import rsir.recursion
from rsir.config import Config, load_config
from rsir.data.sequences import Sequences
from rsir.errors import StoreError
from rsir.evidence.provenance import prove
from rsir.files import locked
from rsir.models.ensemble import Ensemble
from rsir.recursion import ADVICE, Ending
from rsir.run import Run
from rsir.store import RunStore

TINY = [
    "simulation.num_users=120",
    "simulation.num_items=60",
    "simulation.num_topics=6",
    "simulation.max_events=15",
    "model.dim=16",
    "model.dropout=0.2",
    "training.batch_size=32",
    "training.learning_rate=5e-3",
    "training.warmup=0",
    "training.ema=none",
    "training.min_period=4",
    "training.max_periods=4",
    "training.patience=2",
    "generation.num_rollouts=2",
    "recursion.bases=1",
    "recursion.writers=newest",
    "recursion.newcomers=0",
    "recursion.synthetic=all",
    "recursion.start=warm",
    "generation.max_rank=10",
]


def tiny(*more: str) -> Config:
    return load_config(overrides=[*TINY, *more])


def figures(run: Run) -> dict[str, Any]:
    """The summary without what a clock or the machine decides."""
    summary = run.summary()
    for key in ("seconds", "peak_rss_bytes", "run"):
        summary.pop(key)
    for row in summary["rounds"] + summary["control"]:
        row.pop("seconds")
    return summary


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return rsir.run(None, tmp_path_factory.mktemp("runs") / "whole", rounds=2, config=tiny())


def test_a_run_has_base_rounds_and_matched_controls(finished: Run) -> None:
    summary = finished.summary()
    assert summary["status"] == "completed"
    assert [row["round"] for row in summary["rounds"]] == [0, 1, 2]
    assert [row["origin"] for row in summary["rounds"]] == ["observed", "synthetic", "synthetic"]
    assert [row["round"] for row in summary["control"]] == [1, 2]
    for mine, control in zip(summary["rounds"][1:], summary["control"], strict=True):
        assert control["origin"] == "observed"
        assert mine["updates"] == control["updates"]
        assert mine["admitted"] > 0


def test_test_figures_only_where_the_contract_says(finished: Run) -> None:
    summary = finished.summary()
    chosen = summary["chosen_round"]
    assert {row["round"] for row in summary["rounds"] if row["test"]} == {0, chosen}
    assert {row["round"] for row in summary["control"] if row["test"]} == ({chosen} if chosen else set())


def test_validation_chooses_the_round(finished: Run) -> None:
    summary = finished.summary()
    values = [row["valid"]["ndcg@10"] for row in summary["rounds"]]
    assert values[summary["chosen_round"]] == max(values)


def test_every_synthetic_sequence_leads_to_its_source(finished: Run) -> None:
    cut = finished.split()
    for k in (1, 2):
        frame = finished.store.arm("rounds", k).frame("synthetic")
        assert (frame["round"] == k).all()
        users = finished.interactions.users.ids
        firsts = [row[0] for row in cut.train.events.tolists()]
        items = finished.interactions.items.ids
        for row in frame.iter_rows(named=True):
            assert row["user"] == users[int(cut.train.user[row["source"]])]
            assert row["items"][0] == items[firsts[row["source"]]]
            assert len(row["items"]) == len(row["rank"]) == len(row["own"]) >= 3
            assert row["rank"][0] == 0
            assert all(1 <= rank <= 10 for rank in row["rank"][1:])


def test_generation_and_acquisition_see_training_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything handed to generation is training data or was generated in an earlier round."""
    handed: list[Sequences] = []
    original = rsir.recursion.generate

    def spy(model: Any, sources: Sequences, *args: Any, **options: Any) -> Any:
        handed.append(sources)
        return original(model, sources, *args, **options)

    monkeypatch.setattr(rsir.recursion, "generate", spy)
    run = rsir.run(None, tmp_path / "run", rounds=2, config=tiny())
    train = run.split().train
    assert len(handed) == 2
    for k, sources in enumerate(handed):
        observed = sources.select((sources.round_index == 0).nonzero().squeeze(1))
        assert observed.events.tolists() == train.events.tolists()
        assert int(sources.round_index.max()) == k


def writers_of(run: Run, k: int) -> list[list[float]]:
    """The first weights of each network that wrote round k."""
    model = run.writer(k - 1)
    members = model.members if isinstance(model, Ensemble) else [model]
    return [member.item_vectors()[0].tolist() for member in members]


def first_weights(run: Run, arm: str, k: int) -> list[float]:
    return run.model(k, arm).item_vectors()[0].tolist()


def test_a_newcomer_writes_beside_the_bases_and_the_newest_data_is_learnt_from(tmp_path: Path) -> None:
    ours = ("recursion.writers=bases", "recursion.newcomers=1", "recursion.synthetic=newest")
    run = rsir.run(None, tmp_path / "run", rounds=2, config=tiny(*ours, "recursion.patience=none"))
    base, newcomer = first_weights(run, "rounds", 0), first_weights(run, "bases", 1)
    assert base != newcomer
    assert writers_of(run, 1) == [base]
    assert writers_of(run, 2) == [base, newcomer]
    rounds = [folder.record() for folder in run.store.arms("rounds")]
    assert [row["sequences"] - rounds[0]["sequences"] for row in rounds] == [
        0,
        rounds[1]["admitted"],
        rounds[2]["admitted"],
    ]
    frames = [run.store.arm("rounds", k).frame("synthetic") for k in (1, 2)]
    again = [set(zip(made["user"], map(tuple, made["items"]), strict=True)) for made in frames]
    assert again[0] & again[1], "a rollout of round 1 counts again in round 2, which does not learn from it"
    proved = prove(run)
    assert len(proved.synthetic) == rounds[1]["admitted"] + rounds[2]["admitted"]
    assert proved.checks["training_data"] == 6, "two bases, two rounds, two controls"


def test_in_the_paper_the_newest_model_writes_and_all_rounds_are_learnt_from(finished: Run) -> None:
    assert writers_of(finished, 2) == [first_weights(finished, "rounds", 1)]
    rounds = [folder.record() for folder in finished.store.arms("rounds")]
    assert rounds[2]["sequences"] - rounds[0]["sequences"] == rounds[1]["admitted"] + rounds[2]["admitted"]
    assert finished.store.arms("bases") == []


def test_other_test_targets_change_nothing_but_the_test_figures(finished: Run, tmp_path: Path) -> None:
    """The same run with other held-out answers: same weights, same synthetic data, same choice of round."""
    cut = finished.split()
    other = dataclasses.replace(cut, test=dataclasses.replace(cut.test, target=cut.test.target.flip(0)))
    log, config = finished.interactions, finished.config
    store = RunStore.create(tmp_path / "other", config, log, finished.store.data_facts, {})
    outcome = rsir.recurse(other, log, config, store)
    assert outcome["chosen_round"] == finished.chosen_round()
    for mine, theirs in zip(store.arms("rounds"), finished.store.arms("rounds"), strict=True):
        weights = [(folder.folder / "model.safetensors").read_bytes() for folder in (mine, theirs)]
        assert weights[0] == weights[1]
        assert mine.record()["valid"] == theirs.record()["valid"]
    for k in (1, 2):
        frames = [folder.arm("rounds", k).frame("synthetic") for folder in (store, finished.store)]
        assert frames[0].equals(frames[1])
    assert store.arm("rounds", 0).test() != finished.store.arm("rounds", 0).test()


def test_same_seed_same_numbers_other_seed_other_numbers(finished: Run, tmp_path: Path) -> None:
    again = rsir.run(None, tmp_path / "again", rounds=2, config=tiny())
    assert figures(again) == figures(finished)
    other = rsir.run(None, tmp_path / "other", rounds=0, config=tiny("seed=1"))
    assert figures(other)["rounds"][0]["valid"] != figures(finished)["rounds"][0]["valid"]


def test_rounds_0_is_the_base_alone(tmp_path: Path) -> None:
    summary = rsir.run(None, tmp_path / "base", rounds=0, config=tiny()).summary()
    assert (summary["chosen_round"], summary["stop_reason"], summary["control"]) == (0, "completed", [])
    assert summary["rounds"][0]["test"] is not None


@pytest.mark.parametrize(
    ("settings", "ending"),
    [
        (["generation.min_length=50"], Ending.NOTHING_ADMITTED),
        (["recursion.patience=1", "recursion.warm_learning_rate=1e-9"], Ending.SATURATED),
        (["recursion.collapse=0.05", "recursion.warm_learning_rate=5.0"], Ending.COLLAPSED),
    ],
)
def test_endings_are_values_with_advice(tmp_path: Path, settings: list[str], ending: Ending) -> None:
    run = rsir.run(None, tmp_path / "run", rounds=4, config=tiny(*settings, "training.max_periods=3"))
    summary = run.summary()
    assert summary["stop_reason"] == ending.value
    assert summary["advice"] == ADVICE[ending]
    assert len(summary["rounds"]) < 5


def test_cold_start_and_no_control(tmp_path: Path) -> None:
    config = tiny("recursion.start=cold", "recursion.control=false", "recursion.synthetic_weight=0.5")
    summary = rsir.run(None, tmp_path / "run", rounds=1, config=config).summary()
    assert summary["control"] == []
    assert len(summary["rounds"]) == 2


def test_leakage_is_measured_on_simulated_users(finished: Run) -> None:
    facts = finished.store.arm("rounds", 1).generation()
    assert facts is not None
    assert 0 <= facts["leakage"]["synthetic"] <= 1
    assert facts["leakage"]["observed"] < facts["leakage"]["uniform"]


class Plug(BaseException):
    """Stands for a power cut."""


@pytest.mark.parametrize("writes", [1, 4, 6, 9, 13, 20, 26, 33])
def test_a_cut_at_any_write_changes_no_number(
    writes: int, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop when the n-th file of the run is about to take its place; go on; compare everything."""
    left = writes
    real = os.replace

    def cut(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Plug
        real(source, target)

    folder = tmp_path / "cut"
    monkeypatch.setattr(rsir.files.os, "replace", cut)
    stopped = False
    try:
        rsir.run(None, folder, rounds=2, config=tiny())
    except Plug:
        stopped = True
    monkeypatch.undo()
    assert stopped
    if not (folder / "data.json").exists():
        assert not folder.exists()
        return
    assert figures(rsir.resume(folder)) == figures(finished)
    assert not list(folder.rglob("*.part"))


def start_or_resume(folder: Path) -> None:
    """What a process does that is begun again and again."""
    torch.set_num_threads(1)
    if folder.exists():
        rsir.resume(folder)
    else:
        rsir.run(None, folder, rounds=2, config=tiny())


def test_kill_9_again_and_again(finished: Run, tmp_path: Path) -> None:
    """One run, killed at five moments and resumed each time, ends with the same numbers."""
    folder = tmp_path / "killed"
    processes = multiprocessing.get_context("forkserver")  # forks of one that has loaded a lot
    processes.set_forkserver_preload(["rsir", "rsir.steps", "torch._dynamo"])
    signs = [
        "rounds/0/checkpoint.safetensors",
        "rounds/0/round.json",
        "rounds/1/generation.json",
        "control/1/model.safetensors",
        "rounds/2/synthetic.parquet",
    ]
    for sign in signs:
        process = processes.Process(target=start_or_resume, args=(folder,))
        process.start()
        deadline = time.monotonic() + 120
        while not (folder / sign).exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        assert (folder / sign).exists()
        process.kill()
        process.join()
    last = processes.Process(target=start_or_resume, args=(folder,))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert figures(Run.open(folder)) == figures(finished)


def test_a_folder_in_use_is_left_alone(finished: Run) -> None:
    with locked(finished.folder), pytest.raises(StoreError, match="another process"):
        rsir.resume(finished.folder)


def test_resuming_a_finished_run_does_nothing(finished: Run) -> None:
    before = {
        path: path.stat().st_mtime_ns
        for path in finished.folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert figures(rsir.resume(finished.folder)) == figures(finished)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_files_are_plain(finished: Run) -> None:
    assert json.loads((finished.folder / "result.json").read_text())["chosen_round"] in (0, 1, 2)
    lines = (finished.folder / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["split"] for line in lines} == {"valid", "test"}
    assert load_config(finished.folder / "config.toml") == finished.config
    cases = finished.store.arm("rounds", 0).frame("test")
    assert {"user", "target", "rank", "history_length", "target_count"} <= set(cases.columns)
    assert cases["user"].to_list() == finished.interactions.users.ids_of(finished.split().test.user).to_list()


def test_recommend_gives_real_ids_and_nothing_seen(finished: Run) -> None:
    user = finished.interactions.users.ids[3]
    best = finished.recommend(users=[user], n=5)
    seen = finished.interactions.to_frame().filter(pl.col("user_id") == user)["item_id"]
    assert best["user"].to_list() == [user] * 5
    assert not set(best["item"]) & set(seen)
    assert best["score"].is_sorted(descending=True)
    same = finished.recommend(histories=[seen.to_list()], n=5)
    assert same["item"].to_list() == best["item"].to_list()
