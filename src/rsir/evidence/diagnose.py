"""The diagnostics of a run, round by round: what the paper's theory says one can measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from rsir.data.sequences import OBSERVED, Sequences
from rsir.data.splits import Split
from rsir.data.synthetic import leakage
from rsir.data.truth import Truth
from rsir.evidence import diagnostics as d
from rsir.evidence.breakdown import breakdown_point, contraction, true_error
from rsir.evidence.directions import change_of
from rsir.evidence.sharpness import largest_eigenvalue, loss_along
from rsir.models.base import SequenceModel
from rsir.run import Run

DISTANCES = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
"""Where the loss is taken along a filter-normalised direction; 1 is as far as the weights are long."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is looked at; compare only figures of equal effort.

    Attributes:
        rows: sequences whose loss is differentiated.
        steps: of Lanczos.
        directions: random ones, for the loss.
        pairs: for the change along and across.
        seed: fixes all draws.
    """

    rows: int = 128
    steps: int = 20
    directions: int = 3
    pairs: int = 2000
    seed: int = 0


def diagnose(run: Run, *, effort: Effort = Effort(), device: torch.device | str = "cpu") -> Record:
    """Diagnose every finished round of a run; nothing in it is changed.

    Returns:
        `run`, `distances`, `rounds` (a record each: `data`, `synthetic`, `model`, `control`, `theory`); see
        docs/formats.md.
    """
    cut, truth = run.split(), run.store.truth()
    unions = run.training_data(len(run.store.arms("rounds")) - 1)
    made = _synthetic(unions[-1])
    rounds: list[Record] = []
    for k, data in enumerate(unions):
        record: Record = {"round": k, "data": _data(data, effort), "synthetic": None, "theory": None}
        if k:
            record["synthetic"] = _made(run, k, cut.train, data)
        for name, arm in (("model", "rounds"), ("control", "control")):
            there = run.store.arm(arm, k).done
            model = run.model(k, arm).to(device) if there else None
            record[name] = _model(model, cut.train, made, effort) if model is not None else None
            if model is not None and truth is not None:
                record[name]["error"] = true_error(model, cut.valid, run.interactions, truth)
        if k and truth is not None:
            record["theory"] = _theory(run, cut, data, [*rounds, record], truth)
        rounds.append(record)
    return {"run": str(run.folder), "distances": list(DISTANCES), "rounds": rounds}


def _synthetic(data: Sequences, k: int | None = None) -> Sequences:
    """The synthetic part of a union, or what round k added."""
    wanted = data.round_index != OBSERVED if k is None else data.round_index == k
    return data.select(wanted.nonzero().squeeze(1))


def _data(data: Sequences, effort: Effort) -> Record:
    """What the model of a round was trained on."""
    return {
        "sequences": len(data),
        "density": d.density(data),
        "distinct_density": d.distinct_density(data),
        "approximate_entropy": d.corpus_entropy(data.events, seed=effort.seed),
    }


def _made(run: Run, k: int, train: Sequences, data: Sequences) -> Record:
    """What the round added, beside the observed data."""
    made, facts = _synthetic(data, k), run.store.arm("rounds", k).generation() or {}
    drift = d.popularity_drift(train, made)
    return {
        "sequences": len(made),
        "accepted_share": facts["accepted"] / facts["rollouts"],
        "stop_reasons": facts["stop_reasons"],
        "length_drift": d.length_drift(train.events, made.events),
        "popularity_drift": drift["total_variation"],
        "mean_percentile": drift["mean_percentile"],
        "coverage": d.coverage(made),
        "novelty": d.novelty(train, made),
        "approximate_entropy": d.corpus_entropy(made.events),
    }


def _model(model: SequenceModel, train: Sequences, made: Sequences, effort: Effort) -> Record:
    """Sharpness on the observed data, and change along and across all that was generated."""
    rows, seed = effort.rows, effort.seed
    curves = loss_along(model, train, distances=DISTANCES, directions=effort.directions, rows=rows, seed=seed)
    record: Record = {
        "largest_eigenvalue": largest_eigenvalue(model, train, rows=rows, steps=effort.steps, seed=seed),
        "loss": curves[0][DISTANCES.index(0.0)],
        "loss_along": curves,
        "change": None,
    }
    if len(made):
        change = change_of(model, train, made, pairs=effort.pairs, seed=seed)
        record["change"] = {"along": change.along, "across": change.across, "ratio": change.ratio}
    return record


def _theory(run: Run, cut: Split, data: Sequences, rounds: list[Record], truth: Truth) -> Record:
    """Leakage, contraction and the breakdown point of the last of these rounds."""
    made = _synthetic(data)
    leaked = leakage(truth, run.interactions, made, cut.train)["synthetic"]
    weight = _weight(data, run.config.recursion.synthetic_weight)
    base, before, after = (rounds[place]["model"]["error"] for place in (0, -2, -1))
    rho = contraction(after, before, base, leaked, weight)
    return {
        "leakage": leaked,
        "weight": weight,
        "error": after,
        "growth": after - base,
        "contraction": rho,
        "breakdown_point": breakdown_point(base, before, rho) if math.isfinite(rho) else math.nan,
    }


def _weight(data: Sequences, each: float) -> float:
    """λ: the share of the loss that synthetic predictions have."""
    predictions = (data.events.lengths - 1).clamp(min=0).double()
    synthetic = data.round_index != OBSERVED
    made = each * float(predictions[synthetic].sum())
    return made / (made + float(predictions[~synthetic].sum()))
