"""Ways to choose: which rollouts are learnt from, and thresholds that are not the same for all."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from peers import Peers
from torch import Tensor, nn
from torch.nn import functional as F
from ways_to_write import ROWS, pieces

from rsir.acquire import acquisition_rule
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.generate import generate
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import generator_seed


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


class Short(Half):
    """The half of the rollouts whose sources have the fewest events."""

    def worth(self, made: Sequences, k: int, peer: str) -> Tensor:
        return -self.split.train.events.lengths[made.source].double() + 0.5 * super().worth(made, k, peer)


class Calibrated(Peers):
    """A threshold that follows how well writers know a user: τ · median rank of own next items / of all."""

    HIGHEST = 1000
    """No threshold is higher: each rank up to it costs time."""

    def threshold(self, writer: SequenceModel, rollouts: Rollouts) -> Tensor:
        """τ of each item of the rollouts; (N,)."""
        rank, events = own_ranks(writer, self.split.train.events)
        usual = torch.stack(
            [part.median() if len(part) else rank.median() for part in rank.split(events.tolist())]
        )
        tau = self.config.generation.max_rank or self.split.train.num_items
        return (tau * usual / rank.median())[rollouts.source][rollouts.events.row]

    def write(self, k: int, peer: str) -> Sequences:
        writer, train = self.writer(k, self.names), self.split.train
        how = self.config.generation.model_copy(update={"max_rank": self.HIGHEST})
        keys = {"seed": 0, "round_index": k}
        whole = generate(writer, train, how, **keys)
        rollouts = cut(whole, whole.rank > self.threshold(writer, whole))
        rule = acquisition_rule(self.config.acquisition, how.min_length, writer)
        return rule.admit(rollouts, train, **keys).sequences(rollouts, k)


@torch.no_grad()
def own_ranks(writer: SequenceModel, histories: Ragged) -> tuple[Tensor, Tensor]:
    """Ranks of the next items of histories, the seen ones out; how many each history has."""
    ranks = []
    for part in pieces(histories.tail(writer.max_length)):
        inner = (part.from_end > 0).nonzero().squeeze(1)
        rows = part.row[inner]
        prefix = part.select(rows).slice_rows(torch.zeros_like(rows), part.position[inner] + 1)
        scores = writer.encode(part)[inner] @ writer.item_vectors().T
        own = scores.gather(1, part.values[inner + 1][:, None])
        scores[prefix.row, prefix.values] = float("-inf")
        ranks.append(1.0 + (scores > own).sum(1))
    return torch.cat(ranks), histories.tail(writer.max_length).lengths.clamp(min=1) - 1


def cut(rollouts: Rollouts, failed: Tensor) -> Rollouts:
    """Rollouts that end at their first failed check, whose last item before it is dropped, too."""
    events = rollouts.events
    place = torch.where(failed, events.position, events.lengths[events.row] + 1)
    first = torch.full((len(events),), 2**30).scatter_reduce(0, events.row, place, "amin")
    lengths = torch.minimum(events.lengths, (first - 1).clamp(min=1))
    kept = events.position < lengths[events.row]
    along = {"rank": rollouts.rank[kept], "own": rollouts.own[kept]}
    return dataclasses.replace(rollouts, events=Ragged.from_lengths(events.values[kept], lengths), **along)
