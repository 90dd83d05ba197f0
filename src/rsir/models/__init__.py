"""What can be computed: networks and yardsticks that rank the catalogue.

`MODELS` is the one table of names for the command line; in Python, hand in the object.
"""

from __future__ import annotations

from rsir.models.base import Recommender, SequenceModel
from rsir.models.sasrec import SASRec, SASRecConfig

MODELS: dict[str, type[SASRec]] = {"sasrec": SASRec}
"""Backbones by name."""

__all__ = [
    "MODELS",
    "Recommender",
    "SASRec",
    "SASRecConfig",
    "SequenceModel",
    "build_model",
    "describe_model",
]


def build_model(config: SASRecConfig, num_items: int) -> SequenceModel:
    """A freshly initialised network for a catalogue; draws from PyTorch's global generator."""
    return MODELS[config.name](num_items, config)


def describe_model(model: SequenceModel) -> dict[str, object]:
    """What a network is, for the manifest beside its weights."""
    config = getattr(model, "config", None)
    return {
        "model": type(model).__name__,
        "num_items": model.num_items,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": config.model_dump(mode="json") if config is not None else None,
    }
