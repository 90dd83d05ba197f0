"""Updates that move touched item vectors alone: the rest stays, means are those of every update."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_train import FAST, Kept, V, new_model, ring, train
from torch import Tensor, nn

from rsir.data.sequences import Sequences
from rsir.descent import Descent
from rsir.errors import ConfigError
from rsir.losses import Objective
from rsir.models import MODELS, build_model
from rsir.models.fearec import FEARec, FEARecConfig
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged
from rsir.touched import TouchedRows
from rsir.train import Fit, TrainingConfig, fit, touched_table

SAMPLED = {"loss": "sampled_softmax", "num_negatives": 6, "item_updates": "touched"}


class Table(nn.Module):
    """A table of 9 rows and a weight that every update moves."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.scale = nn.Embedding(9, 2), nn.Parameter(torch.ones(1))
        with torch.no_grad():
            self.item.weight.copy_(torch.arange(18.0).view(9, 2) / 10)


def loss_of(model: Table, rows: list[int], sparse: bool = True) -> Tensor:
    vectors = nn.functional.embedding(torch.tensor(rows), model.item.weight, sparse=sparse)
    return (vectors * model.scale).square().sum()


def test_rows_move_as_if_every_update_passed_over_all_of_them() -> None:
    """Adam without a first moment, and the mean, over all rows at every update."""
    touched = [[0, 1], [1], [5, 5, 2], [0], [7, 1], [1], [2, 0]] * 3
    model, oracle = Table(), Table()
    settings = {"learning_rate": 0.1, "weight_decay": 0.0, "warmup": 4, "gradient_clip": None, "ema": 0.8}
    descent = Descent(model, "cpu", **settings, table=model.item)
    adams = [
        torch.optim.AdamW([oracle.scale], weight_decay=0.0),
        torch.optim.Adam([oracle.item.weight], betas=(0.0, 0.999)),
    ]
    mean = oracle.item.weight.detach().clone()
    for update, rows in enumerate(touched):
        descent.pace(update)
        descent.step(loss_of(model, rows))
        for adam in adams:
            adam.param_groups[0]["lr"] = 0.1 * min(1, (update + 1) / 5)
            adam.zero_grad()
        loss_of(oracle, rows, sparse=False).backward()
        for adam in adams:
            adam.step()
        mean.lerp_(oracle.item.weight.detach(), 1 - min(0.8, (1 + update) / (10 + update)))
        if update % 5 == 4:  # asked for in between, too
            found = descent.mean()
            assert found is not None
            torch.testing.assert_close(found["item.weight"], mean)
    torch.testing.assert_close(model.item.weight, oracle.item.weight)
    torch.testing.assert_close(model.scale, oracle.scale)
    untouched = [3, 4, 6, 8]
    assert torch.equal(model.item.weight[untouched], Table().item.weight[untouched])
    descent.release()
    assert model.item.weight.grad is None
    assert not model.item.sparse


@pytest.mark.parametrize("change", [{}, {"loss": "bce", "num_negatives": 4}, {"loss": "gbce"}], ids=str)
def test_learns_a_ring(change: dict[str, Any]) -> None:
    config = {
        **FAST.model_dump(),
        **SAMPLED,
        "negatives": "per_position",
        "max_periods": 30,
        "patience": 30,
        "learning_rate": 2e-3,
    }
    model, _ = train(TrainingConfig(**{**config, **change}))
    scores = model.score(Ragged.from_lists([[(item - 1) % V, item] for item in range(V)]))
    assert (scores.argmax(1) == (torch.arange(V) + 1) % V).float().mean() >= 0.75
    assert not model.item.sparse
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("ema", [None, 0.9])
def test_goes_on_exactly_where_it_stopped(ema: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over so many items that most rest in an update."""
    monkeypatch.setattr("rsir.train.CHECKPOINT_SHARE", float("inf"))
    rows = [[(37 * row + 11 * place) % 400 for place in range(2 + row % 4)] for row in range(60)]
    data = Sequences.observed(Ragged.from_lists(rows), 400)
    settings = {**FAST.model_dump(), **SAMPLED, "ema": ema, "max_periods": 5, "batch_size": 4}

    def fitted(**options: Any) -> tuple[SASRec, Fit]:
        torch.manual_seed(0)
        model = SASRec(400, SASRecConfig(dim=8, dropout=0.1, max_length=10))
        look = lambda model: {"ndcg@10": float(model.item.weight.detach().sum())}  # noqa: E731
        found = fit(model, data, TrainingConfig(**settings), look, seed=3, period=3, **options)
        return model, found

    whole, expected = fitted()
    kept = Kept(2)
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=kept)
    kept.left = None
    resumed, result = fitted(checkpoint=kept)
    assert [(look.loss, look.value) for look in result.looks] == [
        (look.loss, look.value) for look in expected.looks
    ]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("negatives", ["shared", "per_position"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "bce", "gbce"])
@pytest.mark.parametrize("log_q", [False, True])
def test_the_sparse_gradient_is_the_gradient(loss: str, negatives: str, log_q: bool) -> None:
    config = TrainingConfig(loss=loss, num_negatives=5, negatives=negatives, log_q=log_q)
    vectors = torch.randn(V, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    hidden, target, found = torch.randn(7, 4), torch.arange(7), []
    for sparse in (False, True):
        torch.manual_seed(1)
        objective = Objective(config, torch.arange(V) + 1, "cpu", sparse)
        total = objective(hidden, vectors, target, torch.ones(7), 7.0)
        found.append(torch.autograd.grad(total, vectors)[0])
    assert found[1].is_sparse
    torch.testing.assert_close(found[1].to_dense(), found[0])


def test_large_catalogues_alone_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model()
    sampled = TrainingConfig(loss="bce")
    assert touched_table(model, sampled) is None
    monkeypatch.setattr("rsir.train.MANY_ITEMS", V - 1)
    assert touched_table(model, sampled) is model.item
    for change in (
        {"loss": "softmax"},
        {"weight_decay": 0.1},
        {"gradient_clip": 1.0},
        {"item_updates": "all"},
    ):
        assert touched_table(model, sampled.model_copy(update=change)) is None
    for change in ({"loss": "softmax"}, {"weight_decay": 0.1}, {"gradient_clip": 1.0}):
        with pytest.raises(ConfigError, match="item_updates=all"):
            touched_table(model, sampled.model_copy(update={"item_updates": "touched", **change}))
    cosine = build_model(MODELS["sasrec"].config(cosine=2.0, dim=8), V)
    assert touched_table(cosine, sampled) is None
    model.item.weight.requires_grad_(False)
    assert touched_table(model, sampled) is None


class Normalised(SASRec):
    """Item vectors of length 1."""

    def item_vectors(self) -> Tensor:
        return nn.functional.normalize(self.item.weight)


class Untied(SASRec):
    """Other vectors to score with."""

    def __init__(self, num_items: int, config: SASRecConfig) -> None:
        super().__init__(num_items, config)
        self.out = nn.Embedding(num_items, config.dim)

    def item_vectors(self) -> Tensor:
        return self.out.weight


class Looked(SASRec):
    """Rows looked up in its own way."""

    def _embed(self, items: Tensor, place: Tensor) -> Tensor:
        return self.dropout(self.item.weight[items])


class Shrunk(SASRec):
    """A further loss over all item vectors."""

    def auxiliary_loss(self, batch: Any, generator: Any) -> Tensor:
        return 1e-3 * self.item.weight.square().sum()


@pytest.mark.parametrize("kind", [Normalised, Untied, Looked, Shrunk])
def test_networks_of_ones_own_train_as_before(kind: type[SASRec], monkeypatch: pytest.MonkeyPatch) -> None:
    """What builds on a network of ours may use all item vectors in an update."""
    monkeypatch.setattr("rsir.train.MANY_ITEMS", V - 1)
    shape = SASRecConfig(dim=16, num_heads=1, dropout=0.1, max_length=10)
    config = TrainingConfig(**{**FAST.model_dump(), "loss": "sampled_softmax", "num_negatives": 6})
    model, _ = train(config, kind(V, shape), budget=3)
    assert touched_table(model, config) is None
    with pytest.raises(ConfigError, match="item_updates=all"):
        train(config.model_copy(update={"item_updates": "touched"}), kind(V, shape), budget=3)

    class Claims(kind):  # type: ignore[misc, valid-type]
        row_by_row = True

    if kind in (Looked, Shrunk):
        with pytest.raises(ConfigError, match="item_updates=all"):
            train(config, Claims(V, shape), budget=3)


def test_what_says_nothing_of_itself_is_nothing() -> None:
    class Mine(FEARec):
        pass

    class Chosen(FEARec):
        @property
        def row_by_row(self) -> bool:  # type: ignore[override]
            return False

    mine = Mine(V, FEARecConfig(dim=8))
    assert (mine.replayable, mine.row_by_row) == (False, False)
    assert not Chosen(V, FEARecConfig(dim=8)).row_by_row
    ours = FEARec(V, FEARecConfig(dim=8))
    assert (ours.replayable, ours.row_by_row) == (True, True)


@pytest.mark.parametrize(
    "change", [{"loss": "softmax"}, {"weight_decay": 0.1}, {"gradient_clip": 1.0}], ids=str
)
def test_what_touches_all_items_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="item_updates='touched'"):
        TrainingConfig(**{**SAMPLED, **change})


@pytest.mark.parametrize("name", MODELS)
def test_every_backbone_with_a_table_gets_a_sparse_gradient(name: str) -> None:
    model = build_model(MODELS[name].config(dim=8, dropout=0.0, max_length=10), V)
    if name == "cl4srec":
        with pytest.raises(ConfigError, match="item_updates=all"):
            touched_table(model, TrainingConfig(**SAMPLED))
        return
    table = touched_table(model, TrainingConfig(**SAMPLED))
    assert table is not None
    assert table.weight is model.item_vectors()
    rows = TouchedRows(table, averaged=False)
    data, _ = ring()
    model.train().encode(data.events.select(torch.arange(3))).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    rows.release()
    table.weight.grad = None
    model.encode(data.events.select(torch.arange(3))).sum().backward()
    assert not table.weight.grad.is_sparse
