"""Other libraries' SASRec as rivals, each by a script in an environment of its own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rsir.bench.alone import last_json
from rsir.bench.clock import figure
from rsir.bench.workload import network
from rsir.config import Config
from rsir.data.splits import Split
from rsir.errors import ConfigError

LIBRARIES = ("rectools", "recbole")


def check_environments(folder: Path) -> None:
    """Refuse a folder without the libraries' scripts and environments.

    Raises:
        ConfigError: names what is missing, and what to do.
    """
    for file in (file for name in LIBRARIES for file in _files(name, folder)):
        if not file.exists():
            raise ConfigError(f"{file} is missing: give the folder benchmarks/rivals, and call make rivals")


def _files(name: str, folder: Path) -> tuple[Path, Path]:
    """A library's script and the interpreter of its environment."""
    return folder / f"{name}_sasrec.py", folder / ".venv" / name / "bin" / "python"


def measure_library(
    name: str, folder: Path, split: Split, config: Config, epochs: int, share: float
) -> dict[str, Any]:
    """Seconds an epoch of a library on the training sequences of `split`, with the network of `config`.

    Args:
        name: "rectools" or "recbole".
        folder: `benchmarks/rivals` of a checkout, its environments built by `make rivals`.
        split: training sequences, and the validation items that its NDCG@10 is taken on.
        config: width, blocks, heads, dropout, length; batch size.
        epochs: how many, the fastest counts.
        share: of the batches of an epoch; times are divided by it.

    Raises:
        MeasurementError: if the script fails.
    """
    script, python = _files(name, folder)
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log.csv"
        export(split).write_csv(log)
        asked = json.dumps(_asked(config, epochs, share))
        told = last_json([str(python.absolute()), str(script.absolute()), str(log), asked])
    return {
        "library": told["library"],
        "epochs": epochs,
        "share_of_pass": share,
        "seconds_per_pass": figure(min(told["seconds"])),
        "cpu_seconds_per_pass": figure(min(told["cpu_seconds"])),
        "ndcg@10": None if told["ndcg@10"] is None else figure(told["ndcg@10"]),
        "seconds_to_ndcg": figure(sum(told["seconds"])),
        "peak_rss_bytes": told["peak_rss_bytes"],
    }


def export(split: Split) -> pl.DataFrame:
    """Training events and validation items: user, item, place in the sequence, part.

    Users without a validation item, and those of one training event, are left out: other
    libraries count their users' last event as held out.
    """
    train, valid = split.train, split.valid
    asked = torch.isin(train.user, valid.user) & (train.events.lengths >= 2)
    kept = train.select(torch.nonzero(asked).flatten())
    events = kept.events
    learned = pl.DataFrame(
        {
            "user": kept.user[events.row].numpy(),
            "item": events.values.numpy(),
            "place": events.position.numpy(),
        }
    ).with_columns(part=pl.lit("train"))
    last = torch.isin(valid.user, kept.user)
    held_out = pl.DataFrame({"user": valid.user[last].numpy(), "item": valid.target[last].numpy()})
    ends = learned.group_by("user").agg(place=pl.len().cast(pl.Int64))
    held_out = held_out.join(ends, on="user").with_columns(part=pl.lit("valid"))
    return pl.concat([learned, held_out]).sort("user", "place")


def _asked(config: Config, epochs: int, share: float) -> dict[str, Any]:
    model = network(config)
    return {
        "dim": model.dim,
        "blocks": model.num_blocks,
        "heads": model.num_heads,
        "max_length": model.max_length,
        "dropout": model.dropout,
        "learning_rate": 1e-3,
        "batch_size": config.training.batch_size,
        "epochs": epochs,
        "share": share,
        "threads": torch.get_num_threads(),
    }
