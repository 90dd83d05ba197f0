import json

import polars as pl
import pytest

from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame, from_sequences
from rsir.errors import StoreError

LOG = pl.DataFrame(
    {"user_id": ["b", "a", "b", "a"], "item_id": ["x", "y", "z", "x"], "timestamp": [5, 1, 2, 1]}
)


def same_but(**columns: list) -> str:
    return from_frame(LOG.with_columns(**{k: pl.Series(v) for k, v in columns.items()})).fingerprint


def test_events_are_sorted_by_user_and_time_and_ties_keep_file_order():
    log = from_frame(LOG)
    assert log.users.ids.to_list() == ["b", "a"]
    assert log.items.ids.to_list() == ["x", "y", "z"]
    assert log.ragged.tolists() == [[2, 0], [1, 0]]
    assert log.time.tolist() == [2, 5, 1, 1]


def test_to_frame_gives_the_external_ids_back():
    rows = from_frame(LOG).to_frame().rows()
    assert rows == [("b", "z", 2), ("b", "x", 5), ("a", "y", 1), ("a", "x", 1)]


def test_sequences_are_observed_and_belong_to_their_user():
    sequences = from_frame(LOG).sequences()
    assert sequences.user.tolist() == [0, 1]
    assert sequences.num_items == 3
    assert sequences.round_index.tolist() == [0, 0]


def test_fingerprint_changes_with_every_part_of_the_log():
    prints = [
        from_frame(LOG).fingerprint,
        from_frame(LOG, ReadConfig(file_order=True)).fingerprint,
        same_but(user_id=["c", "a", "c", "a"]),
        same_but(item_id=["x", "y", "w", "x"]),
        same_but(item_id=["x", "y", "x", "x"]),
        same_but(timestamp=[5, 1, 3, 1]),
        same_but(timestamp=[1, 1, 2, 1]),
        from_sequences([["ab", "c"], ["c"]]).fingerprint,
        from_sequences([["a", "bc"], ["bc"]]).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


def test_fingerprint_is_of_the_content_not_the_types():
    assert same_but(timestamp=[5.0, 1.0, 2.0, 1.0]) == from_frame(LOG).fingerprint
    numbers = LOG.with_columns(user_id=pl.Series([2, 1, 2, 1]))
    assert from_frame(numbers).fingerprint == same_but(user_id=["2", "1", "2", "1"])


@pytest.mark.parametrize(
    "times", [[5, 1, 2, 1], [5.5, 1.0, 2.0, 1.0], ["2024-05-01", "2024-01-01"] * 2, None]
)
def test_save_and_load_give_the_same_log(tmp_path, times):
    frame = LOG.drop("timestamp") if times is None else LOG.with_columns(timestamp=pl.Series(times))
    log = from_frame(frame)
    log.save(tmp_path / "log")
    loaded = Interactions.load(tmp_path / "log")
    assert loaded.to_frame().equals(log.to_frame())
    assert (loaded.notes, loaded.fingerprint) == (log.notes, log.fingerprint)


@pytest.fixture
def saved(tmp_path):
    from_frame(LOG).save(tmp_path)
    return tmp_path


def test_load_names_the_missing_file(saved):
    (saved / "items.parquet").unlink()
    with pytest.raises(StoreError, match=r"items\.parquet is missing"):
        Interactions.load(saved)


@pytest.mark.parametrize("name", ["users.parquet", "events.parquet", "interactions.json"])
def test_load_refuses_a_corrupt_file(saved, name):
    (saved / name).write_bytes(b"PAR1 but not really")
    with pytest.raises(StoreError, match="corrupt"):
        Interactions.load(saved)


def test_load_refuses_files_of_another_log(saved):
    pl.DataFrame({"id": ["x", "y", "other"]}).write_parquet(saved / "items.parquet")
    with pytest.raises(StoreError, match="not of one log"):
        Interactions.load(saved)
    pl.DataFrame({"id": ["x"]}).write_parquet(saved / "items.parquet")
    with pytest.raises(StoreError, match="not of one log"):
        Interactions.load(saved)


def test_load_refuses_a_description_without_its_keys(saved):
    (saved / "interactions.json").write_text(json.dumps({"notes": []}))
    with pytest.raises(StoreError, match="corrupt"):
        Interactions.load(saved)


def test_save_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        from_frame(LOG).save(tmp_path / "file")
