"""Other runs as teachers, and soft targets in the loop."""

from pathlib import Path

import pytest
import torch

import rsir
import rsir.recursion
from rsir.config import Config, load_config
from rsir.errors import ConfigError
from rsir.evidence.provenance import prove
from rsir.run import Run

TINY = [
    "simulation.num_users=100",
    "simulation.num_items=50",
    "simulation.num_topics=5",
    "simulation.max_events=12",
    "model.dim=16",
    "training.batch_size=32",
    "training.learning_rate=5e-3",
    "training.min_period=4",
    "training.max_periods=3",
    "generation.num_rollouts=2",
]


def tiny(*more: str) -> Config:
    return load_config(overrides=[*TINY, *more])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return rsir.run(None, tmp_path_factory.mktemp("teacher") / "run", rounds=0, config=tiny())


def test_a_teacher_generates_for_another_model(
    teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = rsir.recursion.generate

    def spy(model: torch.nn.Module, *args: object, **options: object) -> object:
        seen.append(next(model.parameters()).shape[1])
        return original(model, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rsir.recursion, "generate", spy)
    config = tiny(f"recursion.teachers=['{teacher.folder}']", "model.dim=8")
    run = rsir.run(None, tmp_path / "pupil", rounds=1, config=config)
    assert seen == [16]
    assert run.summary()["rounds"][1]["admitted"] > 0
    assert run.summary()["bases"] == teacher.summary()["bases"] == []  # they would write nothing


def test_several_teachers_speak_as_one(teacher: Run, tmp_path: Path) -> None:
    other = rsir.run(None, tmp_path / "other", rounds=0, config=tiny("model.name=gru4rec", "model.dim=16"))
    both = f"recursion.teachers=['{teacher.folder}','{other.folder}']"
    run = rsir.run(None, tmp_path / "pupil", rounds=1, config=tiny(both, "recursion.soft_synthetic=1"))
    assert run.summary()["rounds"][1]["admitted"] > 0


def test_soft_targets_change_round_and_control_but_not_the_base(teacher: Run, tmp_path: Path) -> None:
    plain = rsir.run(None, tmp_path / "plain", rounds=1, config=tiny())
    soft = rsir.run(None, tmp_path / "soft", rounds=1, config=tiny("recursion.soft_observed=0.5"))
    for arm, k, same in (("rounds", 0, True), ("rounds", 1, False), ("control", 1, False)):
        weights = [(run.store.arm(arm, k).folder / "model.safetensors").read_bytes() for run in (plain, soft)]
        assert (weights[0] == weights[1]) == same


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["split.kind=global_time"], "another split"),
        (["seed=1"], "another log"),
        (["model.max_length=60"], "reads 50 events"),
    ],
)
def test_a_teacher_that_may_know_held_out_events_is_refused(
    teacher: Run, tmp_path: Path, settings: list[str], words: str
) -> None:
    config = tiny(f"recursion.teachers=['{teacher.folder}']", *settings)
    with pytest.raises(ConfigError, match=words):
        rsir.run(None, tmp_path / "pupil", rounds=1, config=config)
    assert not (tmp_path / "pupil").exists()


def test_bases_of_other_seeds_teach_beside(tmp_path: Path) -> None:
    how = ["recursion.bases=2", "recursion.soft_synthetic=1", "recursion.dropout_share=0.2"]
    config = tiny(*how, "recursion.control=updates,plain", "recursion.soft_observed=0.9")
    run = rsir.run(None, tmp_path / "two", rounds=1, config=config)
    base, other = run.store.arm("rounds", 0), run.store.arm("bases", 1)
    weights = [(folder.folder / "model.safetensors").read_bytes() for folder in (base, other)]
    assert weights[0] != weights[1]
    summary = run.summary()
    assert len(summary["bases"]) == 1
    assert prove(run).checks["training_data"] == 5  # two bases, the round, two controls
    assert summary["rounds"][1]["valid"] != summary["control"][0]["valid"]
    assert summary["controls"]["plain"][0]["valid"] != summary["control"][0]["valid"]


def test_successors_may_be_wider_than_their_base(tmp_path: Path) -> None:
    """Rounds and controls are 24 wide, bases 16; what is kept can be read, used and gone on with."""
    how = ["recursion.bases=2", "recursion.soft_observed=0.9", "recursion.control=updates,plain"]
    config = tiny(*how, "recursion.start=auto", "recursion.dim=24")
    run = rsir.run(None, tmp_path / "wide", rounds=2, config=config)
    arms = [("rounds", 0), ("bases", 1), ("rounds", 1), ("rounds", 2), ("control", 1), ("controls/plain", 1)]
    widths = [run.model(k, arm).item_vectors().shape[1] for arm, k in arms]
    assert widths == [16, 16, 24, 24, 24, 24]
    assert run.config.recursion.start == "cold"
    assert len(run.recommend(histories=[["i00", "i01"]], n=3)) == 3
    control = run.folder / "control" / "1"
    weights = (control / "model.safetensors").read_bytes()
    (control / "round.json").unlink()
    (run.folder / "result.json").unlink()
    run = rsir.resume(run.folder)
    assert (control / "model.safetensors").read_bytes() == weights
    assert prove(run).checks["training_data"] == 9  # three bases, two rounds, each with two controls


def test_a_width_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recursion\.dim = 17, but dim is 17; .*num_heads"):
        rsir.run(None, tmp_path / "odd", rounds=1, config=tiny("recursion.start=cold", "recursion.dim=17"))
    assert not (tmp_path / "odd").exists()
    with pytest.raises(ConfigError, match="begin afresh"):
        rsir.run(None, tmp_path / "x", rounds=1, config=tiny("recursion.start=warm", "recursion.dim=24"))
    assert not (tmp_path / "x").exists()


def test_the_plain_control_is_the_control_of_a_run_without_teachers(tmp_path: Path) -> None:
    soft = ["recursion.bases=2", "recursion.soft_observed=0.9", "recursion.control=plain"]
    taught = rsir.run(None, tmp_path / "taught", rounds=1, config=tiny(*soft))
    usual = rsir.run(None, tmp_path / "usual", rounds=1, config=tiny())
    plain, control = taught.store.arm("controls/plain", 1), usual.store.arm("control", 1)
    assert plain.record()["updates"] == control.record()["updates"]  # max_periods ends both rounds
    assert plain.record()["valid"] == control.record()["valid"]


def test_less_dropout_is_for_those_with_more_to_learn_from(tmp_path: Path) -> None:
    """The successor and a control with as many sequences; not the control that adds nothing."""
    both = "recursion.control=updates,duplicates"
    narrow, as_base = (
        rsir.run(None, tmp_path / str(share), rounds=1, config=tiny(both, f"recursion.dropout_share={share}"))
        for share in (0.2, 1.0)
    )
    arms = {"rounds": 1, "control": 1, "controls/duplicates": 1}
    differ = {
        arm: narrow.store.arm(arm, k).record()["valid"] != as_base.store.arm(arm, k).record()["valid"]
        for arm, k in arms.items()
    }
    assert differ == {"rounds": True, "control": False, "controls/duplicates": True}
    assert narrow.store.arm("rounds", 0).record()["valid"] == as_base.store.arm("rounds", 0).record()["valid"]
