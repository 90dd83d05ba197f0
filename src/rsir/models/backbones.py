"""The backbones by name: what each is, where it comes from, what it costs, when to choose it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from rsir.models.base import SequenceModel
from rsir.models.bsarec import BSARec, BSARecConfig
from rsir.models.cl4srec import CL4SRec, CL4SRecConfig
from rsir.models.esasrec import ESASRec, ESASRecConfig
from rsir.models.fearec import FEARec, FEARecConfig
from rsir.models.gru4rec import GRU4Rec, GRU4RecConfig
from rsir.models.hstu import HSTU, HSTUConfig
from rsir.models.mamba4rec import Mamba4Rec, Mamba4RecConfig
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.settings import Settings

DROPOUT_SHARE = 0.6
"""Of a base's dropout, what a successor of most backbones has."""


@dataclass(frozen=True)
class Backbone:
    """One line of the table.

    Attributes:
        model: makes the network from the size of the catalogue and its settings.
        config: its settings; the defaults are the backbone's own.
        title: as its authors write it.
        paper: where it was proposed.
        cost: what grows with what.
        choose: when to take it.
        start: how its successors had better begin, with their predecessor's weights ("warm") or afresh.
        dropout_share: of the base's dropout, what its successors had better have; they learn from more.
    """

    model: Callable[..., SequenceModel]
    config: type[Settings]
    title: str
    paper: str
    cost: str
    choose: str
    start: Literal["warm", "cold"] = "warm"
    dropout_share: float = DROPOUT_SHARE


MODELS: dict[str, Backbone] = {
    "sasrec": Backbone(
        SASRec,
        SASRecConfig,
        "SASRec",
        "Kang & McAuley, ICDM 2018",
        "attention: length² · dim a sequence",
        "the default: strong, fast, the base of most comparisons",
    ),
    "esasrec": Backbone(
        ESASRec,
        ESASRecConfig,
        "eSASRec",
        "Tikhonovich et al., RecSys 2025 (LiGR layers: Borisyuk et al., 2025)",
        "as sasrec, two thirds more parameters a layer",
        "gates keep deeper or wider stacks trainable",
    ),
    "cl4srec": Backbone(
        CL4SRec,
        CL4SRecConfig,
        "CL4SRec",
        "Xie et al., ICDE 2022",
        "as sasrec, and two more encodings of each batch in training",
        "short, noisy histories; a backbone of the RSIR paper",
    ),
    "hstu": Backbone(
        HSTU,
        HSTUConfig,
        "HSTU",
        "Zhai et al., ICML 2024",
        "attention: length² · dim a sequence, no feed-forward layer",
        "long histories where strength of interest, or the time between events, counts; of the RSIR paper",
        start="cold",
        dropout_share=1.0,
    ),
    "bsarec": Backbone(
        BSARec,
        BSARecConfig,
        "BSARec (causal filter)",
        "Shin et al., AAAI 2024",
        "as sasrec, and a filter of length² · dim",
        "histories with rhythm; against over-smoothing by attention",
    ),
    "fearec": Backbone(
        FEARec,
        FEARecConfig,
        "FEARec (causal filter and lags)",
        "Du et al., SIGIR 2023",
        "two attentions and a filter: about twice sasrec's layers",
        "periodic behaviour; a backbone of the DA-RSIR paper",
    ),
    "gru4rec": Backbone(
        GRU4Rec,
        GRU4RecConfig,
        "GRU4Rec",
        "Hidasi et al., ICLR 2016",
        "length · dim² a sequence, one step after another",
        "smallest memory for going on by one item; sessions",
    ),
    "mamba4rec": Backbone(
        Mamba4Rec,
        Mamba4RecConfig,
        "Mamba4Rec",
        "Liu et al., 2024 (selective state space: Gu & Dao, 2023)",
        "length · dim · states a sequence, one step after another",
        "long histories: linear in length, a fixed memory",
    ),
}
"""Backbones by name."""


def backbone_facts(name: str, num_items: int) -> dict[str, object]:
    """What there is to know of a backbone with its default settings, without making room for it.

    Args:
        name: one of `MODELS`.
        num_items: the catalogue that the parameters are counted for.

    Returns:
        Plain values: name, title, paper, parameters, items, incremental, causal, cost, choose.

    >>> facts = backbone_facts("sasrec", 12_101)
    >>> facts["parameters"], facts["incremental"]
    (825224, True)
    """
    backbone = MODELS[name]
    with torch.device("meta"):
        model = backbone.model(num_items, backbone.config())
    return {
        "name": name,
        "title": backbone.title,
        "paper": backbone.paper,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "items": num_items,
        "incremental": model.incremental,
        "causal": model.causal,
        "cost": backbone.cost,
        "choose": backbone.choose,
    }
