"""Ways to write: what is made beside whole rollouts, or in their stead."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from peers import Peers
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.earlier import backwards, earlier_items
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import generator_seed
from rsir.train import fit
from rsir.weights import load_weights, save_weights

ROWS = 256


def pieces(rows: Ragged) -> Iterator[Ragged]:
    """The rows, a batch at a time."""
    for start in range(0, len(rows), ROWS):
        yield rows.span(start, min(start + ROWS, len(rows)))


def unseen(scores_BV: Tensor, rows: Ragged) -> Tensor:
    """Scores with the items of each row out."""
    return scores_BV.index_put((rows.row, rows.values), torch.tensor(float("-inf")))


def merged(rows: Ragged, after: Tensor, item: Tensor) -> Ragged:
    """The rows with each `item` put in behind its flat place `after`."""
    order = torch.argsort(torch.cat([torch.arange(len(rows.values)), after]), stable=True)
    lengths = rows.lengths + torch.bincount(rows.row[after], minlength=len(rows))
    return Ragged.from_lengths(torch.cat([rows.values, item])[order], lengths)


def added(plan: Peers, rows: Ragged, source: Tensor, k: int) -> Sequences:
    """Rows made of observed ones as data of round k."""
    user = plan.split.train.user[source]
    return Sequences(rows, plan.split.train.num_items, user, torch.full_like(source, k), source)


def within(plan: Peers, writer: SequenceModel, prefix: Ragged, item: Tensor) -> Tensor:
    """Whether each item ranks within τ after its prefix; bool (B,)."""
    held, tau = list[Tensor](), plan.config.generation.max_rank or plan.split.train.num_items
    for part, own in zip(pieces(prefix), item.split(ROWS), strict=True):
        scores = writer.score(part)
        held.append((scores > scores.gather(1, own[:, None])).sum(1) < tau)
    return torch.cat(held)


@torch.no_grad()
def inserted(plan: Peers, k: int) -> Sequences:
    """Observed sequences with items between: the writers' best, if the real next one still ranks within τ.

    Of the gaps where it does, half get their item.
    """
    train, writer = plan.split.train, plan.writer(k, plan.names)
    places, items = list[Tensor](), list[Tensor]()
    for start in range(0, len(train), ROWS):
        rows = train.events.span(start, min(start + ROWS, len(train)))
        place = ((rows.from_end > 0) & (rows.position < writer.max_length)).nonzero().squeeze(1)
        read = rows.slice_rows(
            torch.zeros_like(rows.lengths), (rows.lengths - 1).clamp(max=writer.max_length)
        )
        scores = writer.encode(read) @ writer.item_vectors().T
        whole = rows.select(rows.row[place])
        best = unseen(scores, whole).argmax(1)
        prefix = whole.slice_rows(torch.zeros_like(place), rows.position[place] + 1)
        held = within(plan, writer, merged(prefix, prefix.last, best), rows.values[place + 1])
        places.append(train.events.offsets[start] + place[held])
        items.append(best[held])
    taken = torch.rand(sum(map(len, places)), generator=torch.Generator().manual_seed(k)) < 0.5
    place = torch.cat(places)[taken]
    changed = train.events.row[place].unique()
    return added(plan, merged(train.events, place, torch.cat(items)[taken]).select(changed), changed, k)


def earlier(plan: Peers, k: int, items: int = 3, longest: int = 8) -> Sequences:
    """Earlier items before the first one, of a model of reversed sequences, for histories that are not long.

    They count if the first real item ranks within τ behind them.
    """
    judge, how = plan.writer(k, plan.writers_for(plan.names[0], k)), plan.config.generation
    made = earlier_items(reversed_model(plan), judge, plan.split.train, how, number=items, longest=longest)
    return added(plan, made.events, made.source, k)


def reversed_model(plan: Peers) -> SequenceModel:
    """The first peer's network and training on reversed data, for as many updates."""
    run, path = plan.run_of(plan.names[0]), plan.folder.parent / "reversed.safetensors"
    torch.manual_seed(generator_seed(run.config.seed, "reversed"))
    model = build_model(run.config.model, plan.split.train.num_items)
    if not path.exists():
        rows, updates = plan.split.train, run.store.arm("rounds", 0).record()["updates"]
        data, looks = backwards(rows), count()
        judge = lambda _: {"ndcg@10": float(next(looks))}  # noqa: E731 - nothing to judge by: the last is kept
        fit(model, data, run.config.training, judge, seed=0, budget=updates)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(path, model)
    load_weights(path, model)
    return model.eval()


class Inserted(Peers):
    """Sequences with items between real ones."""

    def write(self, k: int, peer: str) -> Sequences:
        return inserted(self, k)


class Earlier(Peers):
    """Sequences with earlier items before the first real one."""

    def write(self, k: int, peer: str) -> Sequences:
        return earlier(self, k)


class InsertedToo(Peers):
    """The default's rollouts and the sequences with items inserted."""

    def write(self, k: int, peer: str) -> Sequences:
        return Sequences.concat([super().write(k, peer), inserted(self, k)])


class EarlierToo(Peers):
    """The default's rollouts and the sequences with earlier items."""

    ITEMS, LONGEST = 3, 8

    def write(self, k: int, peer: str) -> Sequences:
        return Sequences.concat([super().write(k, peer), earlier(self, k, self.ITEMS, self.LONGEST)])


class OneEarlierToo(EarlierToo):
    """One earlier item."""

    ITEMS = 1


class SixEarlierToo(EarlierToo):
    """Six earlier items."""

    ITEMS = 6


class AllEarlierToo(EarlierToo):
    """Histories of any length."""

    LONGEST = 50


class Completed(Peers):
    """Beside the default's rollouts, short histories that go on: the writers' best item three times."""

    ITEMS, LONGEST = 3, 8

    @torch.no_grad()
    def write(self, k: int, peer: str) -> Sequences:
        train, writer = self.split.train, self.writer(k, self.names)
        source = ((train.events.lengths >= 2) & (train.events.lengths <= self.LONGEST)).nonzero().squeeze(1)
        rows = train.events.select(source)
        for _ in range(self.ITEMS):
            best = []
            for part in pieces(rows):
                scores = writer.score(part)
                scores[part.row, part.values] = float("-inf")
                best.append(scores.argmax(1))
            one = Ragged.from_lengths(torch.cat(best), torch.ones(len(rows), dtype=torch.int64))
            rows = beside(rows, one)
        return Sequences.concat([super().write(k, peer), added(self, rows, source, k)])


def beside(left: Ragged, right: Ragged) -> Ragged:
    """Each row of the left followed by the same row of the right."""
    row = torch.cat([left.row, right.row])
    values = torch.cat([left.values, right.values])[row.argsort(stable=True)]
    return Ragged.from_lengths(values, left.lengths + right.lengths)
