"""The compiled loops of fronts, and what stands in for them, give the same answers."""

import pytest
import torch

from rsir import compiled
from rsir.data import fronts
from rsir.data.fronts import Front, Pairs, contains
from rsir.ragged import Ragged


def whole(low: int, high: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def both(ask: object, patch: pytest.MonkeyPatch) -> tuple[object, object]:
    ours = ask()
    with patch.context() as inner:
        inner.setattr(fronts, "loops_for", lambda x: None)
        return ours, ask()


def test_what_stands_in_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes, prefix, item = whole(0, 9, 20, 4), whole(0, 20, 300, seed=1), whole(0, 9, 300, seed=2)
    expected = [int(i) in prefixes[p].tolist() for p, i in zip(prefix.tolist(), item.tolist(), strict=True)]
    for found in both(lambda: contains(prefixes, prefix, item), monkeypatch):
        assert found.tolist() == expected
    table = whole(0, 9, 20, 7, seed=3)
    each = torch.arange(20)[:, None].expand_as(table)
    ours, plain = both(lambda: contains(prefixes, each, table), monkeypatch)
    assert ours.shape == table.shape
    assert torch.equal(ours, plain)


def test_pairs_and_their_first_places(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Ragged.from_lists([[0, 3, 5], [1], [2, 4, 6, 7], []])
    front = Front(torch.arange(6), torch.tensor([0, 0, 1, 2, 2, 1]), torch.tensor([[3, 0], [1, 5], [7, 2]]))
    source = torch.tensor([0, 1, 1, 2, 2, 3])
    lists = torch.tensor([[5, 1, 9], [1, 2, 3], [2, 8, 6]])
    for pairs in both(lambda: Pairs.of(front, source, own), monkeypatch):
        assert pairs.of_rollout.tolist() == [0, 1, 2, 4, 4, 3]
        assert pairs.remaining.tolists() == [[5], [1], [], [], [4, 6]]
    for place in both(lambda: pairs.first_place(lists), monkeypatch):
        assert place.tolist() == [0, 1, 3, 3, 2]


def test_every_file_of_loops_is_in_the_name_of_their_folder() -> None:
    package = compiled.Path(compiled.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "from rsir.compiled import compiled" in path.read_text() or "numba.extending" in path.read_text()
    }
    assert users == set(compiled.LOOPS)
