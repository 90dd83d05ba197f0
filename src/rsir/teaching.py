"""Other runs as teachers: their models generate and judge, and give soft targets.

RSIR's weak-to-strong experiment (arXiv 2602.15659) lets one backbone make the data another is trained
on; several teachers, of other seeds or backbones, speak as one with the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rsir.config import Config
from rsir.data.interactions import Interactions
from rsir.errors import ConfigError
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.run import Run


def open_teachers(
    folders: Sequence[str | Path], interactions: Interactions, config: Config, device: torch.device | str
) -> SequenceModel | None:
    """The chosen models of some runs as one teacher; None for no runs.

    Args:
        folders: finished run directories.
        interactions: the log that the pupil learns from.
        config: the pupil's settings.
        device: where the models go.

    Raises:
        ConfigError: if a run is of another log or split, so that its model may have seen events that are
            held out here.
        StoreError: if a folder is no run.
    """
    models = [_teacher(Path(folder), interactions, config).to(device) for folder in folders]
    if not models:
        return None
    return models[0] if len(models) == 1 else Ensemble(models).eval()


def _teacher(folder: Path, interactions: Interactions, config: Config) -> SequenceModel:
    run = Run.open(folder)
    if run.interactions.fingerprint != interactions.fingerprint:
        raise ConfigError(f"the teacher {folder} is a run of another log: train it on this one")
    if run.config.split != config.split:
        raise ConfigError(
            f"the teacher {folder} was made with another split, so it may have seen events that are held out "
            "here: train it with the same split settings"
        )
    return run.model()
