"""On a GPU all is as on a CPU: scores, losses, rollouts, ranks; and nobody waits for it."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cli.words import TINY_FLAGS
from test_generate import same, sources
from test_train import FAST, Kept, ring
from torch import Tensor

from rsir.cli import main
from rsir.data.room import Slot
from rsir.data.sequences import Sequences
from rsir.evaluate import evaluate
from rsir.generate import GenerationConfig, generate
from rsir.models import MODELS, build_model
from rsir.models.base import SequenceModel
from rsir.models.ranking import ranks
from rsir.models.topk import Catalogue, exact_order, exact_top_k, paired_scores
from rsir.ragged import Ragged
from rsir.replay import Replay
from rsir.train import Fit, TrainingConfig, _Training, fit

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SETTINGS: list[dict[str, object]] = [
    {},
    {"max_rank": 3, "rank_among": "all"},
    {"top_k": 4, "temperature": 0.7},
    {"max_rank": None, "max_length": 6},
    {"starts": "random", "top_k": 3},
]


def network(name: str, num_items: int = 12, **change: object) -> SequenceModel:
    shape = {"dim": 16, "max_length": 10, "dropout": 0.1, "init_std": 0.2, **change}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build_model(MODELS[name].config(**shape), num_items)


def fitted(name: str, device: str, config: TrainingConfig = FAST, **options: Any) -> tuple[Any, Fit]:
    data, cases = ring()
    model = network(name)

    def validate(model: SequenceModel) -> dict[str, float]:
        return evaluate(model, cases, data.item_counts(), with_lists=False, device=device).metrics

    return model, fit(model, data, config, validate, seed=3, device=device, **options)


@contextmanager
def nobody_waits() -> Iterator[None]:
    """Whatever makes Python wait for the GPU is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_cpu(name: str) -> None:
    model = network(name).double().eval()
    rows = Ragged.from_lists([[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7]])
    expected = model.encode_last(rows) @ model.item_vectors().T
    model = model.to("cuda")
    found = model.encode_last(rows.to("cuda")) @ model.item_vectors().T
    torch.testing.assert_close(found.cpu(), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_learns_as_on_the_cpu(name: str) -> None:
    """The best there can be is known: one item is 80 percent, another 20 percent likely to come next."""
    (_, here), (_, there) = (fitted(name, device) for device in ("cpu", "cuda"))
    assert there.best_value > 0.85
    assert there.best_value == pytest.approx(here.best_value, abs=0.02)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What records an update, once for each."""
    found: list[object] = []
    record = Replay._record

    def told(self: Replay, slot: Slot) -> torch.cuda.CUDAGraph:
        found.append(type(self))
        return record(self, slot)

    monkeypatch.setattr(Replay, "_record", told)
    return found


@pytest.mark.parametrize("name", [name for name in MODELS if network(name).replayable])
def test_a_replayed_update_is_the_update(
    name: str, recorded: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, warm-up, clipping and a running mean: the same losses and the same weights in the end."""
    config = TrainingConfig(
        batch_size=32, max_periods=3, min_period=10, warmup=12, gradient_clip=1.0, weight_decay=0.01
    )
    replayed, one = fitted(name, "cuda", config)
    assert len(recorded) == 1
    monkeypatch.setattr("rsir.replay._BEFORE", 10**9)
    plain, other = fitted(name, "cuda", config)
    assert len(recorded) == 1
    assert [look.loss for look in one.looks] == pytest.approx([look.loss for look in other.looks], rel=1e-4)
    for (which, a), b in zip(replayed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3, msg=which)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "cl4srec"])
def test_updates_are_not_waited_for(name: str) -> None:
    """But for CL4SRec's, whose cropped views have lengths that the GPU draws."""
    data, _ = ring()
    training = _Training(network(name), data, FAST, 3, None, None, None, None, "cuda")
    training._updates(8)
    batches = list(training.rows.epoch(0, 0, 32, "cuda"))
    with training.replay.beside() if training.replay else torch.cuda.stream(None), nobody_waits():
        for batch in batches:
            training._prepare()
            (training.replay or training._update)(batch)
            training.now.updates += 1
    torch.cuda.synchronize()


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_goes_on_where_it_stopped(name: str, recorded: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process nothing is recorded yet; the weights are the same in the end."""
    monkeypatch.setattr("rsir.train.CHECKPOINT_SHARE", math.inf)
    config = TrainingConfig(batch_size=32, max_periods=4, min_period=10, patience=9)
    whole, expected = fitted(name, "cuda", config)
    kept = Kept(2)
    with pytest.raises(KeyboardInterrupt):
        fitted(name, "cuda", config, checkpoint=kept)
    kept.left = None
    resumed, result = fitted(name, "cuda", config, checkpoint=kept)
    assert len(recorded) == 3
    assert [look.loss for look in result.looks] == pytest.approx([look.loss for look in expected.looks], 1e-4)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_times_and_many_events_are_replayed(recorded: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """HSTU reads times; above 3,072 events PyTorch takes another way to the gradient of a lookup."""
    rows = [[(7 * row + place) % 40 for place in range(12)] for row in range(900)]
    plain = Ragged.from_lists(rows)
    time = (plain.position * 3600.0 * (1 + plain.row % 5)).double()
    data = Sequences.observed(plain.with_time(time), 40)
    losses = []
    for before in (3, 10**9):
        monkeypatch.setattr("rsir.replay._BEFORE", before)
        model = network("hstu", 40, time_bias=True, max_length=20)
        config = TrainingConfig(batch_size=400, max_periods=3, min_period=6)
        found = fit(model, data, config, lambda _: {"ndcg@10": 0.0}, seed=1, device="cuda")
        losses.append([look.loss for look in found.looks])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(recorded) == 1


@pytest.mark.parametrize("loss", ["sampled_softmax", "bce"])
def test_touched_item_vectors_alone_move_as_on_the_cpu(loss: str) -> None:
    """Without dropout; negatives are drawn by another generator, so that figures are near, not equal."""
    config = TrainingConfig(
        **{**FAST.model_dump(), "loss": loss, "num_negatives": 6, "item_updates": "touched"}
    )
    (_, here), (_, there) = (fitted("sasrec", device, config) for device in ("cpu", "cuda"))
    assert there.best_value == pytest.approx(here.best_value, abs=0.05)


def test_a_fit_that_was_given_up_does_not_hurt_the_next(recorded: list[object]) -> None:
    def give_up(look: Any) -> None:
        raise KeyboardInterrupt

    config = TrainingConfig(batch_size=32, max_periods=2, min_period=10)
    _, expected = fitted("sasrec", "cuda", config)
    with pytest.raises(KeyboardInterrupt):
        fitted("sasrec", "cuda", config, progress=give_up)
    _, result = fitted("sasrec", "cuda", config)
    assert [look.loss for look in result.looks] == pytest.approx([look.loss for look in expected.looks], 1e-4)
    assert len(recorded) == 3


def test_ranks_are_those_of_the_cpu() -> None:
    _, cases = ring()
    model = network("sasrec", init_std=1.0)
    expected = ranks(model, cases, device="cpu")
    model = model.to("cuda")
    assert (ranks(model, cases, device="cuda") == expected).float().mean() > 0.99
    assert torch.equal(ranks(model, cases, batch_size=7), ranks(model, cases, batch_size=300))


@pytest.mark.parametrize("k", [1, 20, 150])
def test_the_exact_best_items_have_the_same_bits(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    states, vectors = (torch.randn(n, 24, generator=generator) for n in (300, 5000))
    vectors[7] = vectors[4000]  # a tie
    there = Catalogue.of(vectors.cuda(), tile_size=1024)
    expected = exact_top_k(states, Catalogue.of(vectors), k)
    for mine, known in zip(exact_top_k(states.cuda(), there, k), expected, strict=True):
        assert torch.equal(mine.cpu(), known)
    assert torch.equal(exact_order(states.cuda(), there, k).cpu(), expected[0])
    row, item = torch.arange(300), torch.arange(300) * 3
    pairs: list[Tensor] = [paired_scores(states, vectors, row, item)]
    pairs.append(paired_scores(states.cuda(), vectors.cuda(), row.cuda(), item.cuda()).cpu())
    assert torch.equal(*pairs)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_rollouts_are_those_of_the_cpu(name: str, settings: dict[str, object]) -> None:
    model, data = network(name, 40, init_std=0.5).eval(), sources(200)
    config = GenerationConfig(**settings)
    keys = {"seed": 3, "round_index": 1}
    expected = generate(model, data, config, **keys, device="cpu")
    model = model.to("cuda")
    for size in ({}, {"batch_size": 7, "tile_size": 16}):
        assert same(generate(model, data, config, **keys, **size, device="cuda"), expected)


def test_rollouts_of_many_sources_over_many_items() -> None:
    rows = torch.randint(0, 50_000, (20_000 * 6,), generator=torch.Generator().manual_seed(0))
    data = Sequences.observed(Ragged.from_lengths(rows, torch.full((20_000,), 6)), 50_000)
    model = network("sasrec", 50_000, init_std=0.5).cuda().eval()
    config = GenerationConfig(num_rollouts=2, max_rank=None, max_length=4)
    one = generate(model, data, config, seed=1, round_index=1, device="cuda")
    other = generate(model, data, config, seed=1, round_index=1, device="cuda", batch_size=1000)
    assert same(one, other)
    assert len(one) == 40_000


def test_a_run_from_log_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    flags = [*TINY_FLAGS, "--set", "recursion.earlier_items=2", "--rounds", "2"]
    assert main(["run", *flags, "--out", out, "--device", "cuda", "--json"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["chosen_round"] in (0, 1, 2)
    for words in (["report", out], ["audit", out], ["run", "--resume", "--out", out]):
        assert main(words) == 0, capsys.readouterr().err
