"""Time to the same quality, and quality in the same time, as other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from rsir.bench.clock import figure
from rsir.bench.workload import train_for, untrained
from rsir.config import Config
from rsir.data.splits import Split
from rsir.evaluate import evaluate
from rsir.models.base import SequenceModel
from rsir.train import Look


def race(
    rivals: Mapping[str, dict[str, Any]],
    split: Split,
    config: Config,
    most_passes: int,
    device: torch.device | str,
) -> dict[str, Any]:
    """Train until the best of the rivals' `ndcg@10` is reached and the last of them is done.

    Validation counts as our time.

    Args:
        rivals: figures by name, with `ndcg@10` and `seconds_to_ndcg` where these were measured.
        split: what is trained and judged on.
        config: network, training and seed.
        most_passes: after so many passes the race is given up.
        device: where ours trains.

    Returns:
        `our_seconds_to_ndcg` and `ndcg_speedup` by rival (None where it was not reached), `our_ndcg_by_then`,
        the best that ours had when the rival was done (None where that was before our first look), and our
        `curve`; nothing if no rival has an NDCG.
    """
    goals = {name: rival["ndcg@10"] for name, rival in rivals.items() if rival.get("ndcg@10") is not None}
    if not goals:
        return {}
    longest = max(rivals[name]["seconds_to_ndcg"] for name in goals)
    looks = _until(max(goals.values()), longest, split, config, most_passes, device)
    ours = {name: _reached(looks, goal) for name, goal in goals.items()}
    return {
        "our_seconds_to_ndcg": ours,
        "ndcg_speedup": {
            name: figure(rivals[name]["seconds_to_ndcg"] / seconds) if seconds else None
            for name, seconds in ours.items()
        },
        "our_ndcg_by_then": {name: _best_by(looks, rivals[name]["seconds_to_ndcg"]) for name in goals},
        "curve": [{"seconds": figure(look.seconds), "ndcg@10": figure(look.value)} for look in looks],
    }


def _reached(looks: list[Look], goal: float) -> float | None:
    """Seconds until the goal, training and validation."""
    return next((figure(look.seconds) for look in looks if look.value >= goal), None)


def _best_by(looks: list[Look], seconds: float) -> float | None:
    """The best NDCG@10 in so many seconds."""
    return max((figure(look.value) for look in looks if look.seconds <= seconds), default=None)


class _Reached(Exception):
    """The goal is reached: no further pass."""


def _until(
    goal: float, seconds: float, split: Split, config: Config, most: int, device: torch.device | str
) -> list[Look]:
    """Our looks at validation, pass by pass, until NDCG@10 reaches `goal` and so many seconds are over."""
    counts, looks = split.train.item_counts(), list[Look]()
    model = untrained(config, split.train.num_items, device)

    def validate(model: SequenceModel) -> dict[str, float]:
        return evaluate(model, split.valid, counts, config.evaluation, with_lists=False).metrics

    def watch(look: Look) -> None:
        looks.append(look)
        if max(one.value for one in looks) >= goal and look.seconds >= seconds:
            raise _Reached

    with suppress(_Reached):
        train_for(
            model,
            split.train,
            config.training,
            most,
            seed=config.seed,
            device=device,
            validate=validate,
            progress=watch,
        )
    return looks
