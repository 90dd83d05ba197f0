"""Views of sequences and the loss between them."""

import math

import pytest
import torch

from rsir.data.batches import TrainingRows
from rsir.data.sequences import Sequences
from rsir.models.cl4srec import CL4SRec, CL4SRecConfig
from rsir.models.contrast import Views, info_nce
from rsir.models.fearec import FEARec, FEARecConfig
from rsir.ragged import Ragged

MASK = 10**6
ROWS = [list(range(100 * row, 100 * row + 1 + row % 11)) for row in range(300)]


def views(crop: float = 0.6, mask: float = 0.3, reorder: float = 0.6, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return Views(crop, mask, reorder, MASK).draw(Ragged.from_lists(ROWS), generator).tolists()


def kind_of(row: list[int], view: list[int]) -> str:
    """Which of the three it is; fails if it is none of them."""
    if MASK in view:
        assert len(view) == len(row)
        assert all(seen in (MASK, item) for item, seen in zip(row, view, strict=True))
        assert view.count(MASK) == int(0.3 * len(row))
        return "mask"
    if len(view) < len(row):
        assert view == list(range(view[0], view[0] + len(view)))  # one piece
        assert len(view) == max(1, int(0.6 * len(row)))
        return "crop"
    moved = [place for place, (item, seen) in enumerate(zip(row, view, strict=True)) if item != seen]
    assert sorted(view) == row
    assert not moved or moved[-1] - moved[0] < int(0.6 * len(row))
    return "reorder" if moved else "unchanged"


def test_each_view_is_cropped_or_masked_or_reordered() -> None:
    kinds = [kind_of(row, view) for row, view in zip(ROWS, views(), strict=True) if len(row) >= 7]
    assert {"crop", "mask", "reorder"} <= set(kinds)
    assert all(30 < kinds.count(kind) < 60 for kind in ("crop", "mask"))  # a third of 135 each


def test_every_row_keeps_an_event_and_the_seed_decides() -> None:
    assert all(len(view) >= 1 for view in views(crop=0.01))
    assert views() == views()
    assert views() != views(seed=1)
    assert views(crop=1.0, mask=0.0, reorder=0.0) == ROWS


def test_every_piece_can_be_cropped_or_shuffled() -> None:
    starts, moved = set(), set()
    row = Ragged.from_lists([list(range(10))])
    for seed in range(300):
        (view,) = Views(0.6, 0.0, 0.3, MASK).draw(row, torch.Generator().manual_seed(seed)).tolists()
        if len(view) < 10:
            starts.add(view[0])
        moved |= {place for place, item in enumerate(view) if len(view) == 10 and item != place}
    assert starts == set(range(5))
    assert moved == set(range(10))


def test_the_loss_of_views_all_alike_is_that_of_guessing() -> None:
    same = torch.ones(4, 3)
    assert float(info_nce(same, same, 0.2)) == pytest.approx(math.log(7))
    assert float(info_nce(torch.eye(4), torch.eye(4), 0.05)) < 1e-6
    assert float(info_nce(torch.eye(4), torch.eye(4).roll(1, 0), 0.05)) > 10


def test_pulling_views_together_is_learnt() -> None:
    torch.manual_seed(0)
    model = CL4SRec(50, CL4SRecConfig(dim=8, dropout=0.0, contrast=1.0, init_std=0.3))
    data = Sequences.observed(Ragged.from_lists([[i, i + 1, i + 2, i + 3] for i in range(40)]), 50)
    batch = next(TrainingRows.build(data, 10).epoch(0, 0, 40, "cpu"))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for step in range(30):
        loss = model.auxiliary_loss(batch, torch.Generator().manual_seed(step))
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    still = CL4SRec(50, CL4SRecConfig(dim=8, contrast=0.0))
    assert still.auxiliary_loss(batch, torch.Generator()) is None


def test_fearec_compares_two_dropout_views_and_their_spectra() -> None:
    data = Sequences.observed(Ragged.from_lists([[i, i + 1, i + 2] for i in range(8)]), 50)
    batch = next(TrainingRows.build(data, 10).epoch(0, 0, 8, "cpu"))

    def loss(**given: float) -> float | None:
        torch.manual_seed(0)
        model = FEARec(50, FEARecConfig(dim=8, init_std=0.3, **given)).train()
        found = model.auxiliary_loss(batch, torch.Generator())
        return None if found is None else float(found.detach())

    assert loss() is None
    assert loss(spectral=1.0, dropout=0.0) == 0.0  # without dropout the views are one
    spectral, both = loss(spectral=1.0, dropout=0.3), loss(spectral=1.0, contrast=1.0, dropout=0.3)
    assert spectral is not None and both is not None
    assert 0 < spectral < both
