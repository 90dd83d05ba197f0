"""The compiled loops of fronts, and what stands in for them, give the same answers."""

import pytest
import torch

from rsir import compiled
from rsir.data import fronts, rollouts
from rsir.data.fronts import Front, Pairs, contains, own_item_sets, seen
from rsir.data.rollouts import Chosen, join
from rsir.data.sequences import Sequences
from rsir.ragged import Ragged


def whole(low: int, high: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def both(ask: object, patch: pytest.MonkeyPatch) -> tuple[object, object]:
    ours = ask()
    with patch.context() as inner:
        for module in (fronts, rollouts):
            inner.setattr(module, "loops_for", lambda x: None)
        return ours, ask()


def test_what_stands_in_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes, prefix, item = whole(0, 9, 20, 4), whole(0, 20, 300, seed=1), whole(0, 9, 300, seed=2)
    expected = [int(i) in prefixes[p].tolist() for p, i in zip(prefix.tolist(), item.tolist(), strict=True)]
    assert contains(prefixes, prefix, item).tolist() == expected
    monkeypatch.setattr("rsir.data.fronts.at_once", lambda device, cpu, cuda: 2 * item.numel())
    assert contains(prefixes, prefix, item).tolist() == expected  # two columns at a time, as on a GPU
    table = whole(0, 9, 20, 7, seed=3)
    for found in both(lambda: seen(prefixes, table), monkeypatch):
        assert torch.equal(found, contains(prefixes, torch.arange(20)[:, None], table))


def test_pairs_and_their_first_places(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Ragged.from_lists([[0, 3, 5], [1], [2, 4, 6, 7], []])
    front = Front(torch.arange(6), torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([[3, 0], [1, 5], [7, 2]]))
    source = torch.tensor([0, 1, 1, 3, 2, 2])
    lists = torch.tensor([[5, 1, 9], [1, 2, 3], [2, 8, 6]])
    pairs = Pairs.of(front, source, own)
    assert pairs.of_rollout.tolist() == [0, 1, 2, 3, 4, 4]
    assert pairs.prefix.tolist() == [0, 0, 1, 1, 2]
    assert pairs.remaining.tolists() == [[5], [1], [], [], [4, 6]]
    for place in both(lambda: pairs.first_place(lists), monkeypatch):
        assert place.tolist() == [0, 1, 3, 3, 2]
    front = Front(torch.tensor([5, 4, 3, 2, 1, 0]), front.prefix, front.prefixes_PL, torch.tensor([6, 7, 8]))
    for kept, pairs, others in both(lambda: Pairs.open(front, source.flip(0), own), monkeypatch):
        assert others.tolist() == [3, 2]
        assert (kept.rollout.tolist(), kept.prefix.tolist()) == ([5, 4, 1, 0], [0, 0, 1, 1])
        assert (kept.prefixes_PL.tolist(), kept.parent.tolist()) == ([[3, 0], [7, 2]], [6, 8])
        assert (pairs.of_rollout.tolist(), pairs.prefix.tolist()) == ([0, 1, 2, 2], [0, 0, 1])
        assert pairs.remaining.tolists() == [[5], [1], [4, 6]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [2, 40])
def test_open_pairs_are_those_of_the_rollouts_kept(
    seed: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, source = Front.start(whole(0, 8, 60, seed=seed), 8), torch.arange(60) // 7
    own = Ragged.from_lists([sorted({(step * n + step) % 90 for n in range(most)}) for step in range(9)])
    pairs = zip(front.rollout.tolist(), front.prefixes_PL[front.prefix, 0].tolist(), strict=True)
    left = [bool(set(own.tolists()[rollout // 7]) - {item}) for rollout, item in pairs]
    assert 0 < sum(left) < 60
    for kept, pairs, others in both(lambda: Pairs.open(front, source, own), monkeypatch):
        again, expected = front.keep(torch.tensor(left)), Pairs.of(kept, source[kept.rollout], own)
        assert others.tolist() == front.rollout[~torch.tensor(left)].tolist()
        assert torch.equal(kept.rollout, again.rollout)
        assert torch.equal(kept.prefixes_PL[kept.prefix], again.prefixes_PL[again.prefix])
        assert len(kept.prefixes_PL) == len(again.prefixes_PL)
        assert torch.equal(pairs.of_rollout, expected.of_rollout)
        assert torch.equal(pairs.prefix, expected.prefix)
        assert pairs.remaining.tolists() == expected.remaining.tolists()


def test_items_chosen_are_joined_in_order_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [([2, 0, 1, 3], [5, 6, 7, 8]), ([0, 2], [9, 4]), ([2], [1])]
    chosen = [
        Chosen(torch.tensor(rollout), torch.tensor(item), 10 * torch.tensor(item), torch.tensor(item) > 5)
        for rollout, item in steps
    ]
    drop_last = torch.tensor([False, True, True, False])
    for events, rank, own in both(lambda: join(chosen, drop_last), monkeypatch):
        assert events.tolists() == [[6, 9], [7], [5, 4], [8]]
        assert torch.equal(rank, 10 * events.values)
        assert torch.equal(own, events.values > 5)


@pytest.mark.parametrize("on_each", [1, 3, 100])
def test_fronts_grow_in_order(on_each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, item, rows = (whole(0, high, 12 * on_each, seed=seed) for seed, high in enumerate((12, 6, 2)))

    def grown() -> Front:
        front = Front.start(first, 12)
        going = rows[front.rollout] > 0
        rollout = front.rollout[going]
        return front.extend(rollout, front.prefix[going], item[rollout], 12)

    ours, plain = both(grown, monkeypatch)
    expected = sorted((int(first[r]), int(item[r]), r) for r in range(len(first)) if rows[r])
    for front in (ours, plain):
        assert front.rollout.tolist() == [r for *_, r in expected]
        assert front.prefixes_PL[front.prefix].tolist() == [[a, b] for a, b, _ in expected]
        assert len({tuple(row) for row in front.prefixes_PL.tolist()}) == len(front.prefixes_PL)
        parents = Front.start(first, 12).prefixes_PL[front.parent]
        assert torch.equal(parents[:, 0], front.prefixes_PL[:, 0])


def test_own_items_are_distinct_and_ascend(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [whole(0, 50, n, seed=n).tolist() for n in (0, 1, 7, 60)]
    data = Sequences.observed(Ragged.from_lists(rows), 50)
    for own in both(lambda: own_item_sets(data), monkeypatch):
        assert own.tolists() == [sorted(set(row)) for row in rows]


def test_every_file_of_loops_is_in_the_name_of_their_folder() -> None:
    package = compiled.Path(compiled.__file__).parent
    marks = "from rsir.compiled import compiled", "from rsir.compiled import lean", "from llvmlite"
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(mark in path.read_text() for mark in marks)
    }
    assert users == set(compiled.LOOPS)
