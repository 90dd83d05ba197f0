"""Control arms: each gets what it should, on disk, in JSON and in the report, and a stop changes nothing."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import rsir
from rsir.cli import main
from rsir.config import Config, load_config
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.errors import ConfigError
from rsir.evidence.audit import audit
from rsir.evidence.controls import augmented, crop, duplicates, insert, reorder
from rsir.ragged import Ragged
from rsir.report import write_report
from rsir.rng import hash_scalar, uniform
from rsir.run import Run

V = 30
ROWS = [[hash_scalar(u, t) % V for t in range(1 + u % 9)] for u in range(50)]
TRAIN = Sequences.observed(Ragged.from_lists(ROWS), V, torch.arange(50) + 100)
BIGRAMS = {pair for row in ROWS for pair in zip(row, row[1:], strict=False)}
KEYS = {"seed": 3, "round_index": 2}


def draw(purpose: str, *keys: torch.Tensor) -> torch.Tensor:
    return uniform(7, purpose, *keys)


def test_duplicates_are_observed_sequences_as_even_as_can_be() -> None:
    usable = [row for row in ROWS if len(row) > 1]
    for count in (5, len(usable), 2 * len(usable) + 3):
        made = duplicates(TRAIN, count, **KEYS)
        assert len(made) == count
        taken = Counter(made.source.tolist())
        assert max(taken.values()) - (min(taken.values()) if len(taken) == len(usable) else 0) <= 1
        assert made.events.tolists() == [ROWS[s] for s in made.source.tolist()]
        assert made.user.tolist() == [100 + s for s in made.source.tolist()]
        assert set(made.round_index.tolist()) == {2}
    assert (
        duplicates(TRAIN, 9, **KEYS).source.tolist()
        != duplicates(TRAIN, 9, seed=4, round_index=2).source.tolist()
    )


def test_crops_are_stretches() -> None:
    rows = TRAIN.events
    for old, new in zip(ROWS, crop(rows, draw).tolists(), strict=True):
        assert len(new) == min(len(old), max(2, round(len(old) * 0.6)))
        assert any(old[i : i + len(new)] == new for i in range(len(old)))


def test_reorderings_keep_the_items_and_move_one_stretch() -> None:
    changed = 0
    for old, new in zip(ROWS, reorder(TRAIN.events, draw).tolists(), strict=True):
        assert Counter(old) == Counter(new)
        moved = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        assert not moved or moved[-1] - moved[0] < max(2, round(len(old) * 0.5))
        changed += bool(moved)
    assert changed > 15


def test_an_inserted_item_followed_its_neighbour_somewhere() -> None:
    follows = 0
    for old, new in zip(ROWS, insert(TRAIN.events, draw, TRAIN).tolists(), strict=True):
        places = [i for i in range(1, len(new)) if new[:i] + new[i + 1 :] == old]
        assert places
        follows += any((new[i - 1], new[i]) in BIGRAMS for i in places)
    assert follows >= 48, "an item that nothing follows gets any"


def test_augmented_sequences_are_a_third_of_each_kind() -> None:
    made = augmented(TRAIN, 600, **KEYS)
    source = [ROWS[s] for s in made.source.tolist()]
    kinds = Counter(
        (len(a) > len(b)) - (len(a) < len(b)) for a, b in zip(made.events.tolists(), source, strict=True)
    )
    assert kinds[1] == pytest.approx(200, abs=40), "inserted"
    assert kinds[-1] > 100, "cropped"
    assert torch.equal(made.events.values, augmented(TRAIN, 600, **KEYS).events.values)


def test_names_of_arms() -> None:
    def arms(text: str) -> Any:
        return load_config(overrides=[f"recursion.control={text}"]).recursion.control

    assert (arms("true"), arms("false"), arms("[]"), arms("none")) == (("updates",), (), (), ())
    assert arms('["duplicates", "updates"]') == arms("duplicates, updates") == ("duplicates", "updates")
    for wrong in ("copies", '["updates", "updates"]'):
        with pytest.raises(ConfigError, match=r"recursion\.control"):
            arms(wrong)


WORLD = SimulationConfig(num_users=90, num_items=60, num_topics=4, max_events=15)
ALL = ("updates", "duplicates", "unverified", "augmented")
SMALL = [
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=1",
    "training.min_period=1",
    "training.learning_rate=1e-2",
    "recursion.rounds=2",
    "recursion.collapse=none",
    f"recursion.control={','.join(ALL)}",
]


def config() -> Config:
    return load_config(overrides=SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controls") / "run"
    rsir.run(simulate(WORLD, seed=1).frame, folder, config=config(), device="cpu")
    return folder


def test_every_arm_gets_as_much_and_as_long(made: Path) -> None:
    summary = Run.open(made).summary()
    assert list(summary["controls"]) == ["augmented", "duplicates", "unverified"]
    for k in (1, 2):
        mine = summary["rounds"][k]
        for name, rows in {"updates": summary["control"], **summary["controls"]}.items():
            row = rows[k - 1]
            assert (row["round"], row["updates"]) == (k, mine["updates"])
            assert row["admitted"] == (0 if name == "updates" else mine["admitted"])
            assert row["origin"] == ("observed" if name in ("updates", "duplicates") else "synthetic")
            assert row["sequences"] == (summary["rounds"][0] if name == "updates" else mine)["sequences"]


def test_unverified_rollouts_had_no_check(made: Path) -> None:
    """Without a check rollouts end only where nothing own is left: they hold all of their source."""
    run = Run.open(made)
    users = run.split().train
    own = dict(zip(run.interactions.users.ids_of(users.user), users.events.tolists(), strict=True))
    items = run.interactions.items
    for row in pl.read_parquet(made / "controls/unverified/1/synthetic.parquet").iter_rows(named=True):
        made_of = set(items.index_of(row["items"]).tolist())
        assert set(own[row["user"]]) <= made_of or len(row["items"]) == run.config.generation.max_length


def test_the_audit_knows_the_controls(made: Path, tmp_path: Path) -> None:
    assert audit(Run.open(made), permutations=9)["checks"]["training_data"] == 14  # four bases and ten
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    path = folder / "controls/duplicates/2/synthetic.parquet"
    pl.read_parquet(path).with_columns(user=pl.col("user").reverse()).write_parquet(path)
    with pytest.raises(rsir.RsirError, match="controls/duplicates/2"):
        audit(Run.open(folder))


def untimed(run: Run) -> dict[str, Any]:
    summary = run.summary()
    for key in ("seconds", "peak_rss_bytes", "run"):
        summary.pop(key)
    for rows in (summary["rounds"], summary["control"], *summary["controls"].values()):
        for row in rows:
            row.pop("seconds")
    return summary


@pytest.mark.parametrize("lost", ["controls/unverified/1/generation.json", "controls/augmented/2/round.json"])
def test_a_stop_changes_no_number(made: Path, tmp_path: Path, lost: str) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    whole = untimed(Run.open(made))
    (folder / "result.json").unlink()
    (folder / lost).unlink()
    (folder / lost).with_name("round.json").unlink(missing_ok=True)
    assert untimed(rsir.resume(folder, device="cpu")) == whole


def test_more_arms_change_no_number_of_the_others(made: Path, tmp_path: Path) -> None:
    alone = load_config(overrides=["recursion.control=true"], base=config().model_dump(mode="json"))
    run = rsir.run(simulate(WORLD, seed=1).frame, tmp_path / "run", config=alone, device="cpu")
    for arm in ("rounds", "control"):
        mine, theirs = untimed(run)[arm], untimed(Run.open(made))[arm]
        assert [row["valid"] for row in mine] == [row["valid"] for row in theirs]


def test_the_report_shows_them_in_a_table(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    write_report(folder)
    text = (folder / "report.md").read_text()
    section = text.partition("## Controls")[2].partition("\n## ")[0]
    for name in ("control", "duplicates", "unverified", "augmented"):
        assert section.count(f"| {name} |") == 2, "NDCG and recall"


def test_as_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [s for s in SMALL if "control" not in s] + ["recursion.rounds=1", "simulation.num_users=90"]
    words = ["run", "--out", str(tmp_path / "run"), "--quiet", *(w for s in settings for w in ("--set", s))]
    assert main([*words, "--controls", "duplicates", "--no-control"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert main([*words, "--controls", "updates,copies"]) == 2
    assert "recursion.control" in capsys.readouterr().err
    assert main([*words, "--controls", "updates,duplicates", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["round"] for row in summary["control"]] == [1]
    assert list(summary["controls"]) == ["duplicates"]
    words = [
        "compare",
        str(tmp_path / "run"),
        "--within",
        "--round",
        "1",
        "--split",
        "valid",
        "--samples",
        "99",
    ]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [c["a"] for c in found["comparisons"]] == ["control", "duplicates", "base"]
