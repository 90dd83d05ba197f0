"""Training batches and padding against plain Python."""

from collections import Counter
from typing import Literal

import pytest
import torch

from rsir.data.batches import TrainingRows
from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.ragged import Ragged
from rsir.rng import hash_scalar

V, LONGEST = 30, 5
ROWS = [[hash_scalar(row, place) % V for place in range(hash_scalar(row) % 9)] for row in range(70)]
Prediction = tuple[tuple[int, ...], int, float, float]


def by_hand(weight: list[float], share: list[float]) -> Counter[Prediction]:
    """Each prefix as far as it is read, what comes next, and the weight and the share of its sequence."""
    found = Counter[Prediction]()
    for row, of_row, share_of_row in zip(ROWS, weight, share, strict=True):
        kept = row[-LONGEST - 1 :]
        for end in range(1, len(kept)):
            found[tuple(kept[:end]), kept[end], of_row, share_of_row] += 1
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
@pytest.mark.parametrize("targets", ["every", "last"])
def test_a_pass_predicts_what_plain_python_would(targets: Literal["every", "last"], batch_size: int) -> None:
    weight = torch.arange(len(ROWS)).float() / 64
    share = weight.flip(0) / 2
    data = Sequences.observed(Ragged.from_lists(ROWS), V)
    rows = TrainingRows.build(data, LONGEST, targets, weight, share)
    expected = by_hand(weight.tolist(), share.tolist())
    for epoch in range(2):
        found = Counter[Prediction]()
        for batch in rows.epoch(3, epoch, batch_size, "cpu"):
            assert batch.share is not None
            values, first = (
                batch.histories.values.tolist(),
                batch.histories.offsets[batch.histories.row].tolist(),
            )
            columns = batch.place, batch.target, batch.weight, batch.share
            for place, *rest in zip(*(column.tolist() for column in columns), strict=True):
                found[tuple(values[first[place] : place + 1]), *rest] += 1
        assert found == expected
    assert rows.num_predictions == sum(expected.values())


@pytest.mark.parametrize("lists", [[], [[]], [[], []], [[1], [], [2, 3]], ROWS, [[1, 2]] * 33])
@pytest.mark.parametrize("size", [1, 2, 32])
def test_blocks_hold_each_row_and_nothing_else(
    lists: list[list[int]], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsir.ragged._BLOCK_ROWS", size)
    rows = Ragged.from_lists(lists)
    blocks = rows.spread(rows.values + 1)
    assert torch.equal(rows.collect(blocks), rows.values + 1)
    padded = [[item - 1 for item in row if item] for block in blocks for row in block.tolist()]
    assert padded == lists
    assert all(row[: len(row) - row.count(0)].count(0) == 0 for block in blocks for row in block.tolist())


def test_the_tail_of_rows_is_known_on_the_host() -> None:
    rows = Ragged.from_lists(ROWS)
    for length in (0, 1, 3, 20):
        tail = rows.tail(length)
        assert tail.tolists() == [row[len(row) - min(length, len(row)) :] for row in ROWS]
        assert torch.equal(tail.host_offsets, tail.offsets)


def test_cases_by_length_are_kept_for_a_gpu_alone() -> None:
    cases = Cases(Ragged.from_lists([[1, 2], [3], [4, 5]]), torch.tensor([7, 8, 9]), torch.arange(3))
    here, order = cases.shortest_first("cpu")
    assert order.tolist() == [1, 0, 2]
    assert here.histories.tolists() == [[3], [1, 2], [4, 5]]
    assert here.target.tolist() == [8, 7, 9]
    assert cases.shortest_first("cpu")[0] is not here
    there, _ = cases.shortest_first("meta")
    assert there.target.device.type == "meta"
    assert cases.shortest_first("meta")[0] is there
    assert cases.shortest_first("cpu")[0].target.tolist() == [8, 7, 9]
