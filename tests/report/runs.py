"""Tiny runs to report, and how to change their outcome."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from rsir.config import Config, load_config
from rsir.data.simulate import simulate
from rsir.data.simulation import SimulationConfig

WORLD = {"num_users": 90, "num_items": 60, "num_topics": 4, "mean_events": 7.0, "max_events": 15}
SMALL = {
    "simulation": {**WORLD, "topics_per_user": 2},
    "model": {"dim": 8, "num_blocks": 1, "num_heads": 1},
    "training": {"max_periods": 2, "min_period": 10},
    "generation": {"max_rank": 30},
    "recursion": {"rounds": 2, "collapse": None},
}
SCRIPT, PIPE = "<script>alert('x')</script>", "ann|bob *"


def small(**sections: dict[str, Any]) -> Config:
    """The small configuration with some sections changed."""
    return load_config(base={**SMALL, **{k: {**SMALL.get(k, {}), **v} for k, v in sections.items()}})


def hostile_log() -> pl.DataFrame:
    """A log in which the commonest item and every user's id are markup."""
    frame = simulate(SimulationConfig(**SMALL["simulation"]), seed=1).frame
    common = frame["item_id"].mode()[0]
    return frame.with_columns(
        item_id=pl.when(pl.col("item_id") == common).then(pl.lit(SCRIPT)).otherwise("item_id"),
        user_id=pl.lit(PIPE) + pl.col("user_id"),
    )


def comparison(low: float, high: float, relative: float | None = 0.1) -> dict[str, Any]:
    """A comparison as in result.json, with a given interval of the difference."""
    return {
        "mean_a": 0.2, "mean_b": 0.2 + (low + high) / 2, "difference": (low + high) / 2,
        "low": low, "high": high, "relative": relative, "relative_low": relative and low / 0.2,
        "relative_high": relative and high / 0.2, "p": 0.02, "level": 0.95, "cases": 90, "seeds": 1,
        "num_samples": 10000,
    }  # fmt: skip


def choose(folder: Path, k: int, against: dict[str, dict[str, Any]]) -> None:
    """Rewrite a run as if validation had chosen round k, with these comparisons of every metric."""
    for arm in (folder / "rounds" / "0", folder / "rounds" / str(k), folder / "control" / str(k)):
        if arm.is_dir():
            record = json.loads((arm / "round.json").read_text())
            shutil.copy(arm / "valid.parquet", arm / "test.parquet")
            figures = {
                "metrics": record["valid"],
                "warm_metrics": record["valid_warm"],
                "ceiling": 1.0,
                "counts": {"cases": 90, "cold": 0, "repeated": 0},
            }
            (arm / "test.json").write_text(json.dumps(figures))
    result = json.loads((folder / "result.json").read_text())
    names = [f"{name}@{cutoff}" for cutoff in (5, 10, 20) for name in ("ndcg", "recall")]
    result["chosen_round"] = k
    result["comparison"] = {rival: dict.fromkeys(names, values) for rival, values in against.items()}
    (folder / "result.json").write_text(json.dumps(result))
