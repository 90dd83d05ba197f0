"""Whatever is wrong with the input, one clear line says so."""

import gzip

import pandas as pd
import polars as pl
import pytest

from rsir.data.cuts import cut_by_time
from rsir.data.read import ReadConfig, from_frame, from_sequences, read_log
from rsir.data.splits import SplitConfig, split
from rsir.errors import DataError, SplitError

HEAD = b"user_id,item_id,timestamp\n"

FILES = {
    "empty.csv": (b"", {}, "the file is empty"),
    "empty.csv.gz": (gzip.compress(b""), {}, "the file is empty"),
    "blank.txt": (b"\n \n", {}, "no events"),
    "header.csv": (HEAD, {}, "no events"),
    "log.dat": (b"1::2", {}, "does not tell the format; give it with --format (parquet, csv"),
    "log.gz": (b"1", {}, "does not tell the format"),
    "broken.parquet": (b"PAR1 nonsense", {}, "cannot be read as parquet"),
    "csv_in.parquet": (HEAD + b"1,2,3\n", {}, "cannot be read as parquet"),
    "cut.csv.gz": (gzip.compress(HEAD + b"1,2,3\n" * 999)[:-20], {}, "cannot be read as csv"),
    "not.csv.xz": (b"not compressed", {}, "cannot be read as csv"),
    "not.csv.bz2": (b"not compressed", {}, "cannot be read as csv"),
    "long_row.csv": (HEAD + b"1,2,3\n1,2,3,4\n", {}, "cannot be read as csv"),
    "latin.csv": (HEAD + b"\xff\xfe,2,3\n", {}, "cannot be read as csv"),
    "short_row.csv": (HEAD + b"1,2,3\n2\n", {}, "column 'item_id' (item) is empty in 1 rows, first in row 2"),
    "null_user.csv": (
        HEAD + b",2,3\n1,2,3\n",
        {},
        "column 'user_id' (user) is empty in 1 rows, first in row 1",
    ),
    "null_time.csv": (HEAD + b"1,2,3\n1,3,\n", {}, "column 'timestamp' (time) is empty"),
    "null.jsonl": (b'{"user":1,"item":2}\n{"user":null,"item":3}\n', {}, "column 'user' (user) is empty"),
    "one_user.csv": (HEAD + b"1,2,3\n1,3,4\n", {}, "only one user (1)"),
    "one_item.csv": (HEAD + b"1,2,3\n2,2,4\n", {}, "only one item (2)"),
    "nan.csv": (HEAD + b"1,2,3.5\n2,3,nan\n", {}, "time nan in row 2 is not finite"),
    "inf.csv": (HEAD + b"1,2,-inf\n2,3,1\n", {}, "time -inf in row 1 is not finite"),
    "words.csv": (HEAD + b"1,2,yesterday\n2,3,today\n", {}, "time 'yesterday' cannot be read"),
    "day_first.csv": (HEAD + b"1,2,03-04-2024\n2,3,04-04-2024\n", {}, "time '03-04-2024' cannot be read"),
    "mixed_time.csv": (
        HEAD + b"1,2,3\n2,3,2024-01-01\n",
        {},
        "time '2024-01-01' is not a number, but the first",
    ),
    "time_mixed.csv": (HEAD + b"1,2,2024-01-01\n2,3,3\n", {}, "time '3' cannot be read"),
    "mixed.jsonl": (b'{"user":"a","item":2}\n{"user": 7,"item":3}\n', {}, "user ids in 'user' are mixed"),
    "syntax.jsonl": (b'{"user":1,"item":2}\n{"user":\n', {}, "cannot be read as jsonl"),
    "array.json": (b'[{"user":1,"item":2},{"user":2,"item":3}]', {}, "cannot be read as jsonl"),
    "float_ids.jsonl": (b'{"user":1.5,"item":2}\n{"user":2,"item":3}\n', {}, "user ids of type Float64"),
    "no_user.csv": (
        b"who,item_id\n1,2\n",
        {},
        "no column has a usual name for the user (columns: 'who', 'item_id')",
    ),
    "no_header.csv": (b"1,2,3\n2,3,4\n", {}, "--no-header if the first line is an event"),
    "semicolon.csv": (b"user_id;item_id\n1;2\n", {}, "check the separator (--separator)"),
    "ambiguous.csv": (b"user_id,item_id,item\n1,2,3\n", {}, "'item_id', 'item' could each be the item"),
    "no_column.csv": (HEAD + b"1,2,3\n", {"user_column": "user"}, "no column 'user' (columns: 'user_id'"),
    "near.csv": (HEAD + b"1,2,3\n", {"item_column": "itemid"}, "did you mean 'item_id'?"),
    "no_time.csv": (b"user,item\n1,2\n", {"time_column": "t"}, "no column 't'"),
    "twice.csv": (HEAD + b"1,2,3\n", {"item_column": "user_id"}, "two purposes"),
    "narrow.csv": (b"1\n2\n", {"has_header": False}, "only one column"),
    "wide.csv": (b"1,2,5,9\n", {"has_header": False}, "4 columns, no header"),
    "lonely.txt": (b"1 2 3\n4\n", {}, "the line of user '4' has no item"),
    "table.txt": (b"user_id\titem_id\n1\t2\n", {}, "like a table with a header"),
    "events.txt": (b"1 2 5\n1 3 6\n", {}, "user '1' has several lines"),
    "columns.txt": (b"1 2 3\n4 5 6\n", {"user_column": "x"}, "data.user_column means nothing here"),
    "separated.txt": (b"1 2 3\n4 5 6\n", {"separator": ","}, "data.separator means nothing here"),
    "headless.jsonl": (b'{"user":1,"item":2}\n', {"has_header": False}, "the log is read as jsonl"),
    "k_core.csv": (HEAD + b"1,2,3\n2,3,4\n", {"min_user_events": 2}, "nothing is left"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(tmp_path, name):
    content, config, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_log(tmp_path / name, ReadConfig(**config))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_folder(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "log.csv")
    (tmp_path / "logs.csv").mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        read_log(tmp_path / "logs.csv")


GOOD = {"user_id": [1, 2, 2], "item_id": [1, 2, 3]}
FRAMES = {
    "float users": (
        pl.DataFrame({**GOOD, "user_id": [1.0, 2.0, 3.0]}),
        "user ids of type Float64 cannot be used",
    ),
    "lists": (pl.DataFrame({**GOOD, "item_id": [[1], [2], [3]]}), "item ids of type List"),
    "bools": (pl.DataFrame({**GOOD, "item_id": [True, False, True]}), "item ids of type Boolean"),
    "huge": (
        pl.DataFrame({**GOOD, "item_id": pl.Series([1, 2, 2**64 - 1], dtype=pl.UInt64)}),
        "64-bit integers",
    ),
    "time of day": (pl.DataFrame(GOOD).with_columns(time=pl.time(1)), "time column of type Time"),
    "huge time": (
        pl.DataFrame(GOOD).with_columns(time=pl.lit(2**64 - 1, pl.UInt64)),
        "does not fit in 64 bits",
    ),
    "mixed pandas": (pd.DataFrame({**GOOD, "user_id": [1, "a", 2]}), "mixed types"),
    "null pandas": (
        pd.DataFrame({**GOOD, "user_id": ["a", None, "b"]}),
        "(user) is empty in 1 rows, first in row 2",
    ),
    "nan pandas": (pd.DataFrame({**GOOD, "time": [1.0, float("nan"), 2.0]}), "(time) is empty in 1 rows"),
    "dict": (GOOD, "dict is not a frame"),
    "rows": (pl.DataFrame(GOOD).clear(), "no events"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_bad_frames(name):
    frame, message = FRAMES[name]
    with pytest.raises(DataError) as caught:
        from_frame(frame)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sequences", [[["a"], [1]], {"a": ["x"], 1: ["y"]}, [[1.5], [2]], [[None], ["a"]], [], [[], []], [[1, 2]]]
)
def test_bad_sequences(sequences):
    with pytest.raises(DataError):
        from_sequences(sequences)


TIMED = pl.DataFrame({"user": [1, 1, 1, 2], "item": [1, 2, 3, 1], "time": [1, 2, 3, 4]})
SPLITS = {
    "short users": ([[1, 2], [2, 3]], {}, "leave-one-out needs users with 3 events, the longest has 2"),
    "no times": ([[1, 2, 3], [1]], {"kind": "global_time"}, "needs times, the log has none"),
    "date": (TIMED, {"kind": "global_time", "cutoff": "2024-01-01"}, "is no number, but the times"),
    "early": (TIMED, {"kind": "global_time", "cutoff": 1}, "no event is older than the cutoff 1"),
    "late": (TIMED, {"kind": "global_time", "cutoff": 9}, "no test case is left"),
    "infinite": (TIMED, {"kind": "global_time", "cutoff": "inf"}, "is not finite"),
    "no training": (TIMED, {"kind": "global_time", "cutoff": 2}, "no event to train on"),
    "all new in test": (TIMED, {"kind": "global_time", "cutoff": 4}, "no test case is left"),
    "all new in validation": (
        pl.DataFrame({"user": [1, 2, 1], "item": [1, 2, 3], "time": [1, 5, 9]}),
        {"kind": "global_time", "cutoff": 9},
        "no validation case is left",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_that_leave_nothing(name):
    data, config, message = SPLITS[name]
    log = from_frame(data) if isinstance(data, pl.DataFrame) else from_sequences(data)
    with pytest.raises(SplitError) as caught:
        split(log, SplitConfig(**config))
    assert message in str(caught.value)


def test_a_cutoff_for_dates_must_be_a_date():
    log = from_frame(TIMED.with_columns(time=pl.lit("2024-01-01")))
    with pytest.raises(DataError, match="time '5' cannot be read"):
        cut_by_time(log, 5, 0.1, 0.1)
