import polars as pl
import pytest
import torch

from rsir.data.read import from_frame
from rsir.data.simulate import SimulationConfig, Truth, simulate
from rsir.data.topics import TopicRings
from rsir.errors import StoreError, UnknownIdError
from rsir.ragged import Ragged

SMALL = SimulationConfig(num_users=300, num_items=200, num_topics=4, topics_per_user=2, max_events=20)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return simulate(SMALL, seed=0).truth


def leave_one_out(truth: Truth) -> tuple[Ragged, torch.Tensor]:
    events = truth.events
    return events.slice_rows(torch.zeros_like(events.lengths), events.lengths - 1), events.values[events.last]


def recall_at_10(scores: torch.Tensor, histories: Ragged, target: torch.Tensor) -> float:
    scores = scores.clone()
    scores[histories.row, histories.values] = -torch.inf
    of_target = scores.gather(1, target[:, None])
    rank = 1 + (scores > of_target).sum(1) + ((scores == of_target).sum(1) - 1) / 2
    return float((rank <= 10).double().mean())


def test_same_seed_same_log_whatever_the_chunk() -> None:
    whole, chunked = simulate(SMALL, seed=3), simulate(SMALL, seed=3, chunk=37)
    assert whole.frame.equals(chunked.frame)
    assert not whole.frame.equals(simulate(SMALL, seed=4).frame)


def test_more_users_change_no_ones_history() -> None:
    few = simulate(SMALL.model_copy(update={"num_users": 100}), seed=3).frame["item_id"]
    assert simulate(SMALL, seed=3).frame["item_id"].head(len(few)).to_list() == few.to_list()


def test_frame_matches_truth_and_limits() -> None:
    simulation = simulate(SMALL, seed=1)
    frame, events = simulation.frame, simulation.truth.events
    assert frame.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    assert torch.equal(simulation.truth.item_indices(frame["item_id"]), events.values)
    assert torch.equal(simulation.truth.user_indices(frame["user_id"]), events.row)
    assert events.lengths.min() == SMALL.min_events
    assert events.lengths.max() <= SMALL.max_events
    assert frame.group_by("user_id").agg(pl.col("item_id").is_duplicated().any())["item_id"].sum() == 0
    steps = frame.select(pl.col("timestamp").diff().over("user_id").drop_nulls() > 0)
    assert steps["timestamp"].all()


def test_vocabulary_leads_back_to_the_truth() -> None:
    simulation = simulate(SMALL, seed=1)
    log, truth = from_frame(simulation.frame), simulation.truth
    users, items = truth.user_indices(log.users.ids), truth.item_indices(log.items.ids)
    events = log.sequences().events
    assert torch.equal(items[events.values], truth.events.values)
    assert torch.equal(users[events.row], truth.events.row)


def test_mean_length() -> None:
    config = SimulationConfig(num_users=4000, max_events=30)
    assert simulate(config, seed=0).truth.events.lengths.double().mean() == pytest.approx(8, abs=0.2)


def test_law_by_hand() -> None:
    """Two topics {0,1,2}, {3,4,5} as rings, uniform popularity; the user's tastes are .75 and .25."""
    config = SimulationConfig(
        num_users=1,
        num_items=6,
        num_topics=2,
        topics_per_user=2,
        session_length=2,
        follow_share=0.6,
        num_successors=2,
        noise_share=0.1,
        drift=0,
        min_events=1,
        mean_events=1,
        max_events=3,
    )
    rings = TopicRings(
        torch.tensor([0, 0, 0, 1, 1, 1]), torch.arange(6) % 3, torch.full((6,), 1 / 3).double(), 2
    )
    taste = torch.tensor([[0.75, 0.25]]).double()
    topics = torch.tensor([[0, 1]])
    truth = Truth(config, rings, topics, taste, taste, Ragged.from_lists([[0, 1, 2]]), torch.zeros(3).long())
    one, zero = torch.tensor([1]), torch.tensor([0])
    law = truth.next_item_probabilities(zero, one, zero, previous=zero)[0]
    new, follow, popular = 0.9 * 0.5, 0.9 * 0.5 * 0.6, 0.9 * 0.5 * 0.4
    base = 0.1 / 6
    first = base + new * 0.75 / 3 + popular / 3
    expected = [first, first + follow * 2 / 3, first + follow / 3] + [base + new * 0.25 / 3] * 3
    assert law.tolist() == pytest.approx(expected)
    without = truth.next_item_probabilities(zero, one, zero, previous=zero, seen=Ragged.from_lists([[0]]))[0]
    assert without.tolist() == pytest.approx([0] + [p / (1 - first) for p in expected[1:]])
    start = truth.next_item_probabilities(zero, zero, -one, previous=-one)[0]
    assert start.tolist() == pytest.approx([base + 0.9 * 0.25] * 3 + [base + 0.9 * 0.25 / 3] * 3)
    astray = truth.next_item_probabilities(zero, one, zero, previous=torch.tensor([4]))[0]
    assert astray[:3].tolist() == pytest.approx([base + new * 0.75 / 3 + 0.9 * 0.5 / 3] * 3)


@pytest.mark.parametrize("repeats", [False, True])
def test_generator_follows_the_law(repeats: bool) -> None:
    """Sum of the true laws over all steps against what was drawn: chi-square over 60 items."""
    config = SMALL.model_copy(
        update={"num_users": 2000, "num_items": 60, "max_events": 8, "noise_share": 0.2, "repeats": repeats}
    )
    truth = simulate(config, seed=5).truth
    users = torch.arange(config.num_users)
    for step in (1, 4):
        histories = truth.events.slice_rows(torch.zeros_like(users), torch.full_like(users, step))
        law = truth.score(users, histories)
        assert law.sum(1).allclose(torch.ones_like(law[:, 0]))
        drawn = truth.events.values[truth.events.offsets[:-1] + step]
        expected, seen = law.sum(0), torch.bincount(drawn, minlength=60).double()
        chi_square = ((seen - expected) ** 2 / expected).sum()
        assert 30 < chi_square < 100  # mean about 59, standard deviation about 11
        likelihood = law.gather(1, drawn[:, None]).mean()
        assert likelihood == pytest.approx(float((law**2).sum(1).mean()), rel=0.1)


def test_sequence_matters_and_the_oracle_is_the_best() -> None:
    truth = simulate(SimulationConfig(), seed=0).truth
    histories, target = leave_one_out(truth)
    train, size = truth.events.slice_rows(0 * target, truth.events.lengths - 2), truth.config.num_items
    counts = torch.zeros(size, size, dtype=torch.float64)
    inside = train.row[1:] == train.row[:-1]
    pairs = (train.values[:-1][inside], train.values[1:][inside])
    counts.index_put_(pairs, torch.ones(len(pairs[0]), dtype=torch.float64), accumulate=True)
    popular = torch.bincount(train.values, minlength=size) / len(train.values)
    popularity = recall_at_10(popular.expand(len(target), -1), histories, target)
    markov = recall_at_10(counts[histories.values[histories.last]] + popular, histories, target)
    oracle = recall_at_10(truth.score(torch.arange(len(target)), histories), histories, target)
    assert markov > 4 * popularity
    assert oracle > markov
    ideal = truth.ideal()
    assert ideal["recall@10"] == pytest.approx(oracle, abs=0.03)
    assert 0 < ideal["ndcg@10"] < ideal["recall@10"]


def test_drift_moves_tastes() -> None:
    still = simulate(SMALL.model_copy(update={"drift": 0.0}), seed=0).truth
    moving = simulate(SMALL.model_copy(update={"drift": 1.0}), seed=0).truth
    user, last = torch.arange(300), moving.events.lengths - 1
    assert torch.equal(still.tastes(user, last), still.first_tastes)
    assert moving.tastes(user, last).allclose(moving.last_tastes)
    assert moving.tastes(user, 0 * last).allclose(moving.first_tastes)


def test_leakage_equals_brute_force(truth: Truth) -> None:
    user, items = torch.arange(300), torch.arange(200)
    liking = truth.preference(user[:, None], items)
    assert liking.sum(1).allclose(torch.ones(300, dtype=torch.float64))
    best, order = liking.sort(1, descending=True)
    inside = best.cumsum(1) - best < 0.9  # the items before it do not hold the mass yet
    expected = torch.zeros(300, 200, dtype=torch.bool).scatter(1, order, inside)
    assert torch.equal(truth.leakage(user[:, None], items, mass=0.9), ~expected)


def test_preference_is_the_long_run_law() -> None:
    """Long noise-free histories with repeats take items as often as `preference` says."""
    config = SMALL.model_copy(
        update={"num_users": 600, "max_events": 50, "mean_events": 50.0, "min_events": 50}
        | {"noise_share": 0.0, "repeats": True, "num_items": 40}
    )
    truth = simulate(config, seed=2).truth
    liking = truth.preference(torch.arange(600)[:, None], torch.arange(40)).mean(0)
    taken = torch.bincount(truth.events.values, minlength=40) / truth.events.values.numel()
    assert (taken - liking).abs().max() < 0.12 * liking.mean()


def test_leak_rates() -> None:
    quiet = simulate(SMALL.model_copy(update={"noise_share": 0.0}), seed=0).truth
    events = quiet.events
    assert not quiet.leakage(events.row, events.values, mass=0.9999999).any()
    loud = simulate(SMALL, seed=0).truth
    rate = loud.leakage(events.row[:1], torch.arange(200)).double().mean()
    user = events.row[:1].expand(50_000)
    random = torch.randint(200, (50_000,), generator=torch.Generator().manual_seed(0))
    assert loud.leakage(user, random).double().mean() == pytest.approx(float(rate), abs=0.01)
    observed = loud.leakage(loud.events.row, loud.events.values).double().mean()
    assert 0.02 < observed < 0.2 < rate


def test_saved_truth_answers_the_same(truth: Truth, tmp_path) -> None:
    truth.save(tmp_path / "truth")
    loaded = Truth.load(tmp_path / "truth")
    histories, _ = leave_one_out(truth)
    assert loaded.config == truth.config
    assert torch.equal(loaded.score(torch.arange(300), histories), truth.score(torch.arange(300), histories))
    with pytest.raises(StoreError, match=r"truth\.json"):
        Truth.load(tmp_path)


@pytest.mark.parametrize("unknown", ["i999", "u001", "i0x"])
def test_unknown_id(truth: Truth, unknown: str) -> None:
    with pytest.raises(UnknownIdError, match=unknown):
        truth.item_indices(["i001", unknown])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"num_topics": 300}, "num_successors"),
        ({"max_events": 100}, "without repeats"),
        ({"mean_events": 3}, "mean_events"),
        ({"topics_per_user": 21}, "topics_per_user"),
        ({"usres": 3}, "usres"),
    ],
)
def test_impossible_worlds(change: dict[str, int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        SimulationConfig(**change)
