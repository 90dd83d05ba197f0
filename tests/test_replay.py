"""Batches filled up to one shape say the same, so that an update can be recorded once and replayed."""

import pytest
import torch
from torch import Tensor

from rsir.data.batches import Batch, TrainingRows
from rsir.data.room import Room, Slot
from rsir.data.sequences import Sequences
from rsir.models import MODELS, build_model
from rsir.models.base import SequenceModel
from rsir.models.layers import _windows, by_distance
from rsir.models.sasrec import SASRec
from rsir.ragged import Ragged
from rsir.softmax import softmax_loss

V = 20
ROWS = [[(7 * row + 3 * place) % V for place in range(2 + row % 6)] for row in range(21)]
ROOM = Room(events=40, rows=8, tall=3, longest=6, short=5)
REPLAYABLE = [name for name in MODELS if name != "cl4srec"]


def network(name: str) -> SequenceModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = MODELS[name].config(dim=8, dropout=0.0, max_length=10, init_std=0.3)
        return MODELS[name].model(V, config).train()


def batches(size: int = 8) -> list[Batch]:
    data, weight = Sequences.observed(Ragged.from_lists(ROWS), V), torch.linspace(0.5, 2, len(ROWS))
    return list(TrainingRows.build(data, 10, "every", weight).epoch(0, 0, size, "cpu"))


def test_who_builds_on_another_must_say_so_itself() -> None:
    """What a network adds to another's update may be no work that can be recorded."""

    class Mine(SASRec):
        pass

    class Said(SASRec):
        replayable = True

    assert [kind(V).replayable for kind in (SASRec, Mine, Said)] == [True, False, True]


def filled(batch: Batch, room: Room = ROOM) -> Batch:
    slot = Slot(room, batch)
    slot.put(batch)
    return slot.batch()


def loss_and_gradients(model: SequenceModel, batch: Batch) -> list[Tensor]:
    states = model.encode(batch.histories).index_select(0, batch.place)
    loss = softmax_loss(states, model.item_vectors(), batch.target, batch.weight, 3.0)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def test_who_can_be_replayed() -> None:
    """All but CL4SRec, whose views have lengths of their own."""
    assert [name for name in MODELS if network(name).replayable] == REPLAYABLE
    assert not build_model(MODELS["fearec"].config(contrast=0.1), V).replayable


@pytest.mark.parametrize("name", REPLAYABLE)
def test_a_filled_batch_has_the_same_loss_and_gradients(name: str) -> None:
    """Whatever was there before: the batches are put into one slot."""
    model, slot = network(name), Slot(ROOM, batches()[0])
    for batch in batches():
        slot.put(batch)
        assert slot.batch().target.numel() == slot.batch().histories.values.numel() == ROOM.events
        for one, other in zip(
            *(loss_and_gradients(model, each) for each in (batch, slot.batch())), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_all_filled_batches_have_one_shape_and_nothing_is_cut_off() -> None:
    everyone = [filled(batch) for batch in batches()]
    assert len({(len(one.histories), one.histories.values.numel()) for one in everyone}) == 1
    for batch, one in zip(batches(), everyone, strict=True):
        rows, n = len(batch.histories), batch.target.numel()
        assert one.histories.tolists()[:rows] == batch.histories.tolists()
        lengths = one.histories.lengths.tolist()
        assert max(lengths) <= ROOM.longest
        assert max(lengths[ROOM.tall :]) <= ROOM.short
        assert sum(lengths) == ROOM.events
        assert torch.equal(one.target[:n], batch.target)
        assert torch.equal(one.weight[:n], batch.weight)
        assert not one.weight[n:].any()


def test_times_are_filled_too() -> None:
    rows = Ragged.from_lists([[1, 2], [3]]).with_time(torch.tensor([5.0, 6.0, 7.0]).double())
    batch = Batch(rows, torch.arange(3), torch.tensor([2, 3, 4]), torch.ones(3))
    known = filled(batch, Room(events=5, rows=2, tall=1, longest=2, short=1)).histories.time
    assert known is not None
    assert known.tolist() == [5, 6, 7, 0, 0]


def test_what_does_not_fit() -> None:
    batch = batches()[0]
    n = batch.target.numel()
    lengths = batch.histories.lengths.tolist()
    assert lengths == sorted(lengths, reverse=True)
    longest, short = lengths[0], lengths[3]
    assert Room(n, 8, 3, longest, short).holds(batch)
    assert not Room(n - 1, 8, 3, longest, short).holds(batch)
    assert not Room(n, 7, 3, longest, short).holds(batch)
    assert not Room(n, 8, 3, longest - 1, short).holds(batch)
    assert not Room(n, 8, 3, longest, short - 1).holds(batch)
    partly = Batch(batch.histories, batch.place[1:], batch.target, batch.weight)
    assert not Room(n, 8, 3, longest, short).holds(partly)


@pytest.mark.parametrize("lengths", [[3], [3] * 100, [50] + [2] * 5000, [1, 2, 3]])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 256, 4096])
def test_there_is_no_more_room_than_rows(lengths: list[int], batch_size: int) -> None:
    room = Room.of(torch.tensor(lengths), batch_size)
    assert room.rows == min(batch_size, len(lengths))
    assert room.tall <= room.rows
    assert room.short <= room.longest <= max(lengths)
    assert room.events < 128 + room.rows * max(lengths)


@pytest.mark.parametrize("length", [0, 1, 4, 6])
@pytest.mark.parametrize("later", [0.0, float("-inf")])
def test_windows_are_what_is_looked_up(length: int, later: float) -> None:
    """The way of a GPU, here on a CPU; and its gradient."""
    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ways = [way(weight, length, later) for way in (by_distance, _windows)]
    assert torch.equal(*ways)
    slopes = [torch.autograd.grad(way.exp().square().sum(), weight)[0] for way in ways]
    torch.testing.assert_close(*slopes)


def test_there_is_room_for_nearly_all_random_batches() -> None:
    """On lengths as real logs have them: half are short, few are long."""
    generator = torch.Generator().manual_seed(0)
    lengths = (2 + torch.empty(4000).exponential_(0.2, generator=generator)).long().clamp(max=50)
    rows = TrainingRows.build(
        Sequences.observed(Ragged.from_lengths(torch.zeros(int(lengths.sum())).long(), lengths), 1), 50
    )
    room = Room.of(rows.histories.lengths, 64)
    drawn = [batch for number in range(20) for batch in rows.epoch(1, number, 64, "cpu")]
    assert sum(map(room.holds, drawn)) > 0.995 * len(drawn)
    assert room.events < 2 * sum(batch.target.numel() for batch in drawn) / len(drawn)
    assert room.short < room.longest / 2
