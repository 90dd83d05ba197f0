"""`rsir bench` as typed: what it prints, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.words import Outcome

COMMON = {"benchmark", "date", "commit", "machine", "load_average", "data"}
RIVALS = {
    "generation": {"row_loop", "dense"},
    "training": {"plain"},
    "evaluation": {"sorting"},
}
FIGURES = {
    "generation": {
        "equal_to_oracle",
        "rollouts_per_second",
        "steps_per_second",
        "speedup_vs_row_loop",
        "speedup_vs_dense",
        "matrix_rate_fraction",
        "peak_rss_bytes",
        "four_times_the_rollouts",
    },
    "training": {
        "seconds_per_pass",
        "predictions_per_second",
        "speedup_vs_plain",
        "matrix_rate_fraction",
        "peak_rss_bytes",
    },
    "evaluation": {
        "seconds",
        "cases_per_second",
        "share_of_epoch",
        "speedup_vs_sorting",
        "matrix_rate_fraction",
        "peak_rss_bytes",
    },
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Thirty users of seven events each."""
    rows = [f"u{u},i{(u * 5 + t * t) % 23},{t}" for u in range(30) for t in range(7)]
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("stage", FIGURES)
def test_one_object_with_figures_rivals_and_ratios(
    call: Callable[..., Outcome], log: Path, stage: str
) -> None:
    outcome = call("bench", stage, "--data", log, "--dim", 8, "--quick", "--quiet", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found.keys() >= COMMON | FIGURES[stage] | {"rivals"}
    assert found["rivals"].keys() == RIVALS[stage]
    assert found["benchmark"] == stage
    assert found["data"]["name"] == "log.csv"
    assert found["data"]["items"] == 23
    assert 0 < sum(found["profile"].values()) <= 1.001
    figures = [
        value for name, value in found.items() if name in FIGURES[stage] and not isinstance(value, dict)
    ]
    assert all(value > 0 for value in figures)


def test_generation_equals_the_oracle_and_its_rivals(call: Callable[..., Outcome]) -> None:
    words = ("--dim", 8, "--rollouts", 2, "--max-rank", 7, "--seed", 3, "--quick", "--json")
    outcome = call("bench", "generation", *words)
    found = json.loads(outcome.out)
    assert "oracle" in outcome.err
    assert found["equal_to_oracle"] is True
    assert found["oracle_sources"] == 10
    assert found["rollouts"] == 2 * found["data"]["sequences"]
    assert found["four_times_the_rollouts"]["rollouts"] == 4 * found["rollouts"]
    assert found["settings"] == {"dim": 8, "passes": 1, "rollouts": 2, "max_rank": 7}
    assert all(rival["same_rollouts"] > 0.9 for rival in found["rivals"].values())


def test_generation_that_differs_is_found_out(
    call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsir.bench import generation

    true = generation.generate
    monkeypatch.setattr(
        generation, "generate", lambda *given, **named: true(*given, **{**named, "seed": named["seed"] + 1})
    )
    found = json.loads(call("bench", "generation", "--dim", 8, "--quick", "--json").out)
    assert found["equal_to_oracle"] is False


def test_large_catalogues_are_measured_in_a_process_of_their_own(call: Callable[..., Outcome]) -> None:
    words = ("--items", 300, "--sources", 20, "--dim", 8, "--threads", 1)
    found = json.loads(call("bench", "generation", *words, "--json").out)
    assert found["equal_to_oracle"] is True
    assert (found["data"]["items"], found["data"]["sequences"]) == (300, 20)


def test_ingest_reads_the_same_events_twice(call: Callable[..., Outcome], log: Path) -> None:
    found = json.loads(call("bench", "ingest", "--data", log, "--quiet", "--json").out)
    assert {reader: facts["events"] for reader, facts in found["log"].items()} == {"rsir": 210, "pandas": 210}
    assert found["speedup_vs_pandas_log"] > 0


def test_facts_for_people(call: Callable[..., Outcome], log: Path) -> None:
    out = call("bench", "evaluation", "--data", log, "--dim", 8, "--quick").out
    assert "share of epoch: " in out
    assert "cases per second: " in out


REFUSALS = {
    "no log": ("generation --data nowhere.csv", "nowhere.csv: no such file"),
    "no log to read": ("ingest --data nowhere.csv", "nowhere.csv: no such file"),
    "odd width": ("training --dim 7 --quick", "it must be a multiple of num_heads"),
    "no rollouts": ("generation --rollouts 0", "--rollouts"),
    "no rank": ("generation --max-rank 0", "--max-rank"),
    "two sizes": ("generation --items 10 --data log.csv", "leave them or --data out"),
    "no rivals": ("training --quick --rivals nowhere", "call make rivals"),
    "share": ("training --share 2", "--share"),
    "device": ("evaluation --device tpu", "choose auto, cpu or cuda"),
    "unknown flag": ("evaluation --epochz 2", "--epochz"),
}


@pytest.mark.parametrize(("words", "says"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(call: Callable[..., Outcome], words: str, says: str) -> None:
    outcome = call("bench", *words.split(), "--quiet")
    assert outcome.code == 2
    assert outcome.out == ""
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
