"""What every backbone must keep to; a new one in `MODELS` is held to it without a line here."""

import json
import math
from pathlib import Path

import pytest
import torch
from cli.words import TINY_FLAGS, Outcome
from torch import Tensor

from rsir.cli import main
from rsir.data.batches import TrainingRows
from rsir.data.sequences import Sequences
from rsir.generate import GenerationConfig, generate
from rsir.models import MODELS, ModelConfig, SequenceModel, build_model
from rsir.models.base import Memory
from rsir.ragged import Ragged
from rsir.softmax import softmax_loss
from rsir.train import TrainingConfig, fit
from rsir.weights import load_weights, save_weights

V = 30
HISTORIES = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 1], [6], [7, 8, 9], [1, 2], [10, 11, 12, 13, 10], [6]]
SHAPE = {"dim": 8, "num_blocks": 2, "max_length": 10, "init_std": 0.3}


def shaped(name: str, **change: object) -> ModelConfig:
    config: ModelConfig = MODELS[name].config(**{**SHAPE, **change})
    return config


def made(config: ModelConfig, num_items: int = V, seed: int = 0) -> SequenceModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(config, num_items)


def reads_times(name: str) -> dict[str, object]:
    """The setting that makes a backbone read times, where it can."""
    return {"time_bias": True} if "time_bias" in MODELS[name].config.model_fields else {}


def timed(rows: list[list[int]]) -> Ragged:
    """Rows whose events lie seconds to months apart: the same rows, the same times."""
    gaps = [10 ** (1 + (7 * item + 3 * place) % 60 / 10) for row in rows for place, item in enumerate(row)]
    plain = Ragged.from_lists(rows)
    time = torch.tensor(gaps, dtype=torch.float64).cumsum(0)
    return plain.with_time(time - time[plain.offsets[plain.row]])


def exact(one: Tensor, other: Tensor) -> None:
    """Equal up to rounding of float64."""
    assert one.dtype == other.dtype == torch.float64
    torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", MODELS)
class TestBackbone:
    """One contract, all backbones."""

    @pytest.fixture
    def model(self, name: str) -> SequenceModel:
        return made(shaped(name)).double().eval()

    def test_shapes(self, model: SequenceModel) -> None:
        rows = Ragged.from_lists(HISTORIES)
        assert model.encode(rows).shape == (rows.values.numel(), 8)
        assert model.item_vectors().shape == (V, 8)
        scores = model.score(rows)
        assert scores.shape == (len(HISTORIES), V)
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()
        assert (model.num_items, model.max_length) == (V, 10)

    def test_a_later_item_never_changes_an_earlier_state(self, model: SequenceModel) -> None:
        assert model.causal
        whole = model.encode(Ragged.from_lists([[1, 2, 3, 4, 5, 6]]))
        for length in range(1, 6):
            for later in ([], [9], [9, 9]):
                row = [1, 2, 3, 4, 5, 6][:length] + later
                exact(model.encode(Ragged.from_lists([row]))[:length], whole[:length])

    def test_every_earlier_item_counts(self, model: SequenceModel) -> None:
        """So that causality is not kept by looking at nothing."""
        last = model.encode_last(Ragged.from_lists([[1, 2, 3, 4, 5]]))
        for place in range(5):
            row = [1, 2, 3, 4, 5]
            row[place] = 20
            assert not torch.allclose(model.encode_last(Ragged.from_lists([row])), last, atol=1e-8)
        swapped = model.encode_last(Ragged.from_lists([[2, 1, 3, 4, 5]]))
        assert not torch.allclose(swapped, last, atol=1e-8)

    def test_neither_batch_nor_padding_changes_anything(
        self, model: SequenceModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        together = model.encode_last(Ragged.from_lists(HISTORIES))
        exact(together, torch.cat([model.encode_last(Ragged.from_lists([row])) for row in HISTORIES]))
        exact(together.flip(0), model.encode_last(Ragged.from_lists(HISTORIES[::-1])))
        monkeypatch.setattr("rsir.ragged._BLOCK_ROWS", 2)
        exact(together, model.encode_last(Ragged.from_lists(HISTORIES)))

    def test_only_the_most_recent_events_count(self, model: SequenceModel) -> None:
        recent = [3, 4, 5, 6, 7, 8, 9, 1, 2, 5]
        long, short = (model.encode_last(Ragged.from_lists([row])) for row in ([1, 2, *recent], recent))
        exact(long, short)

    def test_going_on_by_one_item_equals_reading_it_all(self, model: SequenceModel) -> None:
        if not model.incremental:
            with pytest.raises(NotImplementedError, match="anew"):
                model.advance(torch.tensor([1]), None)
            return
        rows = torch.arange(30).view(3, 10) * 7 % V // 2
        memory: Memory | None = None
        for length, column in enumerate(rows.unbind(1), start=1):
            state, memory = model.advance(column, memory)
            assert memory.length == length
            exact(state, model.encode_last(Ragged.from_lists(rows[:, :length].tolist())))

    def test_prefixes_may_branch_and_change_places(self, model: SequenceModel) -> None:
        if not model.incremental:
            pytest.skip("does not go on by one item")
        _, memory = model.advance(torch.tensor([1, 2]), None)
        _, memory = model.advance(torch.tensor([3, 4]), memory)
        branched = Memory.concat([memory.select(torch.tensor([1, 1])), memory.select(torch.tensor([0]))])
        state, _ = model.advance(torch.tensor([5, 6, 7]), branched)
        exact(state, model.encode_last(Ragged.from_lists([[2, 4, 5], [2, 4, 6], [1, 3, 7]])))

    @pytest.fixture
    def timed_model(self, name: str) -> SequenceModel:
        """It reads times where it can, with all weights away from their first values."""
        model = made(shaped(name, **reads_times(name))).double().eval()
        generator = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        return model

    def test_later_times_never_change_an_earlier_state(self, timed_model: SequenceModel) -> None:
        row = timed([[1, 2, 3, 4, 5, 6]])
        assert row.time is not None
        whole = timed_model.encode(row)
        for length in range(1, 6):
            later = row.time.clone()
            later[length:] += 10.0**length
            exact(timed_model.encode(row.with_time(later))[:length], whole[:length])

    def test_neither_batch_nor_padding_changes_anything_with_times(
        self, timed_model: SequenceModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = timed(HISTORIES)
        together = timed_model.encode_last(rows)
        each = torch.arange(len(rows)).split(1)
        exact(together, torch.cat([timed_model.encode_last(rows.select(row)) for row in each]))
        backwards = rows.select(torch.arange(len(rows)).flip(0))
        exact(together.flip(0), timed_model.encode_last(backwards))
        monkeypatch.setattr("rsir.ragged._BLOCK_ROWS", 2)
        exact(together, timed_model.encode_last(timed(HISTORIES)))
        long = timed([[1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 5]])
        exact(timed_model.encode_last(long), timed_model.encode_last(long.tail(10)))

    def test_without_times_a_row_is_read_as_rollouts_are(self, timed_model: SequenceModel) -> None:
        """Alone, and beside a row with times; going on by one item is the same."""
        row, beside = Ragged.from_lists([[1, 2, 3]]), timed([[4, 5, 6]])
        alone = timed_model.encode_last(row)
        exact(timed_model.encode_last(Ragged.concat([row, beside]))[:1], alone)
        exact(timed_model.encode_last(Ragged.concat([row, beside]))[1:], timed_model.encode_last(beside))
        if timed_model.incremental:
            memory: Memory | None = None
            for item in (1, 2, 3):
                state, memory = timed_model.advance(torch.tensor([item]), memory)
            exact(state, alone)

    def test_rollouts_are_the_same_for_any_batch_and_read_anew(self, name: str) -> None:
        model = made(shaped(name))
        data = Sequences.observed(Ragged.from_lists([*HISTORIES, *([row, 3, 9] for row in range(V))]), V)
        config = GenerationConfig(num_rollouts=3, max_rank=15, max_length=9)
        rollouts = generate(model, data, config, seed=1, round_index=1, batch_size=5).events.tolists()
        model.incremental = False
        again = generate(model, data, config, seed=1, round_index=1, batch_size=64).events.tolists()
        assert rollouts == again
        assert max(map(len, rollouts)) > 2

    def test_the_same_seed_the_same_network(self, name: str) -> None:
        one, other = (made(shaped(name)).state_dict() for _ in range(2))
        assert all(torch.equal(one[key], other[key]) for key in one)
        different = made(shaped(name), seed=1).state_dict()
        assert any(not torch.equal(one[key], different[key]) for key in one)

    def test_save_and_load(self, name: str, tmp_path: Path) -> None:
        model, other = made(shaped(name)).eval(), made(shaped(name), seed=1).eval()
        rows = Ragged.from_lists(HISTORIES)
        assert not torch.equal(model.score(rows), other.score(rows))
        save_weights(tmp_path / "model.safetensors", model)
        load_weights(tmp_path / "model.safetensors", other)
        assert torch.equal(model.score(rows), other.score(rows))

    def test_the_gradient_reaches_every_parameter(self, name: str) -> None:
        model = made(shaped(name, dropout=0.1, **reads_times(name))).train()
        rows = TrainingRows.build(Sequences.observed(timed(HISTORIES), V), 10)
        batch = next(rows.epoch(0, 0, 8, "cpu"))
        hidden = model.encode(batch.histories)[batch.place]
        loss = softmax_loss(hidden, model.item_vectors(), batch.target, batch.weight, 1.0)
        extra = model.auxiliary_loss(batch, torch.Generator().manual_seed(0))
        (loss if extra is None else loss + extra).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().sum() > 0, key

    def test_learns_a_chain_as_well_as_it_can_be_known(self, name: str) -> None:
        """On a ring of 12 the next item is one ahead (80 %) or two: best hit rate .8, entropy .5 nats."""
        config = shaped(name, dim=16, num_blocks=1, dropout=0.1, init_std=0.05)
        model = made(config, RING)
        looks: list[float] = []

        def validate(model: SequenceModel) -> dict[str, float]:
            looks.append(-cross_entropy(model, UNSEEN))
            return {"ndcg@10": looks[-1]}

        training = TrainingConfig(
            batch_size=32, learning_rate=1e-2, min_period=1, max_periods=12, patience=12
        )
        record = fit(model, CHAIN, training, validate, seed=3)
        entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
        assert entropy - 0.05 < -record.best_value < entropy + 0.12
        last, target = UNSEEN[:, :-1], UNSEEN[:, -1]
        best = model.score(Ragged.from_lists(last.tolist())).argmax(1)
        reachable = (target == (last[:, -1] + 1) % RING).float().mean()
        assert (best == target).float().mean() >= 0.95 * reachable

    def test_training_repeats_itself(self, name: str) -> None:
        training = TrainingConfig(batch_size=32, min_period=3, max_periods=1)
        runs = []
        for _ in range(2):
            model = made(shaped(name, dropout=0.3), RING)
            record = fit(model, CHAIN, training, lambda _: {"ndcg@10": 0.0}, seed=3, budget=3, period=3)
            runs.append((record.looks[0].loss, model.state_dict()))
        assert runs[0][0] == runs[1][0]
        assert all(torch.equal(one, runs[1][1][key]) for key, one in runs[0][1].items())

    def test_the_whole_loop(self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`rsir run --model NAME`, one round, and what the run gives again."""
        out = tmp_path / "run"
        outcome = call(capsys, "run", "--out", out, "--model", name, "--rounds", 1, *TINY_FLAGS, "--json")
        assert outcome.code == 0, outcome.err
        summary = json.loads(outcome.out)
        assert summary["status"] == "completed"
        assert json.loads((out / "rounds/0/model.json").read_text())["config"]["name"] == name
        other = next(each for each in MODELS if each != name)
        outcome = call(capsys, "run", "--resume", "--out", out, "--model", other)
        assert (outcome.code, f"model.name = {name!r}" in outcome.err) == (2, True)
        outcome = call(capsys, "recommend", out, "--all", "--json")
        assert outcome.code == 0, outcome.err
        assert len(json.loads(outcome.out)) == summary["data"]["users"]


RING = 12


def walks(count: int, seed: int) -> Tensor:
    """Walks of six steps on the ring; int64 (count, 7)."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(RING, (count, 1), generator=generator)
    step = 1 + (torch.rand(count, 6, generator=generator) < 0.2).long()
    return (start + torch.cat([torch.zeros(count, 1, dtype=torch.int64), step.cumsum(1)], 1)) % RING


CHAIN = Sequences.observed(Ragged.from_lists(walks(300, 0).tolist()), RING)
UNSEEN = walks(400, 1)


def cross_entropy(model: SequenceModel, rows: Tensor) -> float:
    """Of the last item of each row, in nats."""
    with torch.no_grad():
        scores = model.eval().score(Ragged.from_lists(rows[:, :-1].tolist()))
    return float(torch.nn.functional.cross_entropy(scores, rows[:, -1]))


def call(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """The command line with these words."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    return Outcome(code, *capsys.readouterr())


def test_the_table_and_the_settings_name_the_same_backbones() -> None:
    from rsir.config import load_config

    for name, backbone in MODELS.items():
        config = load_config(overrides=[f"model.name={name}"]).model
        assert type(config) is backbone.config
        assert type(build_model(config, 5)) is backbone.model


def test_the_document_names_them_all() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert all(f"| `{name}` |" in text for name in MODELS)


def test_models_verb(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(call(capsys, "models", "--json", "--items", 500).out)
    assert [row["name"] for row in rows] == list(MODELS)
    for row in rows:
        network = build_model(MODELS[row["name"]].config(), 500)
        assert row["parameters"] == sum(parameter.numel() for parameter in network.parameters())
        assert (row["incremental"], row["causal"], row["items"]) == (network.incremental, network.causal, 500)
        assert row["paper"] and row["cost"] and row["choose"]
    shown = call(capsys, "models").out
    assert all(name in shown for name in MODELS)
    assert call(capsys, "models", "--items", 0).code == 2
