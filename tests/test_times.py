"""Times go wherever their items go, from the log to a recommendation, and never from what is held out."""

from typing import Any

import polars as pl
import pytest
import torch

from rsir.data.batches import TrainingRows
from rsir.data.read import ReadConfig, from_frame
from rsir.data.sequences import Sequences
from rsir.data.splits import SplitConfig, split
from rsir.ragged import Ragged


def known(rows: Ragged) -> bool:
    """Whether each time is the one that its item, all different, began with: ten times its index."""
    return rows.time is not None and torch.equal(rows.time, rows.values * 10.0)


ROWS = Ragged.from_lists([[3, 1, 4], [], [5, 9], [2, 6, 8, 7]])
TIMED = ROWS.with_time(ROWS.values * 10.0)


def test_rows_keep_their_times() -> None:
    assert known(TIMED.select(torch.tensor([3, 0, 0])))
    assert known(TIMED.tail(2))
    assert known(TIMED.slice_rows(TIMED.lengths // 2, TIMED.lengths))
    assert known(Ragged.concat([TIMED, TIMED.tail(1)]))
    assert known(TIMED.to("cpu"))
    assert all(known(rows) for _, rows in TIMED.blocks)
    assert TIMED.tail(2).tolists() == ROWS.tail(2).tolists()


def test_rows_without_times_stay_without() -> None:
    parts = [ROWS.select(torch.tensor([0])), ROWS.tail(2), ROWS.to("cpu"), Ragged.concat([ROWS, ROWS])]
    assert all(rows.time is None for rows in parts)


def test_beside_timed_rows_the_others_are_unknown() -> None:
    both = Ragged.concat([ROWS, TIMED])
    assert both.time is not None
    assert both.time[: len(ROWS.values)].isnan().all()
    assert known(both.select(torch.arange(4, 8)))


def test_batches_have_the_times_of_their_events() -> None:
    data = Sequences.observed(TIMED, 10)
    for targets in ("every", "last"):
        built = TrainingRows.build(data, 3, targets)  # type: ignore[arg-type]
        batches = list(built.epoch(0, 0, 2, "cpu"))
        assert all(known(batch.histories) for batch in batches)
        assert sum(len(batch.histories) for batch in batches) == len(built)


def frame(count: int = 60, length: int = 6) -> pl.DataFrame:
    """Users who begin at one item after another and go on item by item, each item at another hour."""
    user = torch.arange(count).repeat_interleave(length)
    place = torch.arange(length).repeat(count)
    hours = (user * 7 + place * (place + user % 5)) % 97 + 100 * place
    columns = {"user_id": user, "item_id": (user * 3 + place) % 40, "timestamp": hours * 3600}
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})


@pytest.mark.parametrize("kind", ["leave_one_out", "global_time"])
def test_a_split_never_hands_on_when_the_target_was_taken(kind: Any) -> None:
    log = from_frame(frame())
    assert log.time is not None
    cut = split(log, SplitConfig(kind=kind))
    rows = log.ragged
    for events, user in (
        (cut.train.events, cut.train.user),
        (cut.valid.histories, cut.valid.user),
        (cut.test.histories, cut.test.user),
    ):
        start = rows.offsets[user][events.row] + events.position
        assert events.time is not None
        assert torch.equal(events.time, log.time.double()[start])
        assert len(events.time) == len(events.values) == int(events.lengths.sum())


def test_dates_and_logs_in_file_order() -> None:
    dated = frame().with_columns(pl.from_epoch("timestamp", "s"))
    log = from_frame(dated)
    assert log.time_is_date
    assert log.ragged.time is not None
    seconds = from_frame(frame()).ragged.time
    assert torch.equal(log.ragged.time, seconds * 1e6)  # type: ignore[operator]
    assert from_frame(dated, ReadConfig(file_order=True)).ragged.time is None
