import pytest
import torch

from rsir.models.ranking import top_items
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.models.scorers import Answers, Past, TiledScorer
from rsir.ragged import Ragged

PREFIXES = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]])
PARENTS = [None, torch.tensor([0, 1, 1]), torch.arange(3), torch.arange(3)]


def network() -> SASRec:
    torch.manual_seed(0)
    return SASRec(30, SASRecConfig(dim=16, init_std=0.3))


def grow(scorer: TiledScorer) -> list[Answers]:
    """Answers for prefixes that grow from one item to four; the last two begin alike."""
    answers: list[Answers] = []
    for length, parent in enumerate(PARENTS, 1):
        prefixes = torch.tensor([[3], [5]]) if parent is None else PREFIXES[:, :length]
        memory = answers[-1].memory if answers else None
        past = None if parent is None or memory is None else Past(memory, parent)
        queries = Ragged.from_lists([[7, 8]] * len(prefixes))
        answers.append(scorer.ask(prefixes, queries, 5, past))
    return answers


def test_what_is_remembered_changes_no_answer() -> None:
    plain = grow(TiledScorer(network(), memory_bytes=0))
    for batch_size in (1, 2, 100):
        for ours, without in zip(grow(TiledScorer(network(), batch_size=batch_size)), plain, strict=True):
            assert ours.memory is not None
            assert without.memory is None
            for name in ("items", "scores", "asked"):
                assert torch.equal(getattr(ours, name), getattr(without, name))


def test_the_order_alone_is_the_same_order() -> None:
    scorer = TiledScorer(network())
    both = scorer.ask(PREFIXES, Ragged.from_lists([[]] * 3), 30)
    order = scorer.ask(PREFIXES, None, 30)
    assert torch.equal(order.items, both.items)
    assert order.scores is None
    assert order.asked is None


def test_a_prefix_longer_than_the_network_reads_is_read_anew() -> None:
    scorer = TiledScorer(SASRec(30, SASRecConfig(dim=16, max_length=3)))
    assert scorer.ask(PREFIXES, None, 3).memory is None


@pytest.mark.parametrize("values", [2, 30, 10**6])
@pytest.mark.parametrize("k", [1, 7, 200])
def test_the_top_items_are_those_of_a_whole_sort(values: int, k: int) -> None:
    """With hardly any distinct values, with some ties, with hardly any tie."""
    generator = torch.Generator().manual_seed(values + k)
    scores = torch.randint(values, (40, 200), generator=generator).double() - values // 2
    scores[::3] *= -1  # zeros of both signs are equal
    whole = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(top_items(scores, k), whole)
