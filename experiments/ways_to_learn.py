"""Ways to learn: weights, order and a further loss."""

from __future__ import annotations

import torch
from peers import Peers
from torch import Tensor
from torch.nn import functional as F
from ways_to_choose import likelihood

from rsir.data.batches import Batch
from rsir.data.rollouts import StopReason
from rsir.data.sequences import Sequences
from rsir.generate import generate
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.train import Look, Teacher, TrainingConfig, fit, period_of


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


class Confident(Peers):
    """Rollouts weighted by the writers' mean probability of their items (geometric); on the average 1."""

    def weight(self, data: Sequences) -> Tensor:
        synthetic = data.round_index > 0
        belief = likelihood(self.writer(1, self.names), data.events.select(synthetic.nonzero().squeeze(1)))
        weight = torch.ones(len(data))
        weight[synthetic] = belief.exp() / belief.exp().mean()
        return weight


class Taught(Peers):
    """The writers' distribution has nine tenths of each target, of observed and synthetic prefixes alike."""

    SHARE = 0.9

    def teacher(self, data: Sequences) -> Teacher | None:
        return Teacher(self.writer(1, self.names), torch.full((len(data),), self.SHARE))


class TaughtAlone(Taught):
    """The control: the same teachers, network and updates, observed sequences alone."""

    def data(self, k: int, peer: str) -> Sequences:
        return self.split.train
