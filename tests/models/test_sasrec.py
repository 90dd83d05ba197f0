"""The contract of a backbone, on SASRec in all its forms."""

import pytest
import torch

from rsir.errors import ModelError, StoreError
from rsir.models import build_model
from rsir.models.layers import Dropout
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged
from rsir.weights import load_weights, save_weights

V = 30
FORMS = [
    {"positions": "from_end"},
    {"positions": "from_start"},
    {"positions": "relative"},
    {"positions": "none", "num_blocks": 1},
    {"norm": "post", "activation": "relu", "ffn_factor": 4},
    {"cosine": 20.0, "scale_embedding": True, "num_heads": 1},
]
HISTORIES = [[1, 2, 3, 4, 5], [6], [7, 8, 9], [1, 2], [10, 11, 12, 13]]


@pytest.fixture(params=FORMS, ids=str)
def model(request: pytest.FixtureRequest) -> SASRec:
    torch.manual_seed(0)
    made = build_model(SASRecConfig(dim=8, max_length=6, init_std=0.3, **request.param), V)
    assert isinstance(made, SASRec)
    return made.eval()


def test_shapes(model: SASRec) -> None:
    rows = Ragged.from_lists(HISTORIES)
    assert model.encode(rows).shape == (15, 8)
    assert model.score(rows).shape == (5, V)
    assert model.item_vectors().shape == (V, 8)


def test_batch_and_order_change_nothing(model: SASRec) -> None:
    together = model.score(Ragged.from_lists(HISTORIES))
    alone = torch.cat([model.score(Ragged.from_lists([history])) for history in HISTORIES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_one_block_or_many(model: SASRec, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model.score(Ragged.from_lists(HISTORIES))
    monkeypatch.setattr("rsir.ragged._BLOCK_ROWS", 2)
    torch.testing.assert_close(model.score(Ragged.from_lists(HISTORIES)), expected, atol=1e-5, rtol=1e-5)


def test_a_later_item_never_changes_an_earlier_state() -> None:
    """Places counted from the end depend on how much is still to come; all else is strictly causal."""
    for form in FORMS[1:4]:
        torch.manual_seed(0)
        model = SASRec(V, SASRecConfig(dim=8, max_length=6, init_std=0.3, **form)).eval()
        short, long = (
            model.encode(Ragged.from_lists([[1, 2, 3]])),
            model.encode(Ragged.from_lists([[1, 2, 3, 9, 9]])),
        )
        torch.testing.assert_close(short, long[:3], atol=1e-5, rtol=1e-5)
    model = SASRec(V, SASRecConfig(dim=8, max_length=6, init_std=0.3, positions="from_end")).eval()
    one, other = (model.encode(Ragged.from_lists([[1, 2, 3, last]])) for last in (4, 5))
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3], other[3])


def test_only_the_most_recent_events_count(model: SASRec) -> None:
    recent = [3, 4, 5, 6, 7, 8]
    long, short = model.score(Ragged.from_lists([[1, 2, *recent]])), model.score(Ragged.from_lists([recent]))
    torch.testing.assert_close(long, short)


def test_order_matters_where_there_are_positions(model: SASRec) -> None:
    """One block without positions sees a set; a second one would see order through causality."""
    one, other = (model.score(Ragged.from_lists([row])) for row in ([1, 2, 3], [2, 1, 3]))
    if model.config.positions == "none":
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    else:
        assert not torch.allclose(one, other, atol=1e-4)


def test_weights_round_trip_and_misfits(model: SASRec, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "model.safetensors"
    save_weights(path, model)
    other = SASRec(V, model.config).eval()
    load_weights(path, other)
    rows = Ragged.from_lists(HISTORIES)
    assert torch.equal(model.score(rows), other.score(rows))
    with pytest.raises(ModelError, match="do not fit"):
        load_weights(path, SASRec(V + 1, model.config))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="damaged"):
        load_weights(path, other)


def test_dropout_keeps_expectations_and_its_rate() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.3)
    x = torch.ones(1000, 203)
    dropped = layer(x)
    assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_scores_as_the_cpu(model: SASRec) -> None:
    rows = Ragged.from_lists(HISTORIES)
    expected = model.score(rows)
    got = model.to("cuda").score(rows.to("cuda")).cpu()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
