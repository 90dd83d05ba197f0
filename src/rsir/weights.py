"""Weights and training progress in safetensors files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rsir.errors import ModelError, StoreError
from rsir.files import reason, whole_file


@dataclass(frozen=True)
class FileCheckpoint:
    """Training progress in one safetensors file, so that it is never half of two states."""

    path: Path

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """The newest progress, or None. A file that cannot be read counts as none."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                return json.loads(file.metadata()["progress"]), {
                    name: file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118
                }
        except (SafetensorError, OSError, KeyError, ValueError):
            return None

    def save(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keep progress, replacing the last."""
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with whole_file(self.path) as part:
            save_file(flat, part, metadata={"progress": json.dumps(progress)})

    def clear(self) -> None:
        """Forget the progress."""
        self.path.unlink(missing_ok=True)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a network's weights."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as part:
        save_file(state, part)


def load_weights(path: Path, model: nn.Module) -> None:
    """Put weights into a network of the same shape.

    Raises:
        StoreError: if the file is missing or damaged.
        ModelError: if the weights are of another network.
    """
    if not path.is_file():
        raise StoreError(f"{path} is missing: the run directory is incomplete; run again with --resume")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} cannot be read ({reason(error)}): the run directory is damaged") from None
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != given:
        name = next(iter(sorted(set(wanted.items()) ^ set(given.items()))))[0]
        raise ModelError(
            f"the weights in {path} do not fit the configured model: {name} is "
            f"{given.get(name, 'missing')} there and {wanted.get(name, 'unknown')} here"
        )
    model.load_state_dict(state)
