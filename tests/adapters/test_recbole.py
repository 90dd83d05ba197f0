"""Against the real RecBole, where it is installed; see docs/models.md."""

# ruff: noqa: E402
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
pytest.importorskip("recbole", reason="RecBole is not installed: it needs an environment of its own")

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed
from recbole.utils.case_study import full_sort_scores

from rsir.acquire import acquisition_rule
from rsir.acquire.settings import AcquisitionConfig
from rsir.adapters.recbole import RecBoleModel, write_dataset
from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.data.splits import split
from rsir.enrich import events_frame
from rsir.errors import ModelError
from rsir.generate import GenerationConfig, generate
from rsir.ragged import Ragged


@pytest.fixture(scope="module")
def log() -> Interactions:
    world = simulate(SimulationConfig(num_users=80, num_items=40, num_topics=3, max_events=15), seed=2)
    return from_frame(world.frame, ReadConfig())


def trained(events: pl.DataFrame, folder: Path, name: str = "SASRec", epochs: int = 2) -> Any:
    """A small model of RecBole, its training and its test data, from events by its own API."""
    write_dataset(events, folder, "shop")
    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "train_neg_sample_args": None if name != "BPR" else {"distribution": "uniform", "sample_num": 1},
        "MAX_ITEM_LIST_LENGTH": 8,
        "hidden_size": 16,
        "embedding_size": 16,
        "inner_size": 16,
        "train_batch_size": 64,
        "learning_rate": 0.01,
        "epochs": epochs,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["test"])  # it reads the command line
        patch.chdir(folder)
        config = Config(model=name, dataset="shop", config_dict=settings)
        init_seed(0, True)
        train, _, test = data_preparation(config, create_dataset(config))
        model = get_model(name)(config, train.dataset).to(config["device"])
        if epochs:
            Trainer(config, model).fit(train, verbose=False, saved=False)
    return model, train, test


@pytest.fixture(scope="module", params=["SASRec", "GRU4Rec"])
def fitted(
    request: pytest.FixtureRequest, log: Interactions, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    events = events_frame(log, log.sequences())
    return trained(events, tmp_path_factory.mktemp("recbole"), request.param)


def test_scores_are_those_of_its_own_case_study(fitted: Any, log: Interactions) -> None:
    """RecBole asks its test cases, whose histories are all events of a user but the last."""
    model, train, test = fitted
    data = test.dataset
    cases = split(log).test
    scores = RecBoleModel(model, train.dataset, log.items).score(cases.histories.tail(8))
    columns = data.token2id(data.iid_field, log.items.ids.cast(pl.String).to_numpy().astype(object))
    names = log.users.ids_of(cases.user).cast(pl.String).to_list()
    for row in range(0, len(cases), 7):
        user = data.token2id(data.uid_field, names[row])
        theirs = full_sort_scores(np.array([user]), model, test)[0]
        torch.testing.assert_close(scores[row], theirs[columns], rtol=1e-4, atol=1e-5)


def test_other_rows_change_nothing(fitted: Any, log: Interactions) -> None:
    model, train, _ = fitted
    adapter = RecBoleModel(model, train.dataset, log.items)
    together = adapter.score(log.ragged)
    alone = torch.cat([adapter.score(log.ragged.select(torch.tensor([row]))) for row in range(5)])
    torch.testing.assert_close(together[:5], alone, rtol=1e-4, atol=1e-5)


def test_it_generates_and_judges_and_trains_on_the_result(
    fitted: Any, log: Interactions, tmp_path: Path
) -> None:
    model, train, _ = fitted
    data, adapter = log.sequences(), RecBoleModel(model, train.dataset, log.items)
    rollouts = generate(adapter, data, GenerationConfig(num_rollouts=2), seed=0, round_index=1)
    admission = acquisition_rule(AcquisitionConfig(), 3, None).admit(rollouts, data, seed=0, round_index=1)
    made = admission.sequences(rollouts, 1)
    assert len(made) > 0
    enriched = events_frame(log, Sequences.concat([data, made]))
    _, again, _ = trained(enriched, tmp_path, type(model).__name__, epochs=1)
    assert again.dataset.user_num == len(data) + len(made) + 1  # one is padding
    assert len(again.dataset) > len(train.dataset)


def test_a_user_s_events_keep_their_order(tmp_path: Path) -> None:
    """Unix times a second apart are equal in float32."""
    order = ["z", "a", "m", "b", "y"]
    frame = pl.DataFrame(
        {"user_id": ["u"] * 5, "item_id": order, "timestamp": [1_400_000_000 + i for i in range(5)]}
    )
    _, _, test = trained(frame, tmp_path, epochs=0)
    data = test.dataset
    history = data.inter_feat[data.item_id_list_field][0]
    assert data.id2token(data.iid_field, history).tolist()[:4] == order[:4]


def test_it_learns_a_circle(tmp_path: Path) -> None:
    rows = [[(start + step) % 12 for step in range(7)] for start in range(12)] * 8
    events = {
        "user_id": [f"u{user}" for user, row in enumerate(rows) for _ in row],
        "item_id": [item for row in rows for item in row],
        "timestamp": [place for row in rows for place in range(len(row))],
    }
    circle = from_frame(pl.DataFrame(events), ReadConfig())
    model, train, _ = trained(pl.DataFrame(events), tmp_path, epochs=15)
    adapter = RecBoleModel(model, train.dataset, circle.items)
    asked = [circle.items.index_of(row).tolist() for row in ([3], [4, 5], [10, 11])]
    best = adapter.score(Ragged.from_lists(asked)).argmax(1)
    assert circle.items.ids_of(best).to_list() == [4, 6, 0]


def test_what_cannot_be_used_is_refused(fitted: Any, log: Interactions, tmp_path: Path) -> None:
    events = events_frame(log, log.sequences())
    general, train, _ = trained(events, tmp_path, "BPR", epochs=0)
    assert isinstance(general, BPR)
    with pytest.raises(ModelError, match="BPR is no sequential model"):
        RecBoleModel(general, train.dataset, log.items)
