"""Against the real RecTools, where it is installed; see docs/models.md."""

# ruff: noqa: E402
from typing import Any

import polars as pl
import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
pytest.importorskip("rectools", reason="RecTools is not installed: pip install 'rsir[rectools]'")
pytest.importorskip("pytorch_lightning", reason="RecTools is installed without its extra torch")

from rectools import Columns
from rectools.models import BERT4RecModel, PopularModel, SASRecModel

from rsir.acquire import acquisition_rule
from rsir.acquire.settings import AcquisitionConfig
from rsir.adapters.rectools import RecToolsModel, to_dataset
from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.data.splits import Cases
from rsir.data.vocabulary import Vocabulary
from rsir.enrich import events_frame
from rsir.errors import DataError, ModelError, NotFittedError
from rsir.evaluate import evaluate
from rsir.generate import GenerationConfig, generate
from rsir.ragged import Ragged

SMALL: dict[str, Any] = {
    "n_factors": 16,
    "n_blocks": 1,
    "n_heads": 2,
    "session_max_len": 8,
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.01,
    "deterministic": True,
    "recommend_torch_device": "cpu",
}


@pytest.fixture(scope="module")
def log() -> Interactions:
    world = simulate(SimulationConfig(num_users=80, num_items=40, num_topics=3, max_events=15), seed=2)
    return from_frame(world.frame, ReadConfig())


@pytest.fixture(scope="module", params=[SASRecModel, BERT4RecModel])
def model(request: pytest.FixtureRequest, log: Interactions) -> Any:
    torch.manual_seed(0)
    return request.param(**SMALL).fit(to_dataset(events_frame(log, log.sequences())))


def test_scores_are_those_that_recommend_ranks_by(model: Any, log: Interactions) -> None:
    dataset = to_dataset(events_frame(log, log.sequences()))
    users = log.users.ids.to_list()
    lists = model.recommend(users=users, dataset=dataset, k=10, filter_viewed=False)
    scores = RecToolsModel(model, log.items).score(log.ragged)
    best = scores.sort(dim=1, descending=True, stable=True)
    for row, user in enumerate(users):
        theirs = lists[lists[Columns.User] == user]
        torch.testing.assert_close(
            best.values[row, :10], torch.tensor(theirs[Columns.Score].to_numpy()), rtol=1e-4, atol=1e-4
        )
        asked = log.items.index_of(theirs[Columns.Item].tolist())
        torch.testing.assert_close(scores[row, asked], best.values[row, :10], rtol=1e-4, atol=1e-4)


def test_other_rows_change_nothing(model: Any, log: Interactions) -> None:
    adapter = RecToolsModel(model, log.items)
    together = adapter.score(log.ragged)
    alone = torch.cat([adapter.score(log.ragged.select(torch.tensor([row]))) for row in range(5)])
    torch.testing.assert_close(together[:5], alone, rtol=1e-4, atol=1e-5)


def test_it_generates_and_judges_and_trains_on_the_result(model: Any, log: Interactions) -> None:
    data, adapter = log.sequences(), RecToolsModel(model, log.items)
    rollouts = generate(adapter, data, GenerationConfig(num_rollouts=2), seed=0, round_index=1)
    admission = acquisition_rule(AcquisitionConfig(), 3, None).admit(rollouts, data, seed=0, round_index=1)
    made = admission.sequences(rollouts, 1)
    assert len(made) > 0
    assert (made.events.values[made.events.offsets[:-1]] == first_items(data)[made.source]).all()
    again = type(model)(**SMALL).fit(to_dataset(events_frame(log, Sequences.concat([data, made]))))
    assert len(again.data_preparator.train_dataset.user_id_map.external_ids) == len(data) + len(made)
    assert RecToolsModel(again, log.items).score(data.events).isfinite().all()


def first_items(data: Sequences) -> torch.Tensor:
    return data.events.values[data.events.offsets[:-1]]


def test_it_learns_a_circle() -> None:
    """After item i comes i + 1: a fitted model ranks it first, through our evaluation."""
    rows = [[(start + step) % 12 for step in range(7)] for start in range(12)] * 8
    items = Vocabulary(pl.Series(range(12), dtype=pl.Int64))
    circle = Sequences.observed(Ragged.from_lists(rows), 12)
    torch.manual_seed(0)
    frame = pl.DataFrame(
        {
            "user_id": [str(user) for user, row in enumerate(rows) for _ in row],
            "item_id": [item for row in rows for item in row],
            "timestamp": [place for row in rows for place in range(len(row))],
        }
    )
    model = RecToolsModel(SASRecModel(**{**SMALL, "epochs": 25}).fit(to_dataset(frame)), items)
    cases = Cases(Ragged.from_lists([[3], [4, 5], [10, 11]]), torch.tensor([4, 6, 0]), torch.arange(3))
    assert evaluate(model, cases, circle.item_counts()).rank.tolist() == [1.0, 1.0, 1.0]


def test_items_it_never_saw_stand_last(log: Interactions) -> None:
    rare = int(log.sequences().item_counts().argmin())
    frame = events_frame(log, log.sequences())
    without = frame.filter(pl.col("item_id") != log.items.ids[rare])
    adapter = RecToolsModel(SASRecModel(**SMALL).fit(to_dataset(without)), log.items)
    scores = adapter.score(log.ragged)
    assert (scores.argmin(1) == rare).all()


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_times_are_understood_in_any_unit(scale: int) -> None:
    times = [1_400_000_000, 1_400_000_001]
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": [2, 1], "timestamp": [t * scale for t in times]})
    dated = to_dataset(frame).interactions.df[Columns.Datetime]
    assert [int(stamp.timestamp()) for stamp in dated] == times


def test_dates_and_order_are_kept() -> None:
    dates = pl.Series([1_400_000_000_000_000] * 3).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["z", "a", "m"], "timestamp": dates})
    raw = to_dataset(frame).get_raw_interactions()
    assert raw[Columns.Item].tolist() == ["z", "a", "m"]
    assert raw[Columns.Datetime].iloc[0].year == 2014


def test_what_cannot_be_used_is_refused(log: Interactions) -> None:
    with pytest.raises(ModelError, match="PopularModel is no transformer"):
        RecToolsModel(PopularModel(), log.items)
    with pytest.raises(NotFittedError, match="call its fit"):
        RecToolsModel(SASRecModel(**SMALL), log.items)
    with pytest.raises(DataError, match="no column 'timestamp'"):
        to_dataset(pl.DataFrame({"user_id": ["u"], "item_id": ["i"]}))


def test_a_model_that_reads_times_is_refused(log: Interactions) -> None:
    from rectools.models.nn.transformers.hstu import HSTUModel

    timed = HSTUModel(**{**SMALL, "epochs": 1}, relative_time_attention=True)
    timed.fit(to_dataset(events_frame(log, log.sequences())))
    with pytest.raises(ModelError, match="reads the times of events"):
        RecToolsModel(timed, log.items)
