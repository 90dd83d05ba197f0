"""The bias by elapsed time: its buckets, and a law that cannot be learnt without it."""

import math
from functools import cache

import pytest
import torch
from oracles.gaps import NUM_ITEMS, rows, walks

from rsir.data.sequences import Sequences
from rsir.models.elapsed import NUM_BUCKETS, buckets, forget_times
from rsir.models.hstu import HSTU, HSTUConfig
from rsir.train import TrainingConfig, fit

NAN = math.nan
SHAPE = {"dim": 16, "num_blocks": 1, "dropout": 0.1, "init_std": 0.05, "max_length": 10}
UNSEEN = walks(1000, 1)


def hits(model: HSTU, timed: bool = True) -> float:
    """How often the best item is the next one."""
    items, time = UNSEEN
    with torch.no_grad():
        scores = model.eval().score(rows(items[:, :-1], time[:, :-1] if timed else None))
    return float((scores.argmax(1) == items[:, -1]).double().mean())


@cache
def trained(count: int = 600, scale: float = 1.0, periods: int = 9, **change: object) -> HSTU:
    torch.manual_seed(0)
    model = HSTU(NUM_ITEMS, HSTUConfig(**{**SHAPE, "time_bias": True, **change}))
    items, time = walks(count, 0)
    data = Sequences.observed(rows(items, time * scale), NUM_ITEMS)
    training = TrainingConfig(batch_size=64, learning_rate=1e-2, min_period=40, max_periods=periods)
    fit(model, data, training, lambda model: {"ndcg@10": hits(model)}, seed=3)
    return model


def test_a_law_of_gaps_is_learnt_with_the_bias_alone() -> None:
    """Known best: .9 with times, .5 without."""
    timed, blind = trained(), trained(time_bias=False)
    assert hits(timed) > 0.86
    assert hits(blind) < 0.56
    assert 0.44 < hits(timed, timed=False) < 0.56


def test_rows_without_times_teach_to_go_without() -> None:
    """The best cross-entropy without times is ln 2; who never saw such rows is surer than it can be."""
    items, _ = UNSEEN

    def surprise(model: HSTU) -> float:
        with torch.no_grad():
            scores = model.eval().score(rows(items[:, :-1], None))
        return float(torch.nn.functional.cross_entropy(scores, items[:, -1]))

    assert surprise(trained()) < math.log(2) + 0.1 < surprise(trained(time_dropout=0.0)) - 0.1


def test_the_unit_of_the_log_means_nothing() -> None:
    """In another one, 1,024 times smaller, the same is learnt, bit by bit, in other buckets."""
    one, other = (trained(count=100, scale=scale, periods=2) for scale in (1.0, 1024.0))
    items, time = UNSEEN
    asked = rows(items, time), rows(items, time * 1024)
    assert torch.equal(one.score(asked[0]), other.score(asked[1]))
    assert not torch.equal(one.score(asked[0]), one.score(asked[1]))


def test_when_it_happened_means_nothing_only_how_long_ago() -> None:
    model, (items, time) = trained(count=100, periods=2), UNSEEN
    assert torch.equal(model.score(rows(items, time)), model.score(rows(items, time - 1.7e9)))


def test_buckets_are_half_a_factor_of_two_wide() -> None:
    time = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    place = [int(buckets(time * length)[0, 1, 0]) for length in (1, 1.41, 1.42, 2, 2.82, 2.83, 4)]
    assert [bucket - place[0] for bucket in place] == [0, 0, 1, 2, 2, 3, 4]
    far = [int(buckets(time * length)[0, 1, 0]) for length in (0, 1e-30, 2.0**64, 1e300)]
    assert far == [1, 1, NUM_BUCKETS, NUM_BUCKETS]


def test_an_unknown_time_has_a_bucket_of_its_own() -> None:
    assert buckets(torch.tensor([[5.0, NAN]], dtype=torch.float64)).tolist() == [[[1, 0], [0, 0]]]


def test_without_times_nothing_changes() -> None:
    """The setting draws nothing and adds nothing: the same numbers, bit by bit, while training too."""
    items, _ = UNSEEN
    found = []
    for timed in (True, False):
        torch.manual_seed(0)
        model = HSTU(NUM_ITEMS, HSTUConfig(**SHAPE, time_bias=timed)).train()
        found.append((model.encode(rows(items, None)), torch.rand(1)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("setting", [False, "auto"])
def test_off_is_the_network_without(setting: object) -> None:
    """ "auto" is for a run to decide; alone it is off."""
    model = HSTU(NUM_ITEMS, HSTUConfig(**SHAPE, time_bias=setting))
    assert not any("elapsed" in name for name in model.state_dict())
    items, time = UNSEEN
    assert torch.equal(model.eval().score(rows(items, time)), model.score(rows(items, None)))


def test_a_share_of_rows_forgets_its_times() -> None:
    torch.manual_seed(0)
    timed = rows(*walks(2000, 0))
    forgotten = forget_times(timed, 0.2).time
    assert forgotten is not None
    unknown = forgotten.isnan().view(2000, 8)
    assert torch.equal(unknown.any(1), unknown.all(1))
    assert 0.17 < unknown[:, 0].double().mean() < 0.23
    assert forget_times(timed, 0.0) is timed
