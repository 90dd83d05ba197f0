"""The evaluator against a plain-Python oracle, published figures, and cases worked by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.errors import ConfigError, DataError, ModelError
from rsir.evaluate import EvaluationConfig, SeenPolicy, by_bucket, evaluate, ranks
from rsir.models.popular import MostPopular
from rsir.models.ranking import top_items
from rsir.ragged import Ragged
from rsir.rng import hash_tensor

POLICIES: tuple[SeenPolicy, ...] = ("mask", "mask_except_target", "allow")


class Table:
    """Scores that depend on the last item only: row `last` of a table."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.num_items = table, table.shape[1]

    def score(self, histories: Ragged) -> Tensor:
        return self.table[histories.values[histories.last]]


def _cases(histories: list[list[int]], target: list[int]) -> Cases:
    return Cases(Ragged.from_lists(histories), torch.tensor(target), torch.arange(len(target)) + 100)


def _random_cases(count: int, num_items: int) -> Cases:
    """Histories of 1 to 9 items with repeats, inside themselves and of the target."""
    lengths = hash_tensor("length", torch.arange(count)) % 9
    histories = Ragged.from_lengths(torch.empty(0), lengths.abs() + 1)
    total = int(histories.offsets[-1])
    items = (hash_tensor("item", torch.arange(total)) % num_items).abs()
    target = (hash_tensor("target", torch.arange(count)) % num_items).abs()
    return Cases(Ragged(items, histories.offsets), target, torch.arange(count))


def _tied_table(num_items: int) -> Table:
    """Whole scores 0 … 4, so that ties abound."""
    places = torch.arange(num_items * num_items).view(num_items, num_items)
    return Table((hash_tensor("score", places) % 5).abs().float())


def _oracle(scores: list[float], history: list[int], target: int, seen: str) -> float:
    out = set() if seen == "allow" else set(history)
    if seen == "mask_except_target":
        out.discard(target)
    if target in out:
        return float("inf")
    rest = [score for item, score in enumerate(scores) if item not in out and item != target]
    mine = scores[target]
    return 1 + sum(score > mine for score in rest) + sum(score == mine for score in rest) / 2


@pytest.mark.parametrize("seen", POLICIES)
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_ranks_equal_the_slow_oracle(seen: SeenPolicy, batch_size: int) -> None:
    cases, model = _random_cases(60, 12), _tied_table(12)
    slow = [
        _oracle(model.table[history[-1]].tolist(), history, target, seen)
        for history, target in zip(cases.histories.tolists(), cases.target.tolist(), strict=True)
    ]
    assert ranks(model, cases, seen, batch_size=batch_size).tolist() == slow
    assert any(rank % 1 == 0.5 for rank in slow)  # the data has ties
    assert (float("inf") in slow) == (seen == "mask")  # and repeated targets


def test_a_constant_scorer_looks_like_chance() -> None:
    rank = ranks(Table(torch.zeros(101, 101)), _cases([[0], [5]], [50, 7]), "allow")
    assert rank.tolist() == [51.0, 51.0]
    masked = ranks(Table(torch.zeros(101, 101)), _cases([[0], [5, 6, 5]], [50, 7]), "mask")
    assert masked.tolist() == [50.5, 50.0]  # of 100 items, of 99


def test_seen_items_are_out_even_when_every_other_score_is_negative() -> None:
    model = Table(torch.tensor([[-1.0, -5.0, -2.0, -3.0]]).expand(4, 4))
    found = evaluate(model, _cases([[0, 2]], [3]), torch.ones(4, dtype=torch.int64))
    assert found.rank.tolist() == [1.0]
    assert found.lists is not None
    assert found.lists.tolist() == [[3, 1, -1, -1]]


def test_cold_and_repeated_targets_are_misses_under_a_ceiling() -> None:
    model = Table(torch.tensor([9.0, 8.0, 7.0, 6.0]).expand(4, 4))
    cases, counts = _cases([[3], [3], [0, 3], [3]], [0, 1, 0, 2]), torch.tensor([4, 2, 0, 4])
    found = evaluate(model, cases, counts, EvaluationConfig(cutoffs=(4,)))
    assert found.rank.tolist() == [1.0, 2.0, float("inf"), float("inf")]
    assert found.counts == {"cases": 4, "cold": 1, "repeated": 1}
    assert found.ceiling == 0.5
    assert found.metrics["recall@4"] == 0.5
    assert found.warm_metrics["recall@4"] == pytest.approx(2 / 3)
    assert "seen items: mask; 1 cold and 1 repeated" in found.summary()
    assert "recall 0.5000" in found.summary()
    other = evaluate(model, cases, counts, EvaluationConfig(seen="mask_except_target"))
    assert (other.rank.tolist()[2], other.ceiling) == (1.0, 0.75)


def test_recall_never_passes_the_ceiling_and_reaches_it() -> None:
    """A scorer that knows the answers stands exactly at the ceiling."""
    cases = _random_cases(80, 30)
    answers = torch.nn.functional.one_hot(cases.target, 30).float()
    counts = (torch.arange(30) % 7).clamp(max=1)
    for seen in POLICIES:
        model = _Answers(answers, cases)
        found = evaluate(model, cases, counts, EvaluationConfig(seen=seen, cutoffs=(1,)), batch_size=100)
        assert found.metrics["recall@1"] == pytest.approx(found.ceiling)
        assert 0 < found.ceiling < 1


class _Answers:
    """Gives each history the answer of its case."""

    def __init__(self, answers: Tensor, cases: Cases) -> None:
        self.num_items = answers.shape[1]
        self.answers = {tuple(h): a for h, a in zip(cases.histories.tolists(), answers, strict=True)}

    def score(self, histories: Ragged) -> Tensor:
        return torch.stack([self.answers[tuple(history)] for history in histories.tolists()])


def test_lists_are_the_stable_sort_of_the_unseen_items() -> None:
    cases, model = _random_cases(60, 12), _tied_table(12)
    found = evaluate(model, cases, torch.ones(12, dtype=torch.int64), EvaluationConfig(cutoffs=(1, 5)))
    assert found.lists is not None
    for row, history in zip(found.lists.tolist(), cases.histories.tolists(), strict=True):
        scores = model.table[history[-1]].tolist()
        unseen = [item for item in range(12) if item not in history]
        expected = sorted(unseen, key=lambda item: (-scores[item], item))[:5]
        assert row == expected + [-1] * (5 - len(expected))


@pytest.mark.parametrize("k", [1, 3, 12, 50])
def test_top_items_is_a_stable_sort(k: int) -> None:
    scores = _tied_table(12).table
    expected = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :k]
    assert torch.equal(top_items(scores, k), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_an_error(bad: float) -> None:
    table = torch.zeros(3, 3)
    table[1, 2] = bad
    with pytest.raises(ModelError, match="non-finite"):
        ranks(Table(table), _cases([[0], [1]], [1, 0]))


def test_wrong_input_is_refused_with_what_to_do() -> None:
    good = _cases([[0]], [1])
    wide = Table(torch.zeros(2, 2))
    wide.num_items = 3
    with pytest.raises(ModelError, match=r"\(1, 2\), not \(1, 3\)"):
        ranks(wide, good)
    none = Cases(Ragged.from_lists([]), good.target[:0], good.user[:0])
    with pytest.raises(DataError, match="no cases"):
        ranks(Table(torch.zeros(2, 2)), none)
    with pytest.raises(DataError, match="train_counts"):
        evaluate(Table(torch.zeros(2, 2)), good, torch.ones(3))
    with pytest.raises(ConfigError, match="batch_size"):
        ranks(Table(torch.zeros(2, 2)), good, batch_size=0)
    with pytest.raises(ValueError, match="cutoffs"):
        EvaluationConfig(cutoffs=(0,))


class _Network(nn.Module):
    """Scores by an embedding; dropout that must be off; one part frozen in evaluation mode."""

    num_items = 6

    def __init__(self) -> None:
        super().__init__()
        self.table, self.dropout, self.frozen = nn.Embedding(6, 6), nn.Dropout(0.9), nn.Dropout(0.5)
        self.train()
        self.frozen.eval()

    def score(self, histories: Ragged) -> Tensor:
        assert not torch.is_grad_enabled()
        return self.dropout(self.table(histories.values[histories.last]))


def test_a_network_is_judged_without_dropout_and_left_as_it_was() -> None:
    model, cases = _Network(), _cases([[0], [1]], [2, 3])
    assert torch.equal(ranks(model, cases), ranks(Table(model.table.weight.detach()), cases))
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    nn.init.constant_(model.table.weight, float("nan"))
    with pytest.raises(ModelError):
        ranks(model, cases)
    assert model.dropout.training


def test_values_frame_and_progress() -> None:
    seen: list[tuple[int, int]] = []
    cases = _cases([[0, 1], [2]], [2, 0])
    model = Table(torch.eye(3))
    counts = torch.tensor([1, 1, 1])
    found = evaluate(model, cases, counts, batch_size=1, progress=lambda *x: seen.append(x), with_lists=False)
    assert seen == [(1, 2), (2, 2)]
    assert found.lists is None
    assert "coverage@10" not in found.metrics
    assert found.values("ndcg@10").mean().item() == found.metrics["ndcg@10"]
    frame = found.per_user_frame()
    assert frame.columns == [
        "user", "target", "rank", "history_length", "target_count", "cold", "repeated",
    ]  # fmt: skip
    assert frame["user"].to_list() == [100, 101]
    assert frame["rank"].to_list() == [1.0, 1.5]


def test_early_stopping_sees_the_same_ranks() -> None:
    cases, model, counts = _random_cases(60, 12), _tied_table(12), torch.arange(12) % 4
    assert torch.equal(ranks(model, cases, train_counts=counts), evaluate(model, cases, counts).rank)


def test_buckets_hold_every_case_once_and_average_to_the_whole() -> None:
    cases, model, counts = _random_cases(60, 12), _tied_table(12), torch.arange(12) * 3
    found = evaluate(model, cases, counts)
    for by in ("history_length", "target_count"):
        table = by_bucket(found, by, names=("recall@5",))  # type: ignore[arg-type]
        assert table["cases"].sum() == 60
        whole = (table["cases"] * table["recall@5"]).sum() / 60
        assert whole == pytest.approx(found.metrics["recall@5"])
    assert by_bucket(found, "target_count")["bucket"].to_list() == ["0", "1-5", "6-10", "11-25", "26-100"]
    assert by_bucket(found.per_user_frame()).equals(by_bucket(found))


def test_bucket_edges_are_the_first_values() -> None:
    cases = _cases([[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]], [4, 4, 4, 4])
    found = evaluate(Table(torch.eye(5)), cases, torch.ones(5, dtype=torch.int64))
    table = by_bucket(found, edges=(1, 2, 4))
    assert dict(table.select("bucket", "cases").iter_rows()) == {"1": 1, "2-3": 2, "4+": 1}
    with pytest.raises(ConfigError, match="rise"):
        by_bucket(found, edges=(2, 1))
    with pytest.raises(ConfigError, match="start"):
        by_bucket(found, edges=(2, 3))
    with pytest.raises(ConfigError, match="history_length"):
        by_bucket(found, "user")  # type: ignore[arg-type]


@pytest.mark.cuda
def test_a_gpu_gives_the_same_ranks_and_lists() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cases, model, counts = _random_cases(60, 12), _tied_table(12), torch.ones(12, dtype=torch.int64)
    here, there = (
        evaluate(model, cases, counts),
        evaluate(Table(model.table.cuda()), cases, counts, device="cuda"),
    )
    assert torch.equal(here.rank, there.rank)
    assert here.lists is not None
    assert there.lists is not None
    assert torch.equal(here.lists, there.lists)


def _leave_one_out(path: Path) -> tuple[Sequences, Cases]:
    """Training sequences and test cases of a file; items numbered by first appearance."""
    vocabulary: dict[str, int] = {}
    rows = [
        [vocabulary.setdefault(item, len(vocabulary)) for item in line.split()[1:]]
        for line in path.read_text().splitlines()
    ]
    events = Ragged.from_lists(rows)
    start = torch.zeros_like(events.lengths)
    train = Sequences.observed(events.slice_rows(start, events.lengths - 2), len(vocabulary))
    histories = events.slice_rows(start, events.lengths - 1)
    return train, Cases(histories, events.values[events.last], train.user)


PUBLISHED = {
    "Beauty": (0.011537, 0.005456, 138, 0),
    "Sports_and_Outdoors": (0.009130, 0.005227, 317, 0),
    "Toys_and_Games": (0.009015, 0.004933, 279, 0),
    "Yelp": (0.009464, 0.004871, 73, 2027),
}


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_popularity_figures_of_the_real_data(name: str, data_dir: Path) -> None:
    train, cases = _leave_one_out(data_dir / f"{name}.txt")
    config = EvaluationConfig(cutoffs=(10,))
    found = evaluate(MostPopular(train), cases, train.item_counts(), config, with_lists=False)
    recall, ndcg, cold, repeated = PUBLISHED[name]
    assert round(found.metrics["recall@10"], 6) == recall
    assert round(found.metrics["ndcg@10"], 6) == ndcg
    assert found.counts == {"cases": len(train), "cold": cold, "repeated": repeated}
    assert found.ceiling == pytest.approx(1 - (cold + repeated) / len(train), abs=2e-4)
