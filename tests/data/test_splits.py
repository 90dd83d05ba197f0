import json
import random

import polars as pl
import pytest
import torch

from rsir.data.cuts import cut_by_time
from rsir.data.read import from_frame, from_sequences, read_log
from rsir.data.splits import Split, SplitConfig, split

LEAK = "test_events_older_than_newest_training_event"


def cases(cut: Split, part: str) -> list[tuple[int, list[int], int]]:
    held = getattr(cut, part)
    return list(zip(held.user.tolist(), held.histories.tolists(), held.target.tolist(), strict=True))


def test_leave_one_out():
    cut = split(from_sequences([[0, 1, 2, 3], [3, 0], [1, 2, 1], [4]]))
    assert cut.train.events.tolists() == [[0, 1], [3, 0], [1], [4]]
    assert cut.train.user.tolist() == [0, 1, 2, 3]
    assert cases(cut, "valid") == [(0, [0, 1], 2), (2, [1], 2)]
    assert cases(cut, "test") == [(0, [0, 1, 2], 3), (2, [1, 2], 1)]
    assert cut.facts["users_too_short_to_evaluate"] == 2
    assert (cut.facts["cold_valid_targets"], cut.facts["cold_test_targets"]) == (2, 0)
    assert (cut.facts["repeated_valid_targets"], cut.facts["repeated_test_targets"]) == (0, 1)
    assert cut.facts[LEAK] is None
    assert "no times" in str(cut.facts[f"{LEAK}_note"])


def test_leave_one_out_counts_the_leak():
    # user 1 trains on an event of time 9, which is newer than the test event of user 2 alone
    frame = pl.DataFrame(
        {"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 1, 2, 3], "time": [9, 10, 11, 1, 2, 3]}
    )
    facts = split(from_frame(frame)).facts
    assert (facts[LEAK], facts[f"{LEAK}_share"]) == (1, 0.5)


def timed(*events: tuple[int, int, float]) -> Split:
    log = from_frame(pl.DataFrame(list(events), schema=["user", "item", "time"], orient="row"))
    return split(log, SplitConfig(kind="global_time", cutoff=100, valid_fraction=0.5))


def test_global_time():
    cut = timed(
        *((0, 0, 1), (0, 1, 2), (0, 2, 60), (0, 3, 61), (0, 4, 100), (0, 5, 101)),  # asked twice
        *((1, 1, 70), (1, 2, 100)),  # new in validation, asked in test
        *((2, 3, 3), (2, 0, 99)),  # asked in validation only
        *((3, 0, 200),),  # new in test
        *((4, 2, 4),),  # trains only
    )
    # 8 events before 100, the newest half begins at 60
    assert (cut.facts["valid_from"], cut.facts["test_from"]) == (60, 100)
    assert cut.train.events.tolists() == [[0, 1], [3], [2]]
    assert cut.train.user.tolist() == [0, 2, 4]
    assert cases(cut, "valid") == [(0, [0, 1], 2), (2, [3], 0)]
    assert cases(cut, "test") == [(0, [0, 1, 2, 3], 4), (1, [1], 2)]
    assert cut.facts["valid_users_without_history"] == 1
    assert cut.facts["test_users_without_history"] == 1
    assert cut.facts["users_without_test_event"] == 2
    assert cut.facts["cold_test_targets"] == 1
    assert (cut.facts[LEAK], cut.facts[f"{LEAK}_share"]) == (0, 0.0)


def slow_global_time(events: list[tuple[int, int, int]], test_from: int, valid_from: int):
    """The definition, user by user, in plain Python."""
    train, held = {}, {"valid": [], "test": []}
    for user in dict.fromkeys(user for user, _, _ in events):
        row = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
        if old := [item for _, item, time in row if time < valid_from]:
            train[user] = old
        for part, start, stop in (("valid", valid_from, test_from), ("test", test_from, float("inf"))):
            history = [item for _, item, time in row if time < start]
            window = [item for _, item, time in row if start <= time < stop]
            if history and window:
                held[part].append((user, history, window[0]))
    return train, held


def test_global_time_equals_its_definition():
    draw = random.Random(5)
    events = [(draw.randrange(30), draw.randrange(20), draw.randrange(50)) for _ in range(300)]
    events = list(dict.fromkeys(events))  # exact duplicates would be dropped
    log = from_frame(pl.DataFrame(events, schema=["user", "item", "time"], orient="row"))
    cut = split(log, SplitConfig(kind="global_time", test_fraction=0.2, valid_fraction=0.2))
    times = sorted(time for _, _, time in events)
    test_from = times[-round(0.2 * len(times))]
    before = [time for time in times if time < test_from]
    valid_from = before[-round(0.2 * len(before))]
    train, held = slow_global_time(events, test_from, valid_from)
    names, items = log.users.ids.to_list(), log.items.ids.to_list()
    assert (cut.facts["valid_from"], cut.facts["test_from"]) == (valid_from, test_from)
    rows = zip(cut.train.user.tolist(), cut.train.events.tolists(), strict=True)
    assert {names[user]: [items[i] for i in row] for user, row in rows} == train
    for part in ("valid", "test"):
        found = [(names[u], [items[i] for i in history], items[t]) for u, history, t in cases(cut, part)]
        assert found == held[part]


def test_the_cutoff_can_be_a_date():
    days = [f"2024-01-0{day}" for day in (1, 2, 3, 4, 1, 2, 5)]
    frame = pl.DataFrame({"user": [0, 0, 0, 0, 1, 1, 1], "item": [0, 1, 2, 3, 0, 1, 2], "date": days})
    config = SplitConfig(kind="global_time", cutoff="2024-01-04", valid_fraction=0.5)
    cut = split(from_frame(frame), config)
    assert cut.facts["test_from"] == "2024-01-04T00:00:00.000000Z"
    assert cases(cut, "test") == [(0, [0, 1, 2], 3), (1, [0, 1], 2)]


@pytest.mark.parametrize("cutoff", [2**60 + 1, str(2**60 + 1)])
def test_large_whole_times_are_compared_exactly(cutoff):
    frame = pl.DataFrame({"user": [0, 0, 0, 1], "item": [0, 1, 2, 1], "time": [1, 2**60, 2**60 + 1, 1]})
    cut = cut_by_time(from_frame(frame), cutoff, 0.1, 0.1)
    assert cut.test_at.tolist() == [2, -1]


def test_a_fractional_cutoff_of_whole_times_is_not_rounded():
    frame = pl.DataFrame({"user": [0, 0, 0, 1], "item": [0, 1, 2, 1], "time": [1, 10**9, 10**9 + 1, 1]})
    cut = cut_by_time(from_frame(frame), 10**9 + 0.5, 0.1, 0.1)
    assert cut.test_at.tolist() == [2, -1]


def test_training_never_holds_a_target_place():
    log = from_sequences([list(range(length)) for length in range(1, 9)])
    cut = split(log)
    last = {user: target for user, _, target in cases(cut, "test")}
    for user, row in zip(cut.train.user.tolist(), cut.train.events.tolists(), strict=True):
        assert last.get(user) not in row
    assert torch.equal(cut.test.histories.lengths, cut.valid.histories.lengths + 1)


def test_facts_are_plain_json():
    facts = timed((0, 0, 1), (0, 1, 50), (0, 2, 100), (1, 1, 1), (1, 1, 51)).facts
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "cold", "repeated"),
    [
        ("Beauty", (51, 138), (0, 0)),
        ("Sports_and_Outdoors", (118, 317), (0, 0)),
        ("Toys_and_Games", (100, 279), (0, 0)),
        ("Yelp", (27, 73), (1640, 2027)),
    ],
)
def test_real_files_have_the_known_targets(data_dir, name, cold, repeated):
    facts = split(read_log(data_dir / f"{name}.txt")).facts
    assert (facts["cold_valid_targets"], facts["cold_test_targets"]) == cold
    assert (facts["repeated_valid_targets"], facts["repeated_test_targets"]) == repeated
