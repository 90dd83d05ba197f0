"""Lists that end where nothing more is sought give their reader what whole lists give."""

import pytest
import torch

from rsir.models import kernels
from rsir.models.sought import Sought
from rsir.models.topk import Catalogue, exact_order
from rsir.ragged import Ragged

needs_bytes = pytest.mark.skipif(not kernels.bytes_pay(), reason="no instructions for products of bytes")


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sets(rows: int, num_items: int, each: int, seed: int) -> Sought:
    """One to three sets of up to `each` items for every row but each seventh, which has none."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.randint(1, 4, (rows,), generator=generator) * (torch.arange(rows) % 7 != 3)
    lengths = torch.randint(1, each + 1, (int(number.sum()),), generator=generator)
    items = torch.randint(num_items, (int(lengths.sum()),), generator=generator)
    return Sought(torch.arange(rows).repeat_interleave(number), Ragged.from_lengths(items, lengths))


def read(listed: list[int], wanted: list[int]) -> tuple[list[int], int | None]:
    """A list down to the first wanted item, and that item; nothing and None where there is none."""
    for place, item in enumerate(listed):
        if item in wanted:
            return listed[: place + 1], item
    return [], None


def assert_read_alike(found: torch.Tensor, whole: torch.Tensor, sought: Sought) -> None:
    lists, wholes = found.tolist(), whole.tolist()
    for row, wanted in zip(sought.row.tolist(), sought.items.tolists(), strict=True):
        assert read(lists[row], wanted) == read(wholes[row], wanted)
    everything = ~torch.isin(torch.arange(len(whole)), sought.row)
    assert torch.equal(found[everything], whole[everything])


@pytest.mark.parametrize("num_items", [1, 40, 1023, 1100, 2500])
@pytest.mark.parametrize("each", [1, 5, 60])
@pytest.mark.parametrize("k", [1, 12, 70])
def test_readers_find_what_is_in_whole_lists(num_items: int, each: int, k: int) -> None:
    states, vectors = draws(205, 24), draws(num_items, 24, seed=1)
    sought, k = sets(205, num_items, each, seed=k), min(k, num_items)
    whole = exact_order(states, Catalogue.of(vectors), k)
    shuffled = torch.randperm(num_items, generator=torch.Generator().manual_seed(2))
    likely_first = (vectors @ states.mean(0)).argsort(descending=True)
    for met in (None, shuffled, likely_first):
        for tile in (512, 16384):
            catalogue = Catalogue.of(vectors, tile, met)
            assert torch.equal(exact_order(states, catalogue, k), whole)
            assert_read_alike(exact_order(states, catalogue, k, sought), whole, sought)


@pytest.mark.parametrize(
    "change",
    {
        "zeros": lambda vectors: torch.zeros_like(vectors),
        "half equal": lambda vectors: vectors.index_fill(0, torch.arange(0, len(vectors), 2), 0.5),
        "whole numbers": lambda vectors: vectors.round(),
        "a few values": lambda vectors: vectors[torch.arange(len(vectors)) % 20],
        "one huge item": lambda vectors: vectors.index_fill(0, torch.tensor([5]), 300.0),
        "tiny": lambda vectors: vectors * 1e-30,
        "smallest": lambda vectors: vectors * 1e-44,
        "large": lambda vectors: vectors * 1e15,
        "common part": lambda vectors: vectors * 1e-5 + 3.0,
    }.items(),
    ids=lambda change: change[0],
)
@pytest.mark.parametrize("near_the_top", [False, True])
def test_awkward_vectors(change: tuple, near_the_top: bool) -> None:
    states, vectors = draws(60, 12), change[1](draws(3000, 12, seed=1))
    states[3], states[4, 1:] = 0.0, 0.0
    catalogue = Catalogue.of(vectors)
    whole = exact_order(states, catalogue, 9)
    sought = sets(60, len(vectors), 4, seed=3)
    if near_the_top:  # sets from among the first 18, so that some are in the list and some just behind it
        top = exact_order(states, catalogue, 18)
        items = top[sought.row[sought.items.row], sought.items.values % 18]
        sought = Sought(sought.row, Ragged(items, sought.items.offsets))
    assert_read_alike(exact_order(states, catalogue, 9, sought), whole, sought)


@needs_bytes
def test_lists_end_early() -> None:
    states, vectors = draws(200, 32), draws(4000, 32, seed=1)
    vectors[torch.arange(900)] *= 1.5
    catalogue, row = Catalogue.of(vectors), torch.arange(200)
    whole = exact_order(states, catalogue, 30)

    def lists(item: torch.Tensor) -> torch.Tensor:
        sought = Sought(row, Ragged.from_lengths(item, torch.ones_like(item)))
        return exact_order(states, catalogue, 11, sought)

    first, eleventh, far = whole[:, 0], whole[:, 10], (vectors @ states.T).argmin(0)
    assert torch.equal(lists(first)[:, 0], first)
    assert (lists(first)[:, -1] == -1).double().mean() > 0.8
    assert torch.equal(lists(eleventh), whole[:, :11])
    assert (lists(whole[:, 29]) == -1).all(1).double().mean() > 0.8
    assert bool((lists(far) == -1).all())


@needs_bytes
@pytest.mark.parametrize("place", range(8, 16))
def test_the_first_place_behind_a_list_is_told_from_its_last(place: int) -> None:
    """Items in one line, so that nothing but their order decides."""
    vectors = torch.linspace(1, -1, 2001)[:, None] * torch.ones(1, 4)
    states = torch.ones(30, 4) * torch.linspace(0.5, 2, 30)[:, None]
    sought = Sought(torch.arange(30), Ragged.from_lengths(torch.full((30,), place), torch.ones(30).long()))
    found = exact_order(states, Catalogue.of(vectors), 11, sought)
    assert (found == place).any(1).tolist() == [place < 11] * 30
