"""What is measured on: a log, simulated users, or a random catalogue of any size; and a model for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from rsir.config import Config
from rsir.data.read import from_frame, read_log
from rsir.data.sequences import Sequences
from rsir.data.simulate import simulate
from rsir.data.splits import Split, split
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.models.sasrec import SASRecConfig
from rsir.ragged import Ragged
from rsir.rng import generator_seed
from rsir.train import Fit, Look, TrainingConfig, fit, period_of

Note = Callable[[str], None]
"""Told in one line what is being measured."""

SIMULATED = ("simulation.num_users=6000", "simulation.num_items=4000")
"""The world without a log: some 48,000 events, so that a benchmark ends within two minutes."""
QUICK = (
    "simulation.num_users=150",
    "simulation.num_items=120",
    "simulation.num_topics=4",
    "simulation.max_events=20",
)
"""A world for trying the command out; its figures mean little."""


@dataclass(frozen=True)
class Workload:
    """A split log and its name."""

    name: str
    split: Split

    def facts(self) -> dict[str, object]:
        """Its sizes."""
        return {"name": self.name, **sizes(self.split.train), "test_cases": len(self.split.test)}


def sizes(data: Sequences) -> dict[str, object]:
    """Sizes of training sequences.

    >>> sizes(Sequences.observed(Ragged.from_lists([[0, 1]]), 4))
    {'sequences': 1, 'items': 4, 'events': 2, 'longest': 2}
    """
    longest = data.events.max_length
    return {"sequences": len(data), "items": data.num_items, "events": data.num_events, "longest": longest}


def workload(log: Path | None, config: Config) -> Workload:
    """The log, or the simulated users of `config`, split.

    Raises:
        DataError: if the log cannot be used.
    """
    if log is None:
        return Workload("simulated users", split(from_frame(simulate(config.simulation, config.seed).frame)))
    return Workload(log.name, split(read_log(log, config.data), config.split))


def network(config: Config) -> SASRecConfig:
    """The network that is measured: SASRec, which the rivals have, too."""
    assert isinstance(config.model, SASRecConfig)
    return config.model


def random_sources(num_items: int, num_sources: int, length: int, seed: int) -> Sequences:
    """Sequences of items drawn uniformly: nothing to learn, any size at once.

    >>> len(random_sources(100, 3, 5, seed=0))
    3
    """
    generator = torch.Generator().manual_seed(generator_seed(seed, "bench", "sources"))
    items = torch.randint(num_items, (num_sources * length,), generator=generator)
    offsets = torch.arange(num_sources + 1) * length
    return Sequences.observed(Ragged(items, offsets), num_items)


def untrained(config: Config, num_items: int, device: torch.device | str) -> SequenceModel:
    """The backbone of `config`, freshly initialised."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed(config.seed, "bench", "initial"))
        return build_model(config.model, num_items).to(device).eval()


def train_for(
    model: SequenceModel,
    data: Sequences,
    training: TrainingConfig,
    passes: int,
    *,
    seed: int,
    device: torch.device | str,
    validate: Callable[[SequenceModel], dict[str, float]] | None = None,
    progress: Callable[[Look], None] | None = None,
) -> Fit:
    """Exactly so many passes, a look after each; without `validate` the newest weights are kept."""
    per_pass = period_of(data, training.model_copy(update={"min_period": 1}), model.max_length)
    rising = count()
    return fit(
        model,
        data,
        training,
        validate or (lambda _: {"ndcg@10": float(next(rising))}),
        seed=seed,
        period=per_pass,
        budget=passes * per_pass,
        device=device,
        progress=progress,
    )
