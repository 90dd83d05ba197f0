"""Training: next-item prediction with early stopping, the same schedule for every arm.

Progress is counted in *updates*, and the model is judged every `period` updates, so that an arm
with more data and its control get the same number of updates and of looks at validation.
Everything random in period p is keyed by (seed, p): a run that resumes from a checkpoint at a
period's end goes on exactly as one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rsir.data.batches import Batch, TrainingRows
from rsir.data.room import Room
from rsir.data.sequences import Sequences
from rsir.descent import Descent, State, copied
from rsir.errors import ConfigError
from rsir.losses import LossConfig, Objective
from rsir.models.base import SequenceModel
from rsir.replay import Replay
from rsir.rng import generator_seed
from rsir.softmax import SoftTargets

MANY_ITEMS = 100_000
"""Above so many items an update need not move all of them."""
CHECKPOINT_SHARE = 0.05
"""Of the time of a training run, what saving its progress may take."""


class TrainingConfig(LossConfig):
    """How a model is fitted."""

    targets: Literal["every", "last"] = Field(
        "every", description="predict after every event in one pass, or each prefix on its own"
    )
    batch_size: int = Field(256, ge=1, description="sequences in a batch")
    learning_rate: float = Field(2e-3, gt=0, description="of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    warmup: int = Field(100, ge=0, description="updates of linear warm-up")
    gradient_clip: float | None = Field(None, gt=0, description="largest gradient norm")
    ema: float | None = Field(
        0.995, gt=0, lt=1, description="judge and keep a running mean of the weights with this decay"
    )
    item_updates: Literal["auto", "all", "touched"] = Field(
        "auto",
        description="with a sampled loss, move all item vectors in an update, or those it touches; auto: "
        "touched above 100,000 items, without weight decay and clipping, where the network looks rows up",
    )
    min_period: int = Field(
        40, ge=1, description="a period, at whose end validation is looked at, is one pass or so many updates"
    )
    max_periods: int = Field(200, ge=1, description="periods at most")
    patience: int = Field(8, ge=1, description="periods without a better validation figure before stopping")

    @model_validator(mode="after")
    def _touched_alone(self) -> TrainingConfig:
        if self.item_updates == "touched" and not self.touches_few:
            raise ValueError(
                "item_updates='touched' needs a sampled loss, since the whole softmax touches each item, and "
                "neither weight_decay nor gradient_clip: choose another loss, unset them, or set it to 'all'"
            )
        return self

    @property
    def touches_few(self) -> bool:
        """Whether an update need not look at all item vectors."""
        return self.loss != "softmax" and not self.weight_decay and self.gradient_clip is None


@dataclass(frozen=True)
class Look:
    """One look at validation: what the model was worth after so many updates."""

    period: int
    updates: int
    loss: float
    value: float
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Fit:
    """What a training run did. The model holds the weights of the best look.

    Attributes:
        looks: one entry for each period.
        best_updates: updates made when validation was best.
        best_value: validation figure there; −inf if there was no look.
        updates: updates made in all.
        seconds: wall time, validation included.
        ended: "patience", "max_periods" or "budget".
    """

    looks: list[Look]
    best_updates: int
    best_value: float
    updates: int
    seconds: float
    ended: str


@dataclass(frozen=True)
class Teacher:
    """Whose distribution over the catalogue a model learns beside the next item.

    Attributes:
        model: it is not changed. It must read as much of a history as the pupil.
        share: float (S,), in [0, 1], its share of the targets of each sequence.
    """

    model: SequenceModel
    share: Tensor


class Checkpoint(Protocol):
    """Where a training run keeps what it needs to go on after a stop; see `store.py`."""

    def load(self) -> tuple[dict[str, Any], State] | None:
        """The newest saved progress, or None."""
        ...

    def save(self, progress: dict[str, Any], tensors: State) -> None:
        """Keep this progress, replacing the last, atomically."""
        ...


@dataclass
class _Progress:
    """The moving part of a fit; everything that a checkpoint must hold."""

    period: int = 0
    updates: int = 0
    best_value: float = float("-inf")
    best_updates: int = 0
    since_best: int = 0
    seconds: float = 0.0
    looks: list[dict[str, Any]] = field(default_factory=list)


def fit(
    model: SequenceModel,
    data: Sequences,
    config: TrainingConfig,
    validate: Callable[[SequenceModel], dict[str, float]],
    *,
    seed: int,
    monitor: str = "ndcg@10",
    weight: Tensor | None = None,
    teacher: Teacher | None = None,
    period: int | None = None,
    budget: int | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Look], None] | None = None,
) -> Fit:
    """Train `model` in place on `data` and leave it with its best weights on validation.

    Args:
        model: the network, freshly initialised (cold start) or trained before (warm start).
        data: training sequences; held-out events have no place here.
        config: hyper-parameters.
        validate: gives the validation metrics of the model as it is.
        seed: fixes order, dropout and negatives.
        monitor: the metric that early stopping follows; higher is better.
        weight: float (S,), weight of each sequence in the loss; None: all 1.
        teacher: gives soft targets; see `SoftTargets`.
        period: updates between two looks; None: as `period_of(data, …)`.
        budget: make exactly this many updates, without early stopping (the control arm).
        device: where to train.
        checkpoint: where progress is kept, to go on after a stop; at the end of a period, but only the last
            where more would take over `CHECKPOINT_SHARE` of the time.
        progress: called after each look.

    Returns:
        The record of the fit.

    Raises:
        DataError: if no sequence has two events.
        ConfigError: if each place is to predict but the model sees later events, or a teacher is given
            with another loss than the full softmax, or reads less than the model, or touched item vectors
            alone are to move where the model has no table of them.
    """
    if config.targets == "every" and not model.causal:
        raise ConfigError(
            f"{type(model).__name__} sees later events, so not every place can predict: "
            "set training.targets=last"
        )
    if teacher is not None:
        _check_teacher(teacher.model, model, config)
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        run = _Training(model, data, config, seed, weight, teacher, period, budget, device)
        try:
            run.resume(checkpoint)
            while (ended := run.ended()) is None:
                look = run.step(validate, monitor)
                if checkpoint is not None:
                    run.keep(checkpoint)
                if progress is not None:
                    progress(look)
            return run.finish(ended)
        finally:
            run.release()


def _check_teacher(teacher: SequenceModel, pupil: SequenceModel, config: TrainingConfig) -> None:
    if config.loss != "softmax":
        raise ConfigError(f"training.loss is {config.loss!r}; a teacher's distribution needs 'softmax'")
    if teacher.num_items != pupil.num_items or teacher.max_length < pupil.max_length:
        raise ConfigError(
            f"the teacher ranks {teacher.num_items} items after {teacher.max_length} events at most, the "
            f"model {pupil.num_items} after {pupil.max_length}: give one of that catalogue that reads no less"
        )


def touched_table(model: SequenceModel, config: TrainingConfig) -> torch.nn.Embedding | None:
    """The item vectors, if an update is to move those alone that it touches.

    Raises:
        ConfigError: if it is to, but cannot.
    """
    if config.item_updates == "all":
        return None
    table = getattr(model, "item", None) if model.row_by_row else None
    table = table if table is not None and table.weight is model.item_vectors() else None
    if table is not None and table.weight.requires_grad and config.touches_few:
        return table if config.item_updates == "touched" or model.num_items > MANY_ITEMS else None
    if config.item_updates == "touched":
        raise ConfigError(
            "training.item_updates='touched' needs a sampled loss without weight_decay and clipping, and "
            f"a network that looks its item vectors up row by row; this is {type(model).__name__} with loss "
            f"{config.loss!r}: set item_updates=all"
        )
    return None


def period_of(data: Sequences, config: TrainingConfig, max_length: int) -> int:
    """Updates in a period: one pass over `data` but not too few. The observed data's is every arm's."""
    rows = len(TrainingRows.build(data, max_length, config.targets))
    return max(config.min_period, -(-rows // config.batch_size))


class _Training:
    """One training run: its parts, and what moves."""

    def __init__(
        self,
        model: SequenceModel,
        data: Sequences,
        config: TrainingConfig,
        seed: int,
        weight: Tensor | None,
        teacher: Teacher | None,
        period: int | None,
        budget: int | None,
        device: torch.device | str,
    ) -> None:
        self.model, self.config, self.seed, self.device = model.to(device), config, seed, device
        self.teacher = None if teacher is None else teacher.model.to(device).eval()
        share = None if teacher is None else teacher.share
        self.rows = TrainingRows.build(data, model.max_length, config.targets, weight, share).to(device)
        self.per_pass = -(-len(self.rows) // config.batch_size)
        self.period, self.budget = period or max(config.min_period, self.per_pass), budget
        self.normaliser = self.rows.num_predictions / self.per_pass
        table = touched_table(model, config)
        self.loss = Objective(config, data.item_counts(), device, sparse=table is not None)
        self.generator = torch.Generator(device)
        self.descent = Descent(
            model,
            device,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            warmup=config.warmup,
            gradient_clip=config.gradient_clip,
            ema=config.ema,
            table=table,
        )
        self.replay = self._replay() if torch.device(device).type == "cuda" else None
        self.best = copied(model)
        self.now = _Progress()
        self.kept_at, self.kept_in = -math.inf, 0.0

    def _replay(self) -> Replay | None:
        """What replays updates on a GPU; None where they cannot be."""
        config, plain = self.config, self.teacher is None and self.config.loss == "softmax"
        if not (self.model.replayable and plain and config.targets == "every"):
            return None
        room = Room.of(self.rows.histories.lengths, config.batch_size)
        return Replay(room, self._update, self.device)

    def ended(self) -> str | None:
        """Why the run is over, or None."""
        if self.budget is not None:
            return "budget" if self.now.updates >= self.budget else None
        if self.now.since_best >= self.config.patience:
            return "patience"
        return "max_periods" if self.now.period >= self.config.max_periods else None

    def step(self, validate: Callable[[SequenceModel], dict[str, float]], monitor: str) -> Look:
        """One period of updates, then one look at validation."""
        started, now = time.perf_counter(), self.now
        stop = now.updates + self.period
        loss = self._updates(stop if self.budget is None else min(stop, self.budget))
        kept = self.descent.mean() or copied(self.model)
        metrics = self._judge(validate, kept)
        now.period += 1
        now.since_best += 1
        if metrics[monitor] > now.best_value:
            now.best_value, now.best_updates, now.since_best = metrics[monitor], now.updates, 0
            self.best = {name: tensor.clone() for name, tensor in kept.items()}
        now.seconds += time.perf_counter() - started
        look = Look(now.period, now.updates, loss, metrics[monitor], metrics, now.seconds)
        now.looks.append(asdict(look))
        return look

    def _updates(self, stop: int) -> float:
        """Make updates up to the given count; the mean loss over them."""
        torch.manual_seed(generator_seed(self.seed, "period", self.now.period))
        self.model.train()
        first = self.now.updates
        act = self.replay or self._update
        with nullcontext() if self.replay is None else self.replay.beside():
            total = torch.zeros((), device=self.device)
            for batch in self._batches(first, stop):
                self._prepare()
                total += act(batch)
                self.now.updates += 1
            return float(total) / max(1, stop - first)

    def _update(self, batch: Batch) -> Tensor:
        """One update from a batch, which asks a GPU for nothing; its loss."""
        loss = self._loss(batch)
        self.descent.step(loss)
        return loss.detach()

    def _loss(self, batch: Batch) -> Tensor:
        """The objective, and what the model adds to it."""
        hidden = self.model.encode(batch.histories).index_select(0, batch.place)
        vectors, soft = self.model.item_vectors(), self._soft_targets(batch)
        loss = self.loss(hidden, vectors, batch.target, batch.weight, self.normaliser, soft)
        extra = self.model.auxiliary_loss(batch, self.generator)
        return loss if extra is None else loss + extra

    @torch.no_grad()
    def _soft_targets(self, batch: Batch) -> SoftTargets | None:
        """What the teacher believes at the places that predict."""
        if self.teacher is None or batch.share is None:
            return None
        states = self.teacher.encode(batch.histories).index_select(0, batch.place)
        return SoftTargets(states, self.teacher.item_vectors(), batch.share)

    def _batches(self, first: int, stop: int) -> Iterator[Batch]:
        """The batches of updates first … stop−1 of an endless sequence of passes."""
        update = first
        while update < stop:
            number, skip = divmod(update, self.per_pass)
            for index, batch in enumerate(
                self.rows.epoch(self.seed, number, self.config.batch_size, self.device)
            ):
                if index < skip:
                    continue
                if update >= stop:
                    return
                yield batch
                update += 1

    def _prepare(self) -> None:
        """Set what the next update draws, and how far it moves the weights."""
        self.generator.manual_seed(generator_seed(self.seed, "auxiliary", self.now.updates))
        self.descent.pace(self.now.updates)

    def _judge(self, validate: Callable[[SequenceModel], dict[str, float]], kept: State) -> dict[str, float]:
        """Validation metrics of the weights that would be kept."""
        if self.config.ema is None:
            return validate(self.model)
        raw = copied(self.model)
        self.model.load_state_dict(kept)
        metrics = validate(self.model)
        self.model.load_state_dict(raw)
        return metrics

    def keep(self, checkpoint: Checkpoint) -> None:
        """Save progress, if it is the end or the last time is long enough ago: it is not in short periods."""
        began = time.perf_counter()
        if self.ended() is None and began - self.kept_at < self.kept_in / CHECKPOINT_SHARE:
            return
        checkpoint.save(*self.snapshot())
        self.kept_at = time.perf_counter()
        self.kept_in = self.kept_at - began

    def snapshot(self) -> tuple[dict[str, Any], State]:
        """All that a later process needs to go on from here."""
        groups = {"model": copied(self.model), "best": self.best, **self.descent.snapshot()}
        flat = {f"{group}/{name}": t for group, state in groups.items() for name, t in state.items()}
        return asdict(self.now), flat

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint, if there is one."""
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None:
            return
        progress, flat = saved
        groups: dict[str, State] = {}
        for key, tensor in flat.items():
            group, name = key.split("/", 1)
            groups.setdefault(group, {})[name] = tensor.to(self.device)
        self.now = _Progress(**progress)
        self.model.load_state_dict(groups["model"])
        self.best = groups["best"]
        self.descent.resume(groups)

    def release(self) -> None:
        """Free what was recorded and the gradients at once: replay and run know each other."""
        self.replay = None
        self.descent.release()

    def finish(self, ended: str) -> Fit:
        """Leave the model with its best weights and say what happened."""
        self.model.load_state_dict(self.best)
        self.model.eval()
        now = self.now
        looks = [Look(**look) for look in now.looks]
        return Fit(looks, now.best_updates, now.best_value, now.updates, now.seconds, ended)
