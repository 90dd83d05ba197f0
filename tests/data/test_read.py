import bz2
import gzip
import lzma
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from rsir.data.formats import format_of
from rsir.data.read import ReadConfig, from_frame, from_sequences, read_log

LOG = pl.DataFrame(
    {
        "user_id": [30, 10, 30, 20, 10, 30],
        "item_id": ["007", "12", "x y", "7", "007", "12"],
        "timestamp": [9, 4, 9, 1, 3, 2],
    }
)
EXPECTED = [(30, "12", 2), (30, "007", 9), (30, "x y", 9), (10, "007", 3), (10, "12", 4), (20, "7", 1)]


def recbole(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rename(
        {"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"}
    )


WRITERS = {
    "log.parquet": lambda path: LOG.write_parquet(path),
    "log.csv": lambda path: LOG.write_csv(path),
    "log.tsv": lambda path: LOG.write_csv(path, separator="\t"),
    "log.inter": lambda path: recbole(LOG).write_csv(path, separator="\t"),
    "log.jsonl": lambda path: LOG.write_ndjson(path),
    "log.csv.gz": lambda path: path.write_bytes(gzip.compress(LOG.write_csv().encode())),
    "log.csv.bz2": lambda path: path.write_bytes(bz2.compress(LOG.write_csv().encode())),
    "log.CSV.xz": lambda path: path.write_bytes(lzma.compress(LOG.write_csv().encode())),
    "log.csv.zst": lambda path: LOG.write_csv(path, compression="zstd"),
    "log.jsonl.zst": lambda path: LOG.write_ndjson(path, compression="zstd"),
    "log.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LOG.write_ndjson().encode())),
    "log.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(LOG.write_ndjson().encode())),
    "crlf.csv": lambda path: path.write_bytes(LOG.write_csv(line_terminator="\r\n").encode()),
    "bom.csv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + LOG.write_csv().encode()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_log(tmp_path, name):
    WRITERS[name](tmp_path / name)
    log = read_log(tmp_path / name)
    assert log.to_frame().rows() == EXPECTED
    assert log.fingerprint == from_frame(LOG).fingerprint


@pytest.mark.parametrize(
    "frame", [LOG.lazy(), LOG.to_pandas(), LOG.to_arrow()], ids=["lazy", "pandas", "arrow"]
)
def test_every_frame_gives_the_same_log(frame):
    assert from_frame(frame).to_frame().rows() == EXPECTED


def test_pandas_categories_and_dates():
    frame = LOG.to_pandas().assign(
        item_id=lambda x: x["item_id"].astype("category"),
        timestamp=lambda x: pd.to_datetime(x["timestamp"], unit="s"),
    )
    log = from_frame(frame)
    assert log.to_frame()["item_id"].to_list() == [row[1] for row in EXPECTED]
    assert log.time.tolist() == [row[2] * 10**6 for row in EXPECTED]


def test_one_line_a_user(tmp_path):
    (tmp_path / "log.txt").write_text("u1 a b\ta\n\n  u2  c\r\n")
    log = read_log(tmp_path / "log.txt")
    assert log.to_frame().rows() == [("u1", "a"), ("u1", "b"), ("u1", "a"), ("u2", "c")]
    assert any("order of the file" in note for note in log.notes)


def test_ids_in_text_become_integers_only_if_that_changes_none(tmp_path):
    (tmp_path / "log.txt").write_text("1 007 8\n2 8 9\n")
    log = read_log(tmp_path / "log.txt")
    assert log.users.ids.to_list() == [1, 2]
    assert log.items.ids.to_list() == ["007", "8", "9"]


def test_typed_sources_keep_the_type_of_ids(tmp_path):
    frame = LOG.with_columns(user_id=pl.col("user_id").cast(pl.String))
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_ndjson(tmp_path / "log.jsonl")
    for name in ("log.parquet", "log.jsonl"):
        assert read_log(tmp_path / name).users.ids.to_list() == ["30", "10", "20"]


def test_a_table_without_header(tmp_path):
    LOG.write_csv(tmp_path / "log.csv", include_header=False)
    log = read_log(tmp_path / "log.csv", ReadConfig(has_header=False))
    assert log.to_frame().rows() == EXPECTED
    wide = LOG.select("timestamp", "item_id", rating=3, user_id="user_id")
    wide.write_csv(tmp_path / "wide.csv", include_header=False, separator=";")
    config = ReadConfig(has_header=False, separator=";", user_column="column_4", time_column="column_1")
    assert read_log(tmp_path / "wide.csv", config).to_frame().rows() == EXPECTED


@pytest.mark.parametrize(
    ("user", "item", "time"),
    [
        ("UserID", "movieId", "Timestamp"),
        ("visitor_id", "Product-ID", "event_time"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("session_id", "aid", "ts"),
    ],
)
def test_usual_names_are_guessed_and_said(user, item, time):
    log = from_frame(LOG.rename({"user_id": user, "item_id": item, "timestamp": time}))
    assert log.to_frame().rows() == EXPECTED
    assert log.notes == (f"columns guessed: user {user!r}, item {item!r}, time {time!r}",)


def test_a_user_id_goes_before_a_session_id():
    log = from_frame(LOG.with_columns(session_id=pl.Series([1, 2, 3, 4, 5, 6])))
    assert log.users.ids.to_list() == [30, 10, 20]


def test_told_columns_are_not_guessed():
    frame = LOG.with_columns(user=pl.Series([1, 1, 1, 2, 2, 2]))
    log = from_frame(frame, ReadConfig(user_column="user", item_column="item_id", time_column="timestamp"))
    assert len(log.users) == 2
    assert log.notes == ()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3, 2, 1], [1, 2, 3]),
        ([0.5, 0.25, -1.0], [-1.0, 0.25, 0.5]),
        (["10", "9", "8"], [8, 9, 10]),
        (["1.5", "1", "1e-1"], [0.1, 1.0, 1.5]),
        (["2024-01-03", "2024-01-02", "2024-01-01T12:00"], None),
        (["2024-01-01T03:00:00+02:00", "2024-01-01T01:30:00+01:00", "2024-01-01T00:00:00Z"], None),
        ([datetime(2024, 1, 3), datetime(2024, 1, 2), datetime(2024, 1, 1)], None),
    ],
)
def test_times_of_every_kind_order_the_events(times, expected):
    log = from_frame(
        pl.DataFrame({"user": ["a", "a", "a", "b"], "item": [3, 2, 1, 1], "time": [*times, times[0]]})
    )
    assert log.items.ids_of(log.item).to_list() == [1, 2, 3, 1]
    assert log.time_is_date is (expected is None)
    assert expected is None or log.time.tolist()[:3] == expected


def test_dates_come_back_in_utc():
    frame = LOG.with_columns(timestamp=pl.lit("2024-01-01T03:00:00.000001+02:00"))
    time = from_frame(frame).to_frame()["timestamp"][0]
    assert time == datetime(2024, 1, 1, 1, 0, 0, 1, tzinfo=UTC)


DOUBLE = pl.DataFrame(
    {"user": [1, 1, 1, 1, 2, 2], "item": ["b", "a", "b", "b", "c", "a"], "time": [5, 5, 5, 6, 0, 1]}
)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("keep", "babbca"), ("drop_exact", "babca"), ("drop_repeats", "baca")],
)
def test_duplicate_policies(policy, expected):
    log = from_frame(DOUBLE, ReadConfig(duplicates=policy))
    assert "".join(log.items.ids_of(log.item)) == expected
    dropped = 6 - len(expected)
    assert any(note.startswith(f"{dropped} ") and "dropped" in note for note in log.notes) is (dropped > 0)


def test_without_times_no_repeat_is_a_duplicate():
    assert len(from_frame(DOUBLE.drop("time"))) == 6


def test_drop_repeats_keeps_the_first_in_time_and_numbers_by_file_order():
    frame = pl.DataFrame({"user": [1, 1, 2, 1], "item": ["a", "b", "c", "a"], "time": [9, 2, 1, 1]})
    log = from_frame(frame, ReadConfig(duplicates="drop_repeats"))
    assert log.items.ids.to_list() == ["b", "c", "a"]  # the "a" of the first row is gone
    assert log.to_frame().rows() == [(1, "a", 1), (1, "b", 2), (2, "c", 1)]


def test_k_core_is_iterated_and_renumbers():
    rows = {"user": [9, 9, 1, 1, 2, 2, 3, 3, 3], "item": list("zabaabqab"), "time": list(range(9))}
    log = from_frame(pl.DataFrame(rows), ReadConfig(min_user_events=2, min_item_events=2))
    # z and q go (one event each), then user 9 (one event left); the rest stays
    assert log.users.ids.to_list() == [1, 2, 3]
    assert log.items.ids.to_list() == ["b", "a"]
    assert log.ragged.tolists() == [[0, 1], [1, 0], [1, 0]]
    assert any(note.startswith("3 events dropped") for note in log.notes)


def test_k_core_equals_a_slow_one():
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({"user": rng.integers(0, 40, 200), "item": rng.integers(0, 40, 200)})
    rows = frame.rows()
    while True:
        users, items = [u for u, _ in rows], [i for _, i in rows]
        kept = [(u, i) for u, i in rows if users.count(u) >= 4 and items.count(i) >= 3]
        if kept == rows:
            break
        rows = kept
    log = from_frame(frame, ReadConfig(min_user_events=4, min_item_events=3))
    assert sorted(log.to_frame().rows()) == sorted(rows)
    assert log.users.ids.to_list() == list(dict.fromkeys(u for u, _ in rows))
    assert log.items.ids.to_list() == list(dict.fromkeys(i for _, i in rows))


def test_reading_equals_a_plain_sort():
    rng = np.random.default_rng(1)
    rows = list(
        zip(rng.integers(0, 9, 300).tolist(), range(300), rng.integers(0, 5, 300).tolist(), strict=True)
    )
    log = from_frame(pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"))
    first_seen = list(dict.fromkeys(user for user, _, _ in rows))
    assert log.to_frame().rows() == sorted(rows, key=lambda row: (first_seen.index(row[0]), row[2]))


def test_sequences_by_user_id():
    log = from_sequences({"ann": ["tea", "milk"], "bob": [], "cid": ["milk"]})
    assert log.to_frame().rows() == [("ann", "tea"), ("ann", "milk"), ("cid", "milk")]


@pytest.mark.parametrize(
    ("name", "form"), [("a.TXT.zst", "lines"), ("a.b.pq", "parquet"), ("x.ndjson", "jsonl")]
)
def test_format_by_name(tmp_path, name, form):
    assert format_of(tmp_path / name) == form


@pytest.mark.data
def test_real_files_have_the_known_sizes(data_dir):
    sizes = {
        "Beauty": (22_363, 12_101, 198_502, 7_162),
        "Sports_and_Outdoors": (35_598, 18_357, 296_337, 11_416),
        "Toys_and_Games": (19_412, 11_924, 167_597, 6_579),
        "Yelp": (30_431, 20_033, 316_354, 8_076),
    }
    for name, size in sizes.items():
        log = read_log(data_dir / f"{name}.txt")
        assert (len(log.users), len(log.items), len(log), int((log.ragged.lengths == 5).sum())) == size
