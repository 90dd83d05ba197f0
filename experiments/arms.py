"""The arms of successors.py: how a successor is made, by name. Results hold the names: they do not change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rsir.models import MODELS, ModelConfig

PAPER: dict[str, Any] = {"max_rank": 10}
FREE: dict[str, Any] = {**PAPER, "starts": "random", "top_k": 20, "temperature": 1.0, "num_rollouts": 3}
UNVERIFIED = {**FREE, "max_rank": None, "max_length": 8}
WARM = {"learning_rate": 3e-4, "passes": 8}
FAST = {"learning_rate": 1e-3, "passes": 8}
COLD = {"start": "cold", "learning_rate": 2e-3, "passes": 22}


class Recipe(NamedTuple):
    """What arms have in common that learn from the same synthetic sequences."""

    writers: int
    generation: str
    after: str | None
    keeps: bool
    joined: bool
    acquisition: str


@dataclass(frozen=True)
class Arm:
    """How a successor is made.

    Attributes:
        teachers: how many bases teach: 0 for none, 1 for its own predecessor, more for an ensemble.
        observed: the teacher's share of the targets of observed sequences.
        synthetic: the same of synthetic sequences; None for no synthetic sequences.
        weight: λ, weight of a synthetic sequence.
        generation: settings of the rollouts.
        how: start, learning rate and passes.
        model: what is set anew of the network; another width or backbone (`name`) begins cold.
        generators: how many bases generate and judge, at least as many as teach.
        after: an arm whose kept successors, one of each base, generate in the bases' stead.
        keeps: whether the synthetic sequences of that arm stay in the data, as in the paper's recursion.
        joined: whether the bases generate beside them.
        acquisition: which rollouts are learnt from.
    """

    teachers: int = 0
    observed: float = 0.0
    synthetic: float | None = None
    weight: float = 1.0
    generation: dict[str, Any] = field(default_factory=lambda: dict(FREE))
    how: dict[str, Any] = field(default_factory=lambda: dict(WARM))
    model: dict[str, Any] = field(default_factory=dict)
    generators: int = 1
    after: str | None = None
    keeps: bool = False
    joined: bool = False
    acquisition: dict[str, Any] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        """How its synthetic sequences are made."""
        writers = max(self.generators, self.teachers)
        acquisition = json.dumps(self.acquisition)
        return Recipe(writers, json.dumps(self.generation), self.after, self.keeps, self.joined, acquisition)

    def config(self, base: ModelConfig) -> ModelConfig:
        """The successor's network: the base's with what is set anew, or another backbone's."""
        if "name" in self.model:
            return MODELS[self.model["name"]].config(**self.model)
        return base.model_copy(update=self.model)


ARMS = {
    "observed": Arm(),
    "retain-all": Arm(synthetic=0.0, generation=PAPER),
    "own teacher, observed": Arm(1, 0.5),
    "own teacher, observed + synthetic": Arm(1, 0.5, 1.0),
    "2 teachers, observed": Arm(2, 0.5),
    "2 teachers, observed + synthetic": Arm(2, 0.5, 1.0),
    "3 teachers, observed": Arm(3, 0.5),
    "3 teachers, observed + synthetic": Arm(3, 0.5, 1.0),
    "3 teachers, synthetic alone": Arm(3, 0.0, 1.0),
    "3 teachers, observed .8 + synthetic": Arm(3, 0.8, 1.0),
    "3 teachers, observed + unverified": Arm(3, 0.5, 1.0, generation=UNVERIFIED),
    "3 teachers, observed + synthetic x 3": Arm(3, 0.5, 1.0, generation={**FREE, "num_rollouts": 9}),
}


ARMS |= {
    f"{name}, {label}": replace(arm, how=how)
    for label, how in (("fast", FAST), ("cold", COLD))
    for name, arm in ARMS.items()
}
MANY = {**FREE, "num_rollouts": 9}
LONG = {"learning_rate": 1e-3, "passes": 12}
ARMS |= {
    "3 teachers .9, synthetic x 3, dropout .2": Arm(
        3, 0.9, 1.0, generation=MANY, how=LONG, model={"dropout": 0.2}
    ),
    "3 teachers .9, synthetic x 3": Arm(3, 0.9, 1.0, generation=MANY, how=LONG),
    "3 teachers .9, synthetic x 3, d 128, dropout .3": Arm(
        3, 0.9, 1.0, generation=MANY, how={**COLD, "passes": 16}, model={"dim": 128, "dropout": 0.3}
    ),
    "3 teachers .9, d 128, dropout .3": Arm(
        3, 0.9, how={**COLD, "passes": 16}, model={"dim": 128, "dropout": 0.3}
    ),
    "own teacher .9, synthetic x 3, dropout .2": Arm(
        1, 0.9, 1.0, generation=MANY, how=LONG, model={"dropout": 0.2}
    ),
    "observed, long": Arm(how=LONG),
    "observed, dropout .2": Arm(how=LONG, model={"dropout": 0.2}),
    "3 teachers .9, dropout .2": Arm(3, 0.9, how=LONG, model={"dropout": 0.2}),
}

ROLLOUTS = {"max_rank": None}
"""The paper's rollouts, followed to their natural end: no rank test."""
ARMS |= {
    "observed, cold": Arm(how=COLD),
    "retain-all, cold": Arm(synthetic=0.0, generation=PAPER, how=COLD),
    "whole rollouts": Arm(synthetic=0.0, generation=ROLLOUTS, how=COLD),
    "whole rollouts of 3": Arm(synthetic=0.0, generation=ROLLOUTS, how=COLD, generators=3),
    "verified rollouts of 3": Arm(synthetic=0.0, generation=PAPER, how=COLD, generators=3),
}
WHOLE = ARMS["whole rollouts of 3"]
RANK_100 = replace(WHOLE, generation={"max_rank": 100})
ARMS |= {
    "rollouts of 3, rank 100": RANK_100,
    "whole rollouts of 3, p .8": replace(WHOLE, generation={**ROLLOUTS, "own_pool_probability": 0.8}),
    "whole rollouts of 3, 44 passes": replace(WHOLE, how={**COLD, "passes": 44}),
    "second generation": replace(WHOLE, after="whole rollouts of 3"),
    "second round": replace(WHOLE, after="whole rollouts of 3", keeps=True),
    "second round with the bases, rank 100": replace(
        RANK_100, after="rollouts of 3, rank 100", keeps=True, joined=True
    ),
}
ARMS |= {
    f"10 rollouts of 1, {label}": Arm(
        synthetic=0.0,
        generation={"max_rank": 10, "num_rollouts": 10},
        how=COLD,
        acquisition=rule,
    )
    for label, rule in (
        ("all", {}),
        ("3 a source", {"rule": "cap_per_source", "cap": 3}),
        ("DA-RSIR", {"rule": "disagreement"}),
    )
}
ARMS |= {
    f"{name}, {label}": replace(ARMS[name], model=model)
    for name in ("observed, cold", "whole rollouts of 3", "rollouts of 3, rank 100")
    for label, model in (
        ("d 128", {"dim": 128}),
        ("dropout .3", {"dropout": 0.3}),
        ("d 128, dropout .6", {"dim": 128, "dropout": 0.6}),
    )
}
ARMS |= {
    f"{backbone}, {name}": replace(ARMS[name], model={"name": backbone})
    for backbone in ("hstu", "gru4rec")
    for name in ("observed, cold", "whole rollouts", "whole rollouts of 3", "rollouts of 3, rank 100")
}
