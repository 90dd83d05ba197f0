"""What a run writes down of itself: each trained model, and the chosen round against its rivals."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rsir.config import Config
from rsir.data.sequences import OBSERVED, Sequences
from rsir.devices import peak_rss_bytes
from rsir.evaluate import Evaluation
from rsir.evidence.controls import folder_of, origin_of
from rsir.evidence.fingerprint import data_fingerprint
from rsir.evidence.significance import paired_bootstrap
from rsir.train import Fit


def compare_models(
    evaluations: dict[tuple[str, int], Evaluation], chosen: int, config: Config
) -> dict[str, Any]:
    """The chosen round against its controls and the base, paired over users; {} if the base was chosen.

    Args:
        evaluations: on the test split, by arm and round.
        chosen: the round.
        config: its controls, cutoffs and seed.
    """
    if chosen == 0:
        return {}
    mine = evaluations["rounds", chosen]
    rivals = {"control": evaluations.get(("control", chosen)), "base": evaluations["rounds", 0]}
    extra = [arm for arm in config.recursion.control if arm != "updates"]
    rivals |= {arm: evaluations.get((folder_of(arm), chosen)) for arm in extra}
    names = [f"{name}@{k}" for k in config.evaluation.cutoffs for name in ("ndcg", "recall")]
    return {
        rival: {
            name: _finite(asdict(paired_bootstrap(other.values(name), mine.values(name), seed=config.seed)))
            for name in names
        }
        for rival, other in rivals.items()
        if other is not None
    }


def round_record(
    arm: str, k: int, start: str, data: Sequences, result: Fit, evaluation: Evaluation
) -> dict[str, Any]:
    """What `round.json` says of a trained model; see docs/formats.md.

    Args:
        arm: whose model it is.
        k: of which round.
        start: "warm" or "cold".
        data: what it was trained on.
        result: of the training.
        evaluation: on validation.
    """
    return {
        "round": k,
        "arm": arm,
        "origin": origin_of(arm, data),
        "start": start,
        "data": _data_facts(data),
        "sequences": len(data),
        "admitted": int((data.round_index == k).sum()) if k else 0,
        "updates": result.updates,
        "best_updates": result.best_updates,
        "ended": result.ended,
        "seconds": {"train": result.seconds},
        "valid": evaluation.metrics,
        "valid_warm": evaluation.warm_metrics,
        "ceiling": evaluation.ceiling,
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _data_facts(data: Sequences) -> dict[str, Any]:
    """Size and shape of training data, for the curves by round."""
    lengths = data.events.lengths
    users = int(data.user.unique().numel())
    return {
        "sequences": len(data),
        "synthetic": int((data.round_index != OBSERVED).sum()),
        "events": data.num_events,
        "users": users,
        "density": data.num_events / (users * data.num_items),
        "mean_length": float(lengths.double().mean()),
        "median_length": float(lengths.double().median()),
        "items_seen": int((data.item_counts() > 0).sum()),
        "fingerprint": data_fingerprint(data),
    }


def _finite(value: Any) -> Any:
    """None for what is undefined, such as a gain relative to 0: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
