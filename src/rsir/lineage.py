"""Who begins as whom, and who teaches whom, in each round of each arm of a run.

The arms: "rounds", the bases of further seeds ("bases", numbered from 1), the model of reversed sequences
("reversed", 1), "control" and "controls/NAME". Round 0 of "rounds", the base, is the common start of all arms
but "bases" and "reversed".
"""

from __future__ import annotations

import torch

from rsir.config import Config
from rsir.data.sequences import OBSERVED, Sequences
from rsir.evidence.controls import folder_of
from rsir.models import ModelConfig, build_model
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.rng import generator_seed
from rsir.store import RunStore
from rsir.train import Teacher

_PLAIN, _UPDATES = folder_of("plain"), folder_of("updates")
_APART = ("bases", "reversed")
"""Arms whose models are bases themselves: none of them has one before."""


class Lineage:
    """The models of a run, made or taken from its directory.

    Args:
        config: of the run.
        store: where finished models are.
        num_items: size of the catalogue.
        device: where models go.
        teacher: of another run; it then generates, judges and teaches in every round.
    """

    def __init__(
        self,
        config: Config,
        store: RunStore,
        num_items: int,
        device: torch.device | str,
        teacher: SequenceModel | None,
    ) -> None:
        self._config, self._store, self._num_items = config, store, num_items
        self._device, self._given = device, teacher

    def model(self, arm: str, k: int) -> SequenceModel:
        """The kept model of a round, in evaluation mode."""
        model = self._network(arm, k)
        self._store.arm(arm, k).load_weights(model)
        return model.to(self._device).eval()

    def warm(self, arm: str, k: int) -> bool:
        """Whether a round begins with the weights of the round before."""
        return _succeeds(arm, k) and self._config.successor_start == "warm"

    def initial(self, arm: str, k: int) -> SequenceModel:
        """What a round begins with: fresh weights, or those of the round before."""
        with torch.random.fork_rng(devices=[]):
            purpose = arm if arm in _APART else "initial"
            torch.manual_seed(generator_seed(self._config.seed, purpose, k))
            model = self._network(arm, k).to(self._device)
        if self.warm(arm, k):
            model.load_state_dict(self._before(arm, k).state_dict())
        return model

    def teacher(self, arm: str, k: int) -> SequenceModel:
        """Who generates, judges and teaches in round k: the bases there are by then, if no other run does.

        With `recursion.writers = "newest"` the round before stands in the first one's place.
        """
        if self._given is not None:
            return self._given
        rules = self._config.recursion
        first = self.model("rounds", 0) if rules.writers == "bases" else self._before(arm, k)
        further = min(rules.bases_of(k) - 1, len(self._store.arms("bases")))
        others = [self.model("bases", number) for number in range(1, further + 1)]
        return Ensemble([first, *others]).eval() if others else first

    def soft_teacher(self, arm: str, k: int, data: Sequences) -> Teacher | None:
        """Who gives soft targets, and what share of them each sequence takes; a control like its round."""
        rules = self._config.recursion
        taught = _succeeds(arm, k) and arm != _PLAIN
        if not taught or not (rules.soft_observed or rules.soft_synthetic):
            return None
        share = torch.where(data.round_index == OBSERVED, rules.soft_observed, rules.soft_synthetic)
        return Teacher(self.teacher(arm, k), share)

    def _before(self, arm: str, k: int) -> SequenceModel:
        return self.model("rounds" if k == 1 else arm, k - 1)

    def _network(self, arm: str, k: int) -> SequenceModel:
        return build_model(shape_of(self._config, arm, k), self._num_items)


def shape_of(config: Config, arm: str, k: int) -> ModelConfig:
    """The network of a round of an arm: a successor's has the width and the dropout of `recursion`.

    Less dropout is for what learns from more data than the base, or from teachers; a control that has neither
    keeps the base's: less would only weaken it.
    """
    if not _succeeds(arm, k):
        return config.model
    taught = bool(config.recursion.soft_observed or config.recursion.soft_synthetic)
    as_base = arm == _PLAIN or (arm == _UPDATES and not taught)
    return config.successor_model(1.0 if as_base else None)


def _succeeds(arm: str, k: int) -> bool:
    """Whether there is a round before."""
    return k > 0 and arm not in _APART
