"""Training: learns what can be learnt, treats arms alike, and goes on exactly where it stopped."""

import contextlib
import gc
import math
import time
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from rsir.data.batches import TrainingRows
from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.errors import DataError
from rsir.evaluate import evaluate
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged
from rsir.train import Fit, Look, TrainingConfig, _Training, fit, period_of

V = 12
SMALL = SASRecConfig(dim=16, num_heads=1, dropout=0.1, max_length=10)


def ring_walks(count: int, seed: int = 0) -> list[list[int]]:
    """Walks on a ring of V items: the next item is one ahead (80 %) or two ahead (20 %)."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(V, (count, 1), generator=generator)
    step = 1 + (torch.rand(count, 6, generator=generator) < 0.2).long()
    return ((start + torch.cat([torch.zeros(count, 1, dtype=torch.int64), step.cumsum(1)], 1)) % V).tolist()


def ring() -> tuple[Sequences, Cases]:
    walks = ring_walks(300)
    cases = Cases(
        Ragged.from_lists([walk[:-1] for walk in walks]),
        torch.tensor([walk[-1] for walk in walks]),
        torch.arange(len(walks)),
    )
    return Sequences.observed(Ragged.from_lists([walk[:-1] for walk in walks]), V), cases


def new_model(config: SASRecConfig = SMALL) -> SASRec:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return SASRec(V, config)


def train(config: TrainingConfig, model: SASRec | None = None, **options: Any) -> tuple[SASRec, Fit]:
    data, cases = ring()
    model = model or new_model()

    def validate(model: SASRec) -> dict[str, float]:
        counts = data.item_counts()
        return evaluate(model, cases, counts, with_lists=False).metrics

    return model, fit(model, data, config, validate, seed=3, **options)


FAST = TrainingConfig(batch_size=32, learning_rate=5e-3, min_period=1, max_periods=12, patience=4)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"loss": "sampled_softmax", "num_negatives": 6},
        {"loss": "sampled_softmax", "num_negatives": 6, "negatives": "per_position", "log_q": True},
        {"loss": "bce", "num_negatives": 4, "negatives": "per_position"},
        {"loss": "gbce", "num_negatives": 6, "negatives": "per_position", "max_periods": 30, "patience": 30},
        {"targets": "last"},
        {"ema": 0.9},
        {"label_smoothing": 0.1, "weight_decay": 0.01, "gradient_clip": 1.0, "warmup": 5},
    ],
    ids=str,
)
def test_learns_a_ring(change: dict[str, Any]) -> None:
    model, _ = train(TrainingConfig(**{**FAST.model_dump(), **change}))
    scores = model.score(Ragged.from_lists([[(item - 1) % V, item] for item in range(V)]))
    ahead = (torch.arange(V) + 1) % V
    assert (scores.argmax(1) == ahead).float().mean() >= 0.75
    assert (scores.topk(2).indices == ((ahead + 1) % V)[:, None]).any(1).float().mean() >= 0.5


def test_softmax_reaches_the_known_entropy() -> None:
    """The loss cannot fall below the entropy of the walk, and comes near it."""
    _, result = train(
        TrainingConfig(batch_size=32, learning_rate=5e-3, max_periods=25, patience=25, min_period=1)
    )
    entropy = -(0.8 * torch.tensor(0.8).log() + 0.2 * torch.tensor(0.2).log())
    assert float(entropy) - 0.1 < result.looks[-1].loss < float(entropy) + 0.25


def test_same_seed_same_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, one = train(FAST)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    second, two = train(FAST)
    assert [look.loss for look in one.looks] == [look.loss for look in two.looks]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_leaves_the_model_with_its_best_weights() -> None:
    model, result = train(FAST)
    data, cases = ring()
    again = evaluate(model, cases, data.item_counts(), with_lists=False).metrics["ndcg@10"]
    assert again == pytest.approx(result.best_value, abs=1e-12)
    assert result.best_value == max(look.value for look in result.looks)
    assert not model.training


def test_a_budget_makes_exactly_so_many_updates_whatever_validation_says() -> None:
    config = TrainingConfig(batch_size=32, learning_rate=1e-9, patience=1)
    _, result = train(config, budget=37, period=10)
    assert result.updates == 37
    assert [look.updates for look in result.looks] == [10, 20, 30, 37]
    assert result.ended == "budget"


def test_patience_counts_periods_without_a_better_figure() -> None:
    _, result = train(TrainingConfig(batch_size=32, learning_rate=1e-9, patience=3, min_period=1))
    assert result.ended == "patience"
    best = next(look.period for look in result.looks if look.updates == result.best_updates)
    assert len(result.looks) == best + 3


class Kept:
    """A checkpoint in memory that pulls the plug after so many saves."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.saved: tuple[dict[str, Any], dict[str, Tensor]] | None = None
        self.left = stop_after

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        return self.saved

    def save(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        copied = {name: tensor.clone() for name, tensor in tensors.items()}
        self.saved = ({**progress, "looks": list(progress["looks"])}, copied)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_goes_on_exactly_where_it_stopped(
    stop_after: int, ema: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsir.train.CHECKPOINT_SHARE", math.inf)  # save after each period
    config = TrainingConfig(**{**FAST.model_dump(), "ema": ema, "max_periods": 5})
    whole, expected = train(config, period=7)  # periods end in the middle of a pass
    kept = Kept(stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(config, period=7, checkpoint=kept)
    kept.left = None
    resumed, result = train(config, period=7, checkpoint=kept)
    assert [(look.updates, look.loss, look.value) for look in result.looks] == [
        (look.updates, look.loss, look.value) for look in expected.looks
    ]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


class Slow(Kept):
    """A checkpoint that takes its time."""

    saves = 0

    def save(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.saves += 1
        time.sleep(0.2)
        super().save(progress, tensors)


def test_saving_takes_little_of_the_time_but_the_end_is_saved() -> None:
    config = TrainingConfig(**{**FAST.model_dump(), "max_periods": 6, "patience": 6})
    slow = Slow()
    _, result = train(config, period=2, checkpoint=slow)
    assert len(result.looks) == 6
    assert slow.saves == 2  # the first period and the last
    assert slow.saved is not None
    assert slow.saved[0]["period"] == 6
    _, again = train(config, period=2, checkpoint=slow)
    assert again.looks == result.looks
    assert slow.saves == 2  # nothing was left to do


def test_a_run_leaves_nothing_behind_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded on a GPU knows the run that knows it: it must not wait for the garbage collector."""
    made: list[weakref.ref[Any]] = []

    class Recorded:
        def __init__(self, run: Any) -> None:
            self.update = run._update
            made.append(weakref.ref(self))

        def __call__(self, batch: Any) -> Tensor:
            return self.update(batch)

        beside = contextlib.nullcontext

    def prepare(run: Any, *given: Any) -> None:
        init(run, *given)
        run.replay = Recorded(run)

    init = _Training.__init__
    monkeypatch.setattr(_Training, "__init__", prepare)
    gc.disable()
    try:
        model, _ = train(FAST, budget=3)
        with pytest.raises(KeyboardInterrupt):
            train(FAST, checkpoint=Kept(1))
        assert [one() for one in made] == [None, None]
    finally:
        gc.enable()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_weight_of_zero_is_as_good_as_absence() -> None:
    data, _ = ring()
    noise = Sequences.observed(Ragged.from_lists([[0, 5, 3, 9]] * 40), V)
    both = Sequences.concat([data, noise])
    weight = torch.cat([torch.ones(len(data)), torch.zeros(40)])
    looks: list[Look] = []

    def grads(rows: Sequences, weight: Tensor | None) -> list[Tensor]:
        model = new_model(SASRecConfig(dim=16, num_heads=1, dropout=0, max_length=10))
        config = TrainingConfig(batch_size=1000, max_periods=1, min_period=1, learning_rate=1e-3)
        fit(model, rows, config, lambda _: {"ndcg@10": 0.0}, seed=1, weight=weight, progress=looks.append)
        return [parameter.detach() for parameter in model.parameters()]

    for a, b in zip(grads(both, weight), grads(data, None), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)


def test_nothing_to_predict_from() -> None:
    data = Sequences.observed(Ragged.from_lists([[1], [2]]), V)
    with pytest.raises(DataError, match="two events"):
        fit(new_model(), data, FAST, lambda _: {"ndcg@10": 0.0}, seed=0)


def test_batches_of_every_position() -> None:
    data = Sequences.observed(Ragged.from_lists([[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]), V)
    rows = TrainingRows.build(data, max_length=2)
    assert rows.histories.tolists() == [[1, 2], [5], [8, 9]]
    assert rows.target.tolist() == [2, 3, 6, 9, 10]
    pairs = {
        (history, target)
        for batch in rows.epoch(0, 0, 2, "cpu")
        for history, target in zip(
            batch.histories.values[batch.place].tolist(), batch.target.tolist(), strict=True
        )
    }
    assert pairs == {(1, 2), (2, 3), (5, 6), (8, 9), (9, 10)}


def test_batches_of_every_prefix() -> None:
    data = Sequences.observed(Ragged.from_lists([[1, 2, 3], [5, 6]]), V)
    rows = TrainingRows.build(data, max_length=5, targets="last")
    seen = {
        (tuple(history), target)
        for batch in rows.epoch(0, 0, 2, "cpu")
        for history, target in zip(batch.histories.tolists(), batch.target.tolist(), strict=True)
    }
    assert seen == {((1,), 2), ((1, 2), 3), ((5,), 6)}
    assert period_of(data, TrainingConfig(batch_size=2, targets="last", min_period=1), 5) == 2


def test_each_pass_has_its_own_order_and_every_row_once() -> None:
    data, _ = ring()
    rows = TrainingRows.build(data, 10)
    passes = [[b.histories.values.tolist() for b in rows.epoch(0, n, 32, "cpu")] for n in (0, 1)]
    assert passes[0] != passes[1]
    for one in passes:
        assert sum(len(values) for values in one) == rows.target.numel()
