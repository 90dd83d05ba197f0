"""Other ways to learn from one's own generations than whole rollouts, each against the default's.

    python experiments/ways.py LOG --plan earlier --peers sasrec.0 sasrec.1 sasrec.2 --successors sasrec.0

The plan names the way; bases, start, updates and control are those of peers.py, and so are its options and
where its results go, under the plan's name with "way: " before it. Validation alone is read.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from peers import Peers, arguments, search
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.data.batches import Batch
from rsir.data.rollouts import StopReason
from rsir.data.sequences import Sequences
from rsir.earlier import backwards, earlier_items
from rsir.generate import generate
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import generator_seed
from rsir.train import Look, TrainingConfig, fit, period_of
from rsir.weights import load_weights, save_weights

ROWS = 256


def pieces(rows: Ragged) -> Iterator[Ragged]:
    """The rows, a batch at a time."""
    for start in range(0, len(rows), ROWS):
        yield rows.span(start, min(start + ROWS, len(rows)))


@torch.no_grad()
def likelihood(model: SequenceModel, rows: Ragged) -> Tensor:
    """Mean log-probability of each row's items after the first; (R,)."""
    found = []
    for part in pieces(rows.tail(model.max_length)):
        states, last = model.encode(part), part.from_end == 0
        place = (~last).nonzero().squeeze(1)
        scores = states[place] @ model.item_vectors().T
        own = scores.log_softmax(1).gather(1, part.values[place + 1][:, None]).squeeze(1)
        found.append(torch.zeros(len(part)).index_add(0, part.row[place], own) / (part.lengths - 1))
    return torch.cat(found)


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


class Half(Peers):
    """The default's rollouts, a random half of them."""

    def worth(self, made: Sequences, k: int, peer: str) -> Tensor:
        """What a rollout is chosen by; (R,), higher is better."""
        return torch.rand(len(made), generator=torch.Generator().manual_seed(generator_seed(k, "half")))

    def data(self, k: int, peer: str) -> Sequences:
        made = self.synthetic(k, peer)
        best = self.worth(made, k, peer).argsort(descending=True, stable=True)[: len(made) // 2]
        return Sequences.concat([self.split.train, made.select(best.sort().values)])


class Unknown(Half):
    """The half that the writers as one find more likely than the peer itself does, by the largest margin."""

    def worth(self, made: Sequences, k: int, peer: str) -> Tensor:
        return likelihood(self.writer(k, self.names), made.events) - likelihood(
            self.model(peer, k - 1), made.events
        )


class Hard(Half):
    """The half that the writers find least likely: not what is too easy."""

    def worth(self, made: Sequences, k: int, peer: str) -> Tensor:
        return -likelihood(self.writer(k, self.names), made.events)


class Real(Half):
    """The half that a discriminator of real and synthetic sequences, trained on the other rollouts, believes.

    Real ones are the sources' own first items, as many as the rollout has.
    """

    def worth(self, made: Sequences, k: int, peer: str) -> Tensor:
        source = self.split.train.events.select(made.source)
        real = source.slice_rows(
            torch.zeros_like(source.lengths), torch.minimum(source.lengths, made.events.lengths)
        )
        fold = torch.arange(len(made)) % 2
        worth = torch.zeros(len(made))
        for held in (0, 1):
            learnt = (fold != held).nonzero().squeeze(1)
            judge = Discriminator(self.run_of(peer).config.model, made.num_items)
            judge.learn(real.select(learnt), made.events.select(learnt), seed=k)
            rows = (fold == held).nonzero().squeeze(1)
            worth[rows] = judge.believes(made.events.select(rows))
        return worth


class Discriminator(nn.Module):
    """A narrow network that reads a sequence and says whether it is real."""

    def __init__(self, like: Any, num_items: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = build_model(like.model_copy(update={"dim": 32, "num_blocks": 1}), num_items)
        self.head = nn.Linear(32, 1)

    def forward(self, rows: Ragged) -> Tensor:
        read = rows.tail(self.network.max_length)
        total = torch.zeros(len(read), 32).index_add(0, read.row, self.network.encode(read))
        return self.head(total / read.lengths[:, None]).squeeze(1)

    def learn(self, real: Ragged, made: Ragged, seed: int) -> None:
        """Three passes."""
        rows = Ragged.concat([real, made])
        label = torch.arange(len(rows)) < len(real)
        steps = torch.optim.AdamW(self.parameters(), lr=2e-3)
        drawn = torch.Generator().manual_seed(seed)
        self.train()
        for _ in range(3):
            for some in torch.randperm(len(rows), generator=drawn).split(ROWS):
                loss = F.binary_cross_entropy_with_logits(self(rows.select(some)), label[some].float())
                steps.zero_grad()
                loss.backward()
                steps.step()
        self.eval()
        right = (self.believes(real) > 0).float().mean() / 2 + (self.believes(made) < 0).float().mean() / 2
        print(f"discriminator: {right:.3f} right on what it learnt from", flush=True)

    @torch.no_grad()
    def believes(self, rows: Ragged) -> Tensor:
        """Log-odds that each row is real."""
        return torch.cat([self(part) for part in pieces(rows)])


class Refused(Peers):
    """A preference beside the loss: an own item of the user above the item whose step broke fidelity."""

    WEIGHT, DRAWN = 0.1, 256

    def learn(
        self, model: SequenceModel, data: Sequences, training: TrainingConfig, seed: int, updates: int
    ) -> list[Look]:
        prefix, own, refused = self.pairs()

        def preference(_: Batch, generator: torch.Generator) -> Tensor:
            some = torch.randint(len(prefix), (self.DRAWN,), generator=generator)
            states, vectors = model.encode_last(prefix.select(some)), model.item_vectors()
            margin = (states * (vectors[own[some]] - vectors[refused[some]])).sum(1)
            return -self.WEIGHT * F.logsigmoid(margin).mean()

        model.auxiliary_loss = preference  # type: ignore[method-assign,assignment]
        return super().learn(model, data, training, seed, updates)

    def pairs(self) -> tuple[Ragged, Tensor, Tensor]:
        """Prefixes whose next item failed, an own item that the rollout had not used, and that next item."""
        train = self.split.train
        how = self.config.generation.model_copy(update={"failing_step": "keep"})
        made = generate(self.writer(1, self.names), train, how, seed=0, round_index=1)
        failed = (made.stop_reason == StopReason.LOW_FIDELITY) & (made.events.lengths >= 2)
        rows = failed.nonzero().squeeze(1)
        events, source = made.events.select(rows), train.events.select(made.source[rows])
        used = torch.isin(
            source.row * train.num_items + source.values, events.row * train.num_items + events.values
        )
        own = torch.full((len(rows),), -1).index_put((source.row[~used],), source.values[~used])
        kept = (own >= 0).nonzero().squeeze(1)
        events, zero = events.select(kept), torch.zeros_like(kept)
        return events.slice_rows(zero, events.lengths - 1), own[kept], events.values[events.last]


class Last(Peers):
    """Synthetic and observed data for two thirds of the updates, then observed data alone at 3e-4."""

    def learn(
        self, model: SequenceModel, data: Sequences, training: TrainingConfig, seed: int, updates: int
    ) -> list[Look]:
        first = super().learn(model, data, training, seed, updates * 2 // 3)
        period = period_of(self.split.train, training, model.max_length)
        slow = training.model_copy(update={"learning_rate": 3e-4})
        last = fit(
            model,
            self.split.train,
            slow,
            self.validate,
            seed=seed + 1,
            period=2 * period,
            budget=updates - updates * 2 // 3,
        )
        return first + last.looks


WAYS: dict[str, type[Peers]] = {
    "default": Peers,
    "inserted": Inserted,
    "rollouts and inserted": InsertedToo,
    "earlier": Earlier,
    "rollouts and earlier": EarlierToo,
    "rollouts and one earlier": OneEarlierToo,
    "rollouts and six earlier": SixEarlierToo,
    "rollouts and earlier for all": AllEarlierToo,
    "random half": Half,
    "half unknown": Unknown,
    "half hard": Hard,
    "half real": Real,
    "refused": Refused,
    "observed last": Last,
}


def main() -> None:
    given: Namespace = arguments(__doc__).parse_args()
    way = WAYS[given.plan]
    given.plan = f"way: {given.plan}"
    search(given, way(given))


if __name__ == "__main__":
    main()
