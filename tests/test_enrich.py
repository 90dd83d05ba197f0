"""The enriched data set: training events and synthetic sequences, never a held-out event."""

import shutil
from pathlib import Path

import polars as pl
import pytest

import rsir
from rsir.data.read import ReadConfig
from rsir.data.sequences import Sequences
from rsir.data.synthetic import from_frame
from rsir.data.write import check_suffix, write_log
from rsir.enrich import enrich, events_frame
from rsir.errors import DataError

SMALL = [
    "simulation.num_users=60",
    "simulation.num_items=60",
    "simulation.num_topics=3",
    "simulation.max_events=20",
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=2",
    "training.min_period=1",
    "recursion.rounds=1",
    "recursion.control=false",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> rsir.Run:
    config = rsir.load_config(overrides=SMALL)
    return rsir.run(None, tmp_path_factory.mktemp("enrich") / "run", config=config, device="cpu")


def by_user(frame: pl.DataFrame) -> dict[str, list[str]]:
    rows = frame.group_by("user_id", maintain_order=True).agg("item_id")
    return dict(rows.iter_rows())


def test_observed_events_are_the_training_events_and_no_others(run: rsir.Run) -> None:
    frame = enrich(run)
    observed = by_user(frame.filter(origin="observed"))
    log = by_user(run.interactions.to_frame())
    assert observed == {user: items[:-2] for user, items in log.items() if items[:-2]}


def test_times_of_observed_events_are_the_log_s(run: rsir.Run) -> None:
    observed = enrich(run).filter(origin="observed").select("user_id", "item_id", "timestamp")
    log = run.interactions.to_frame().with_columns(pl.col("user_id").cast(pl.String))
    assert len(observed.join(log, on=observed.columns, how="anti")) == 0


def test_generation_never_sees_held_out_events(run: rsir.Run, tmp_path: Path) -> None:
    """With all held-out events replaced by one item, the result is the same to the last row."""
    shutil.copytree(run.folder, tmp_path / "run")
    log = run.interactions
    item = log.item.clone()
    last = log.ragged.offsets[1:]
    held = last - 2
    train = run.split().train.item_counts()
    known = int(train.argmax())
    item[held], item[last - 1] = known, known
    shutil.rmtree(tmp_path / "run" / "data")
    from dataclasses import replace

    replace(log, item=item).save(tmp_path / "run" / "data")
    assert enrich(rsir.Run.open(tmp_path / "run")).equals(enrich(run))


def test_synthetic_sequences_are_traceable_and_stand_alone(run: rsir.Run) -> None:
    frame = enrich(run)
    made = frame.filter(origin="synthetic")
    k = run.chosen_round() + 1
    assert len(made)
    assert set(made["user_id"]).isdisjoint(frame.filter(origin="observed")["user_id"])
    expected = made["source_user"].cast(pl.String) + f"#r{k}."
    assert made.select(pl.col("user_id").str.starts_with(expected))["user_id"].all()
    log = run.interactions.to_frame()
    starts = dict(log.group_by("user_id", maintain_order=True).agg(pl.col("item_id").first()).iter_rows())
    for user, rows in made.group_by("user_id"):
        assert rows["source_user"].n_unique() == 1
        assert rows["item_id"][0] == starts[rows["source_user"][0]], user
        assert rows["timestamp"].is_sorted()
        assert rows["timestamp"].n_unique() == len(rows) >= 3
    assert enrich(run, only_synthetic=True).equals(made)


def test_the_first_pass_of_the_base_is_what_the_run_admitted(run: rsir.Run) -> None:
    made = by_user(enrich(run, round_index=0, only_synthetic=True))
    kept = run.store.arm("rounds", 1).frame("synthetic")
    assert list(made.values()) == kept["items"].to_list()


def test_settings_and_seed_change_the_pass(run: rsir.Run) -> None:
    config = rsir.load_config(overrides=[*SMALL, "generation.num_rollouts=1"])
    one = enrich(run, config=config, only_synthetic=True)
    assert one.group_by("source_user").agg(pl.col("user_id").n_unique())["user_id"].max() == 1
    other = rsir.load_config(overrides=[*SMALL, "seed=9"])
    assert not enrich(run, config=other).equals(enrich(run))


def test_all_of_the_data_as_sources(run: rsir.Run) -> None:
    config = rsir.load_config(overrides=[*SMALL, "generation.sources='all'"])
    more = enrich(run, round_index=1, config=config, only_synthetic=True)
    less = enrich(run, round_index=1, only_synthetic=True)
    assert more["user_id"].n_unique() > less["user_id"].n_unique()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".txt", ".inter"])
def test_every_format_reads_back_to_the_same_sequences(run: rsir.Run, tmp_path: Path, suffix: str) -> None:
    frame, path = enrich(run), tmp_path / f"enriched{suffix}"
    write_log(frame, path, check_suffix(path))
    log = rsir.read_log(path, ReadConfig(user_column=None))
    assert by_user(log.to_frame()) == by_user(frame)
    assert (log.time is None) == (suffix == ".txt")


def test_a_log_without_times_is_numbered(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"user_id": [u for u in range(20) for _ in range(6)], "item_id": [i % 9 for i in range(120)]}
    )
    config = rsir.load_config(overrides=[*SMALL, "recursion.rounds=0"])
    frame = enrich(rsir.run(log, tmp_path / "run", config=config, device="cpu"))
    assert frame["timestamp"].to_list()[:4] == [0, 1, 2, 3]
    assert frame["user_id"].dtype == pl.String
    assert frame["source_user"].dtype == frame["item_id"].dtype == pl.Int64


def test_ids_with_spaces_are_refused_as_lines(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["a", "b c"], "item_id": [1, 2]})
    with pytest.raises(DataError, match="user_id 'b c' holds white space"):
        write_log(frame, tmp_path / "x.txt", ".txt")


def test_inter_has_typed_names_and_nothing_else(run: rsir.Run, tmp_path: Path) -> None:
    frame, path = enrich(run), tmp_path / "enriched.inter"
    write_log(frame, path, check_suffix(path))
    lines = path.read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert len(lines) == len(frame) + 1
    assert lines[1].split("\t") == [str(value) for value in frame.row(0)[:3]]


def test_inter_has_dates_as_seconds(tmp_path: Path) -> None:
    times = pl.Series([0, 1_500_000]).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"user_id": ["a", "a"], "item_id": [1, 2], "timestamp": times})
    write_log(frame, tmp_path / "x.inter", ".inter")
    stamps = [line.split("\t")[2] for line in (tmp_path / "x.inter").read_text().splitlines()[1:]]
    assert [float(stamp) for stamp in stamps] == [0, 1.5]


def test_ids_that_inter_cannot_hold_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["x", 'the "best"'], "timestamp": [1, 2]})
    with pytest.raises(DataError, match="item_id 'the \"best\"' holds a tab, the end of a line or a double"):
        write_log(frame, tmp_path / "x.inter", ".inter")


def test_events_of_mixed_sequences_are_those_of_the_enriched_set(run: rsir.Run) -> None:
    k = run.chosen_round()
    observed = run.split().train
    made = from_frame(run.store.arm("rounds", 1).frame("synthetic"), run.interactions, observed)
    frame = events_frame(run.interactions, Sequences.concat([observed, made]))
    assert frame.filter(origin="observed").equals(enrich(run, round_index=k).filter(origin="observed"))
    assert by_user(frame.filter(origin="synthetic")) == by_user(
        enrich(run, round_index=0, only_synthetic=True)
    )
