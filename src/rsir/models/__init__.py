"""What can be computed: networks and yardsticks that rank the catalogue.

`MODELS` is the one table of names for the command line; in Python, hand in the object.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from rsir.models.backbones import DROPOUT_SHARE, MODELS, Backbone, backbone_facts
from rsir.models.base import Recommender, SequenceModel
from rsir.models.bsarec import BSARec, BSARecConfig
from rsir.models.cl4srec import CL4SRec, CL4SRecConfig
from rsir.models.esasrec import ESASRec, ESASRecConfig
from rsir.models.fearec import FEARec, FEARecConfig
from rsir.models.gru4rec import GRU4Rec, GRU4RecConfig
from rsir.models.hstu import HSTU, HSTUConfig
from rsir.models.mamba4rec import Mamba4Rec, Mamba4RecConfig
from rsir.models.own import OwnConfig, build_own
from rsir.models.sasrec import SASRec, SASRecConfig

ModelConfig = Annotated[
    SASRecConfig
    | ESASRecConfig
    | CL4SRecConfig
    | HSTUConfig
    | BSARecConfig
    | FEARecConfig
    | GRU4RecConfig
    | Mamba4RecConfig
    | OwnConfig,
    Field(discriminator="name"),
]
"""The shape of any backbone; its `name` says which."""

__all__ = [
    "DROPOUT_SHARE",
    "HSTU",
    "MODELS",
    "BSARec",
    "BSARecConfig",
    "Backbone",
    "CL4SRec",
    "CL4SRecConfig",
    "ESASRec",
    "ESASRecConfig",
    "FEARec",
    "FEARecConfig",
    "GRU4Rec",
    "GRU4RecConfig",
    "HSTUConfig",
    "Mamba4Rec",
    "Mamba4RecConfig",
    "ModelConfig",
    "OwnConfig",
    "Recommender",
    "SASRec",
    "SASRecConfig",
    "SequenceModel",
    "backbone_facts",
    "build_model",
    "describe_model",
]


def build_model(config: ModelConfig, num_items: int) -> SequenceModel:
    """A freshly initialised network for a catalogue; draws from PyTorch's global generator.

    Raises:
        ConfigError: if the user's own network cannot be made.
    """
    if isinstance(config, OwnConfig):
        return build_own(config, num_items)
    return MODELS[config.name].model(num_items, config)


def describe_model(model: SequenceModel) -> dict[str, object]:
    """What a network is, for the manifest beside its weights."""
    config = getattr(model, "config", None)
    return {
        "model": type(model).__name__,
        "num_items": model.num_items,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": config.model_dump(mode="json") if isinstance(config, BaseModel) else None,
    }
