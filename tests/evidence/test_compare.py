"""Comparisons of runs: known answers on stored ranks, arms and seeds, refusals that name the field."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rsir
from rsir.cli import main
from rsir.config import to_toml
from rsir.data.simulate import SimulationConfig, simulate
from rsir.errors import ConfigError, DataError, StoreError
from rsir.evidence.arms import sort_into_arms
from rsir.evidence.compare import Sampling, compare_runs

WORLD = SimulationConfig(num_users=90, num_items=60, num_topics=4, max_events=15)
SMALL = [
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=1",
    "training.min_period=1",
    "recursion.rounds=1",
    "recursion.collapse=none",
    "generation.max_rank=30",
    "evaluation.cutoffs=[5, 10]",
]
QUICK = Sampling(num_samples=400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configurations under two seeds, on one log."""
    folder = tmp_path_factory.mktemp("compare")
    frame = simulate(WORLD, seed=1).frame
    for name, more in (("one", []), ("two", ["recursion.synthetic_weight=0.5"])):
        for seed in (3, 4):
            config = rsir.load_config(overrides=[*SMALL, *more, f"seed={seed}"])
            rsir.run(frame, folder / f"{name}-{seed}", config=config, device="cpu")
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """Copies to change."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def set_ranks(folder: Path, arm: str, k: int, ranks: Callable[[int], float], part: str = "test") -> None:
    """Store other ranks for a model: a function of the number of the case."""
    where = folder / arm / str(k)
    frame = pl.read_parquet(where / "valid.parquet" if part == "valid" else folder / "rounds/0/test.parquet")
    frame.with_columns(rank=pl.Series([ranks(n) for n in range(len(frame))])).write_parquet(
        where / f"{part}.parquet"
    )


def set_chosen(folder: Path, k: int) -> None:
    path = folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chosen_round": k}))


def test_two_runs_are_two_arms_with_the_known_difference(runs: Path) -> None:
    """A hits a quarter of the cases at rank 1, B half of them."""
    for name, share in (("one-3", 4), ("two-3", 2)):
        set_chosen(runs / name, 0)
        set_ranks(runs / name, "rounds", 0, lambda n, share=share: 1.0 if n % share == 0 else 50.0)
    found = compare_runs([runs / "one-3", runs / "two-3"], sampling=QUICK)
    record = found["metrics"]["recall@10"]
    hits = [sum(n % share == 0 for n in range(90)) / 90 for share in (4, 2)]
    assert (record["mean_a"], record["mean_b"]) == pytest.approx(hits)
    assert record["difference"] == pytest.approx(hits[1] - hits[0])
    assert record["relative"] == pytest.approx(hits[1] / hits[0] - 1)
    assert 0 < record["low"] < record["difference"] < record["high"]
    assert (record["seeds"], record["users"]) == (1, 90)
    assert record["p"] == pytest.approx(2 / 401)
    assert record["p_holm"] == pytest.approx(4 * 2 / 401), (
        "NDCG and recall at two cutoffs: four in the family"
    )
    assert set(found["metrics"]) == {"ndcg@5", "recall@5", "ndcg@10", "recall@10"}


def test_buckets_know_where_it_falls(runs: Path) -> None:
    frame = pl.read_parquet(runs / "one-3/rounds/0/test.parquet")
    long = (frame["history_length"] > 5).to_list()
    for name in ("one-3", "two-3"):
        set_chosen(runs / name, 0)
    set_ranks(runs / "one-3", "rounds", 0, lambda n: 50.0)
    set_ranks(runs / "two-3", "rounds", 0, lambda n: 1.0 if long[n] else 50.0)
    (one,) = compare_runs([runs / "one-3", runs / "two-3"], sampling=QUICK)["comparisons"]
    for row in one["by_history_length"]:
        expected = 1.0 if int(row["bucket"].split("-")[0].rstrip("+")) > 5 else 0.0
        assert row["metrics"]["recall@10"]["difference"] == expected
        assert (row["metrics"]["recall@10"]["p"] is None) == (row["users"] < 20)
    for by in ("by_history_length", "by_target_count"):
        assert sum(row["users"] for row in one[by]) == 90


def test_seeds_of_one_configuration_are_one_arm(runs: Path) -> None:
    folders = [runs / name for name in ("one-4", "two-3", "one-3", "two-4")]
    for folder in folders:
        set_chosen(folder, 0)
    arms = sort_into_arms(folders)
    assert [(arm.name, arm.seeds) for arm in arms] == [("one", (3, 4)), ("two", (3, 4))]
    # seed 3: B hits everything where A hits nothing; seed 4: both hit everything
    for name, rank in (("one-3", 50.0), ("two-3", 1.0), ("one-4", 1.0), ("two-4", 1.0)):
        set_ranks(runs / name, "rounds", 0, lambda n, rank=rank: rank)
    found = compare_runs(folders, sampling=QUICK)
    record = found["metrics"]["recall@10"]
    assert (record["mean_a"], record["mean_b"], record["seeds"]) == (0.5, 1.0, 2)
    assert (record["low"], record["high"]) == (0.0, 1.0), "users agree, seeds do not"
    assert found["arms"][1]["settings"] == {"recursion.synthetic_weight": 0.5}
    assert any("2 seeds" in note for note in found["notes"])


def test_within_a_run_its_round_meets_its_control_and_the_base(runs: Path) -> None:
    folder = runs / "one-3"
    set_chosen(folder, 1)
    for arm, k, rank in (("rounds", 1, 1.0), ("control", 1, 3.0), ("rounds", 0, 50.0)):
        set_ranks(folder, arm, k, lambda n, rank=rank: rank)
    found = compare_runs([folder], how="within", sampling=QUICK)
    assert [(c["a"], c["b"]) for c in found["comparisons"]] == [
        ("control", "chosen round"),
        ("base", "chosen round"),
    ]
    assert [c["metrics"]["ndcg@10"]["difference"] for c in found["comparisons"]] == [0.5, 1.0]
    assert found["arms"][0]["figures"]["control"]["ndcg@10"] == 0.5
    both = compare_runs([folder, runs / "one-4"], how="within", which="1", part="valid", sampling=QUICK)
    assert both["metrics"]["ndcg@10"]["seeds"] == 2


def test_by_round_each_meets_its_control_and_its_gain_that_of_the_round_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Round 1 hits a tenth more than its control, round 2 a fifth more."""
    folder = tmp_path / "rounds"
    config = rsir.load_config(overrides=[*SMALL, "recursion.rounds=2", "recursion.patience=none"])
    rsir.run(simulate(WORLD, seed=1).frame, folder, config=config, device="cpu")
    for k, hits in ((1, 33), (2, 36)):
        set_ranks(folder, "control", k, lambda n: 1.0 if n < 30 else 50.0, part="valid")
        set_ranks(folder, "rounds", k, lambda n, hits=hits: 1.0 if n < hits else 50.0, part="valid")
    found = compare_runs([folder], how="by_round", part="valid", sampling=QUICK)
    assert [(c["a"], c["b"]) for c in found["comparisons"]] == [
        ("control 1", "round 1"),
        ("control 2", "round 2"),
    ]
    (step,) = found["growth"]
    record = step["metrics"]["recall@10"]
    assert (step["before"], step["after"]) == (1, 2)
    assert (record["before"], record["after"], record["difference"]) == pytest.approx((0.1, 0.2, 0.1))
    assert 0 <= record["low"] < 0.1 < record["high"]
    assert record["p_holm"] >= record["p"]
    assert main(["compare", str(folder), "--by-round", "--out", str(tmp_path / "page.html")]) == 0
    told = capsys.readouterr().out
    assert "gain of round 2 against that of round 1" in told
    assert "promise too much" in told
    assert "Do gains grow?" in (tmp_path / "page.html").read_text()
    assert main(["compare", str(folder), "--by-round", "--within"]) == 2
    assert main(["compare", str(folder), "--by-round", "--round", "2"]) == 2
    assert main(["compare", str(folder), "--by-round", "--split", "test"]) == 2
    assert "compare --split valid" in capsys.readouterr().err


def test_by_round_needs_controls(tmp_path: Path) -> None:
    config = rsir.load_config(overrides=[*SMALL, "recursion.control=false"])
    rsir.run(simulate(WORLD, seed=1).frame, tmp_path / "alone", config=config, device="cpu")
    with pytest.raises(ConfigError, match="control"):
        compare_runs([tmp_path / "alone"], how="by_round", part="valid")


def test_a_round_where_the_base_was_chosen_counts_as_the_base(runs: Path) -> None:
    """The policy is judged: one seed gains from its round, in the other validation kept the base."""
    set_chosen(runs / "one-3", 1)
    set_chosen(runs / "one-4", 0)
    for arm, k, rank in (("rounds", 1, 1.0), ("control", 1, 50.0), ("rounds", 0, 50.0)):
        set_ranks(runs / "one-3", arm, k, lambda n, rank=rank: rank)
    found = compare_runs([runs / "one-3", runs / "one-4"], how="within", sampling=QUICK)
    assert found["comparisons"][0]["rounds"] == {"a": [1, 0], "b": [1, 0]}
    assert found["metrics"]["recall@10"]["difference"] == pytest.approx(0.5)


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "config.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("cutoffs = [5, 10]", "cutoffs = [10]", "evaluation.cutoffs"),
        ('seen = "mask"', 'seen = "allow"', "evaluation.seen"),
        ('kind = "leave_one_out"', 'kind = "global_time"', "split.kind"),
    ],
)
def test_another_protocol_is_refused_by_name(runs: Path, old: str, new: str, field: str) -> None:
    change(runs / "two-3", old, new)
    with pytest.raises(DataError, match=f"^{field} is "):
        compare_runs([runs / "one-3", runs / "two-3"])


def test_other_data_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "two-3" / "data.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "0" * 64}))
    assert main(["compare", str(runs / "one-3"), str(runs / "two-3"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rsir: error: fingerprint is ")
    assert len(err.splitlines()) == 1


def test_refusals(runs: Path) -> None:
    one, two = runs / "one-3", runs / "two-3"
    with pytest.raises(DataError, match="given twice"):
        compare_runs([one, one])
    with pytest.raises(ConfigError, match="at least two"):
        compare_runs([])
    with pytest.raises(ConfigError, match="seeds of one arm"):
        compare_runs([one])
    with pytest.raises(ConfigError, match="need the same seeds"):
        compare_runs([one, two, runs / "two-4"])
    with pytest.raises(ConfigError, match=r"synthetic_weight is 1\.0 in one-3 and 0\.5"):
        compare_runs([one, two], how="within")
    with pytest.raises(ConfigError, match="did you mean 'ndcg@10'"):
        compare_runs([one, two], metrics=["ndgc@10"])
    set_chosen(one, 0)
    (one / "rounds/1/test.parquet").unlink(missing_ok=True)
    with pytest.raises(DataError, match="was not read for round 1"):
        compare_runs([one, two], which="1")
    with pytest.raises(ConfigError, match="no later round"):
        compare_runs([one], how="within")
    set_ranks(two, "rounds", 0, lambda n: 1.0)
    path = two / "rounds/0/valid.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)
    with pytest.raises(StoreError, match="stored cases"):
        compare_runs([one, two], which="base", part="valid")
    (one / "result.json").unlink()
    with pytest.raises(DataError, match="is not finished"):
        compare_runs([one, two])
    with pytest.raises(DataError, match="test split was not read"):
        compare_runs([one, two], which="base")


def test_json_page_and_markdown_as_typed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *(str(runs / name) for name in ("one-3", "one-4", "two-3", "two-4"))]
    words += ["--round", "1", "--split", "valid", "--samples", "200"]
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    for record in found["metrics"].values():
        assert record.keys() >= {
            *("mean_a", "mean_b", "difference", "relative", "low", "high", "p", "p_holm", "seeds", "users")
        }
        assert record["p"] <= record["p_holm"] <= 1
    for name in ("page.html", "page.md", "page.json"):
        assert main([*words, "--out", str(runs / name)]) == 0
        assert "ndcg@10" in capsys.readouterr().out
    assert json.loads((runs / "page.json").read_text()) == found
    html, text = ((runs / name).read_text() for name in ("page.html", "page.md"))
    assert "<script" not in html
    assert "http" not in html
    for part in ("two against one", "By history length", "recursion.synthetic"):
        assert part in html.replace("\\", "")
        assert part in text.replace("\\", "")
    assert main([*words, "--out", "page.pdf"]) == 2
    assert ".html, .md, .json" in capsys.readouterr().err


def test_simulated_users_of_another_seed_are_other_users(tmp_path: Path) -> None:
    world = [f"simulation.{key}={value}" for key, value in WORLD.model_dump().items() if key != "repeats"]
    for seed in (0, 1):
        settings = [*SMALL, *world, "recursion.rounds=0", f"seed={seed}"]
        rsir.run(None, tmp_path / str(seed), config=rsir.load_config(overrides=settings), device="cpu")
    with pytest.raises(DataError, match="rsir data simulate"):
        compare_runs([tmp_path / "0", tmp_path / "1"])


def test_three_arms_on_one_page(runs: Path) -> None:
    """Arms whose names differ in a digit still have parts of their own."""
    third = Path(shutil.copytree(runs / "two-3", runs / "two-5"))
    change(third, "synthetic_weight = 0.5", "synthetic_weight = 0.25")
    folders = [str(runs / "one-3"), str(runs / "two-3"), str(third)]
    page = runs / "page.html"
    assert (
        main(["compare", *folders, "--round", "1", "--split", "valid", "--samples", "99", "--out", str(page)])
        == 0
    )
    ids = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(ids) == len(set(ids)) > 20
    assert page.read_text().count("Where differences fall: two-") == 4, "headings and links"


def test_one_backbone_has_settings_that_another_lacks(runs: Path) -> None:
    path = runs / "two-3" / "config.toml"
    path.write_text(to_toml(rsir.load_config(path, ["model.name=gru4rec"])))
    folders = [runs / "one-3", runs / "two-3"]
    for folder in folders:
        set_chosen(folder, 0)
    for pair in (folders, folders[::-1]):
        told = compare_runs(pair, sampling=QUICK)["arms"][1]["settings"]
        own, foreign = ("hidden_factor", "num_heads") if pair is folders else ("num_heads", "hidden_factor")
        assert told["model.name"] == ("gru4rec" if pair is folders else "sasrec")
        assert f"model.{own}" in told
        assert f"model.{foreign}" not in told
    with pytest.raises(ConfigError, match=r"model\.name is 'sasrec' in one-3 and 'gru4rec' in two-3"):
        compare_runs(folders, how="within", sampling=QUICK)


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    return set(value).union(*(keys(inner) for name, inner in value.items() if name != "settings"))


def test_the_document_names_every_key(runs: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    told = set(re.findall(r"`([^`\s]+)`", text.partition("## `rsir compare --json`")[2]))
    found = compare_runs([runs / "one-3", runs / "two-3"], which="1", part="valid", sampling=QUICK)
    assert {key for key in keys(found) if "@" not in key} - {"control"} <= told
