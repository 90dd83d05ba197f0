"""What the figures of a benchmark rest on."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rsir.bench.alone import MeasurementError, alone, last_json
from rsir.bench.clock import Product, interleaved, peak_bytes, timed
from rsir.bench.evaluation import ranks_by_sorting
from rsir.bench.libraries import export
from rsir.bench.plain import PlainSASRec, plain_batches, plain_pass
from rsir.bench.race import race
from rsir.bench.workload import random_sources
from rsir.config import load_config
from rsir.data.read import from_sequences
from rsir.data.sequences import Sequences
from rsir.data.splits import split
from rsir.evaluate import ranks
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged

NARROW = SASRecConfig(dim=8, num_blocks=1, dropout=0.0)


def test_the_fastest_repeat_counts() -> None:
    waits = iter([0.03, 0.0, 0.03])
    found = timed(lambda: time.sleep(next(waits)) or 7, 3)
    assert found.result == 7
    assert 0 <= found.seconds < 0.02


def test_acts_take_turns() -> None:
    order: list[str] = []
    interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b"]


def test_a_products_rate_is_one_a_machine_can_have() -> None:
    product = Product(64, 32, 64)
    assert 1e8 < product.rate(timed(product)) < 1e15
    assert torch.allclose(product.out, product.left @ product.right.T)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_bytes()
    held = np.ones(60 << 20, dtype=np.uint8)
    assert peak_bytes() >= before + 30 * 2**20
    assert held[-1] == 1


def test_a_process_of_its_own_gives_back_json_and_says_why_it_fails() -> None:
    with pytest.raises(MeasurementError, match=r"json:loads ended with 1: .*Expecting value"):
        alone("json:loads", s="nonsense")
    with pytest.raises(MeasurementError, match="cannot be started"):
        last_json(["/no/such/program", "-m", "x"])


def test_the_plain_rival_learns_what_ours_would() -> None:
    """A chain 0 → 1 → … → 5 → 0: the next item is certain, so the loss goes to 0."""
    torch.manual_seed(0)
    rows = [[(start + step) % 6 for step in range(5)] for start in range(6)] * 4
    data = Sequences.observed(Ragged.from_lists(rows), 6)
    model = PlainSASRec(6, NARROW)
    adam = torch.optim.Adam(model.parameters(), lr=0.02)
    made, first = plain_pass(model, adam, data, 8)
    for _ in range(30):
        _, last = plain_pass(model, adam, data, 8)
    assert made == 24 * 4
    assert last < 0.1 < 1.0 < first
    assert model.eval().score(Ragged.from_lists([[4], [2, 3]])).argmax(1).tolist() == [5, 4]


def test_plain_batches_hold_every_prediction_once() -> None:
    torch.manual_seed(0)
    data = Sequences.observed(Ragged.from_lists([[0, 1, 2], [3], [4, 5], [6, 7, 8, 9]]), 10)
    pairs = []
    for items, target in plain_batches(data, 50, 2):
        real = target != 10
        pairs += list(zip(items[real].tolist(), target[real].tolist(), strict=True))
    assert sorted(pairs) == [(0, 1), (1, 2), (4, 5), (6, 7), (7, 8), (8, 9)]


def test_the_rival_of_evaluation_ranks_as_we_do() -> None:
    torch.manual_seed(0)
    cut = split(from_sequences([[(u * 3 + t * t) % 11 + 100 * (t == 9) for t in range(8)] for u in range(9)]))
    model = SASRec(cut.train.num_items, NARROW)
    ours = ranks(model, cut.test, "mask")
    asked = ours.isfinite()
    assert torch.equal(ranks_by_sorting(model.eval(), cut.test, repeats=False)[asked], ours[asked])
    theirs = ranks_by_sorting(model, cut.test, repeats=True)
    assert torch.equal(theirs, ranks(model, cut.test, "allow"))


def test_what_the_libraries_train_on_is_the_training_part() -> None:
    cut = split(from_sequences({7: [1, 2, 3, 4, 5], 8: [2, 1, 3], 9: [5, 4], 10: [3, 1, 2, 5]}))
    frame = export(cut)
    assert frame["user"].unique().sort().to_list() == [0, 3]  # 8 and 9 train on one event or hold out none
    first = frame.filter(frame["user"] == 0)
    assert first["item"].to_list() == [0, 1, 2, 3]
    assert first["part"].to_list() == ["train", "train", "train", "valid"]
    assert first["place"].to_list() == [0, 1, 2, 3]


def test_the_race_ends_where_the_best_rival_is_and_the_last_is_done() -> None:
    cut = split(from_sequences([[(u + t) % 12 for t in range(7)] for u in range(40)]))
    config = load_config(overrides=["model.dim=8", "model.num_blocks=1", "training.warmup=0"])
    rivals: dict[str, dict[str, Any]] = {"weak": {"ndcg@10": 0.0, "seconds_to_ndcg": 1e-9}, "unknown": {}}
    found = race(rivals, cut, config, 5, "cpu")
    assert len(found["curve"]) == 1
    assert found["our_seconds_to_ndcg"].keys() == {"weak"}
    assert found["our_ndcg_by_then"] == {"weak": None}
    slow = race({"slow": {"ndcg@10": 0.0, "seconds_to_ndcg": 1e6}}, cut, config, 3, "cpu")
    assert len(slow["curve"]) == 3
    assert slow["our_ndcg_by_then"] == {"slow": max(look["ndcg@10"] for look in slow["curve"])}
    assert slow["ndcg_speedup"]["slow"] > 1e3
    given_up = race({"perfect": {"ndcg@10": 1.01, "seconds_to_ndcg": 1e-9}}, cut, config, 3, "cpu")
    assert len(given_up["curve"]) == 3
    assert given_up["ndcg_speedup"] == {"perfect": None}
    assert race({"unknown": {}}, cut, config, 3, "cpu") == {}


def test_random_sources_have_the_size_asked_for() -> None:
    data = random_sources(50, 7, 4, seed=1)
    assert (len(data), data.num_events, data.num_items) == (7, 28, 50)
    assert torch.equal(data.events.values, random_sources(50, 7, 4, seed=1).events.values)


def test_rival_scripts_are_where_they_are_looked_for() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "rivals"
    for name in ("rectools", "recbole"):
        assert (folder / f"{name}_sasrec.py").is_file()
        assert (folder / f"requirements-{name}.txt").read_text().count("==") >= 5
    assert "torch==" in (folder / "constraints.txt").read_text()
