import json

import polars as pl
import pytest
import torch

from rsir.data.describe import describe, gini, length_histogram, quantiles
from rsir.data.read import from_frame, from_sequences
from rsir.data.splits import SplitConfig, split

LOG = from_sequences([["a", "b", "b", "a"], ["a", "c", "d"], ["a"]])


@pytest.fixture
def about() -> dict:
    return describe(LOG, split(LOG))


def test_size_and_repetition(about):
    assert (about["users"], about["items"], about["events"]) == (3, 4, 8)
    assert about["density"] == 8 / 12
    assert about["repeat_rate"] == 2 / 8
    assert about["consecutive_repeat_rate"] == 1 / 8
    assert about["users_with_fewer_than_3_events"] == 1
    assert about["time"] is None


def test_popularity(about):
    popularity = about["item_popularity"]  # counts 4, 2, 1, 1
    assert (popularity["max"], popularity["min"], popularity["mean"]) == (4, 1, 2)
    assert popularity["event_share_of_top_10_percent"] == 0.5
    assert popularity["gini"] == pytest.approx(0.3125)


def test_what_will_be_masked(about):
    # cases: (a b | b -> a), (a c -> d) in test; (a b | -> b), (a -> c) in validation
    assert about["targets"]["test"]["repeated_rate"] == 0.5
    assert about["targets"]["test"]["cold_rate"] == 0.5
    policies = about["seen_policies"]
    assert policies["mask"]["test"] == {"mean_masked_items": 2, "masked_targets": 1, "recall_ceiling": 0.5}
    assert policies["mask"]["valid"] == {"mean_masked_items": 1.5, "masked_targets": 1, "recall_ceiling": 0.5}
    spared = {"mean_masked_items": 1.5, "masked_targets": 0, "recall_ceiling": 1.0}
    assert policies["mask_except_target"]["test"] == spared
    assert policies["allow"]["test"]["mean_masked_items"] == 0


def test_ceiling_is_what_an_omniscient_model_reaches(about):
    cases = split(LOG).test
    hits = [
        target not in row
        for row, target in zip(cases.histories.tolists(), cases.target.tolist(), strict=True)
    ]
    assert about["seen_policies"]["mask"]["test"]["recall_ceiling"] == sum(hits) / len(hits)


def test_time_span_and_ties():
    frame = pl.DataFrame({"user": [1, 1, 1, 2], "item": [1, 2, 3, 1], "time": [5, 5, 6, 9]})
    log = from_frame(frame)
    assert describe(log, split(log))["time"] == {
        "first": 5,
        "last": 9,
        "span": 4,
        "unit": "as given",
        "tie_rate": 0.25,
    }


def test_dates_are_readable():
    frame = pl.DataFrame(
        {"user": [1, 1, 1, 2], "item": [1, 2, 3, 1], "date": ["2024-01-01", "2024-01-02"] * 2}
    )
    log = from_frame(frame)
    assert describe(log, split(log))["time"]["first"] == "2024-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("kind", ["leave_one_out", "global_time"])
def test_values_are_plain_json(kind):
    frame = pl.DataFrame(
        {"user": [0, 0, 0, 1, 1, 1], "item": [0, 1, 2, 3, 0, 1], "time": [1.0, 2.0, 3.0, 1.0, 2.0, 3.5]}
    )
    log = from_frame(frame)
    about = describe(log, split(log, SplitConfig(kind=kind, cutoff=3, valid_fraction=0.5)))
    assert json.loads(json.dumps(about)) == about


def test_gini_at_its_ends():
    assert gini(torch.tensor([2, 2, 2, 2])) == 0
    assert gini(torch.tensor([0, 0, 0, 8])) == pytest.approx(0.75)


def test_quantiles_are_values_that_occur():
    found = quantiles(torch.tensor([9, 1, 5]))
    assert (found["min"], found["median"], found["max"], found["mean"]) == (1, 5, 9, 5)


def test_histogram_counts_every_user_once():
    bins = length_histogram(torch.tensor([1, 2, 3, 4, 5, 9, 10, 499, 500, 9999]))
    assert sum(bins.values()) == 10
    assert (bins["1"], bins["2"], bins["3-4"], bins["5-9"], bins["500+"]) == (1, 1, 2, 2, 2)
