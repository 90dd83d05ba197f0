"""The run directory: plain files, each written whole or not at all.

    config.toml       as resolved          data/   the log as read, and the truth if simulated
    data.json         what the log and its split are          environment.json
    rounds/K/         round K: model.safetensors, model.json, round.json, training.jsonl,
                      valid.parquet, test.parquet, test.json, synthetic.parquet, generation.json
    bases/N/          further bases, the same form          reversed/1/  the model of reversed sequences
    control/K/        the control of round K, the same form
    controls/NAME/K/  further controls, the same form
    metrics.jsonl     one line for each arm, round and split
    status.json       running or not, seconds, memory       log.jsonl      what happened when
    result.json       the outcome; written last

A stage counts as done when its JSON file stands there; it is always written last.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from rsir.config import Config, load_config, to_toml
from rsir.data.interactions import Interactions
from rsir.data.truth import Truth
from rsir.errors import StoreError
from rsir.files import REFUSALS, read_json, reason, whole_file, write_json, write_text
from rsir.weights import FileCheckpoint, load_weights, save_weights

FORMAT = 1
"""Version of the directory's form."""

_RECORD = {"round", "origin", "sequences", "admitted", "updates", "seconds", "valid"}
"""What the record of a round holds at least."""


class RunStore:
    """A run directory. Make one with `create`, go back to one with `open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(
        cls,
        folder: str | Path,
        config: Config,
        interactions: Interactions,
        data_facts: dict[str, Any],
        environment: dict[str, Any],
        truth: Truth | None = None,
    ) -> RunStore:
        """Make a new run directory, complete at once.

        Raises:
            StoreError: if the folder exists and is not empty, or cannot be written.
        """
        folder = Path(folder)
        refuse_used(folder)
        part: Path | None = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            interactions.save(part / "data")
            if truth is not None:
                (part / "data" / "truth").mkdir()
                truth.save(part / "data" / "truth")
            write_text(part / "config.toml", to_toml(config))
            write_json(part / "data.json", {"format": FORMAT, **data_facts})
            write_json(part / "environment.json", environment)
            part.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            os.rename(part, folder)
        except BaseException as error:
            if part is not None:
                shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, StoreError) or not isinstance(error, REFUSALS):
                raise
            raise StoreError(f"run directory {folder} cannot be made: {reason(error)}") from None
        return cls(folder)

    @classmethod
    def open(cls, folder: str | Path) -> RunStore:
        """Go back to a run directory.

        Raises:
            StoreError: if it is none, or of a form this version does not know.
        """
        store = cls(Path(folder))
        if not store.folder.is_dir():
            raise StoreError(f"there is no run directory {folder}")
        if not (store.folder / "data.json").is_file():
            raise StoreError(f"{folder} is not a run directory: it has no data.json")
        if store.data_facts.get("format") != FORMAT:
            raise StoreError(
                f"{folder} has format {store.data_facts.get('format')}; this rsir reads {FORMAT}"
            )
        return store

    @property
    def config(self) -> Config:
        """The configuration as resolved when the run was made."""
        path = self.folder / "config.toml"
        if not path.is_file():
            raise StoreError(f"{path} is missing: the run directory is incomplete")
        config = load_config(path)
        if "item_updates" in config.training.model_fields_set:
            return config
        training = config.training.model_copy(update={"item_updates": "all"})  # made when there was no choice
        return config.model_copy(update={"training": training})

    @property
    def data_facts(self) -> dict[str, Any]:
        """What the log and its split are."""
        return dict(read_json(self.folder / "data.json"))

    def interactions(self) -> Interactions:
        """The log."""
        return Interactions.load(self.folder / "data")

    def truth(self) -> Truth | None:
        """What is known of simulated users; None for real ones."""
        folder = self.folder / "data" / "truth"
        return Truth.load(folder) if folder.is_dir() else None

    def arm(self, arm: str, round_index: int) -> ArmFolder:
        """Where a round of "rounds", "bases", "reversed", "control" or "controls/NAME" is kept."""
        return ArmFolder(self.folder / arm / str(round_index))

    def arms(self, arm: str) -> list[ArmFolder]:
        """The finished rounds of an arm, in order."""
        folders = sorted((self.folder / arm).glob("[0-9]*"), key=lambda path: int(path.name))
        return [ArmFolder(path) for path in folders if (path / "round.json").is_file()]

    def control_arms(self) -> list[str]:
        """The arms of further controls, "controls/NAME", by name."""
        return [f"controls/{path.name}" for path in sorted((self.folder / "controls").glob("*"))]

    def result(self) -> dict[str, Any] | None:
        """The outcome, or None while the run is not finished."""
        path = self.folder / "result.json"
        return dict(read_json(path)) if path.is_file() else None

    def status(self) -> dict[str, Any]:
        """Whether it runs, seconds and peak memory so far; empty before the start."""
        path = self.folder / "status.json"
        return dict(read_json(path)) if path.is_file() else {}

    def log(self, event: str, **facts: object) -> None:
        """Add a line to log.jsonl."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts})
        try:
            with open(self.folder / "log.jsonl", "a", encoding="utf-8") as lines:
                lines.write(line + "\n")
        except OSError as error:
            raise StoreError(f"{self.folder / 'log.jsonl'} cannot be written: {reason(error)}") from None

    def write_metrics(self) -> None:
        """Write metrics.jsonl anew from the rounds that are done."""
        lines = []
        for name in ("rounds", "bases", "reversed", "control", *self.control_arms()):
            for folder in self.arms(name):
                record, test = folder.record(), folder.test()
                for part, metrics in (("valid", record["valid"]), ("test", test and test["metrics"])):
                    if metrics:
                        row = {"arm": name, "round": record["round"], "split": part, **metrics}
                        lines.append(json.dumps(row))
        write_text(self.folder / "metrics.jsonl", "".join(line + "\n" for line in lines))


@dataclass(frozen=True)
class ArmFolder:
    """One trained model and all that belongs to it."""

    folder: Path

    @property
    def done(self) -> bool:
        """Whether the round is trained and judged on validation."""
        return (self.folder / "round.json").is_file()

    def record(self) -> dict[str, Any]:
        """What the round was and gave."""
        record = read_json(self.folder / "round.json")
        if not isinstance(record, dict) or not record.keys() >= _RECORD:
            raise StoreError(f"{self.folder / 'round.json'} is no record: the run directory is damaged")
        return record

    def test(self) -> dict[str, Any] | None:
        """Figures on the test split, or None if it was not read."""
        path = self.folder / "test.json"
        return dict(read_json(path)) if path.is_file() else None

    def save(
        self,
        record: dict[str, Any],
        model: nn.Module,
        about: dict[str, Any],
        looks: list[Any],
        cases: pl.DataFrame,
    ) -> None:
        """Keep a finished round; its training checkpoint goes."""
        save_weights(self.folder / "model.safetensors", model)
        write_json(self.folder / "model.json", about)
        write_text(self.folder / "training.jsonl", "".join(json.dumps(look) + "\n" for look in looks))
        self.save_frame("valid", cases)
        write_json(self.folder / "round.json", record)
        self.checkpoint.clear()

    def save_frame(self, name: str, frame: pl.DataFrame) -> None:
        """Keep a table as NAME.parquet."""
        with whole_file(self.folder / f"{name}.parquet") as part:
            frame.write_parquet(part)

    def frame(self, name: str) -> pl.DataFrame:
        """A table kept before."""
        path = self.folder / f"{name}.parquet"
        try:
            return pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(
                f"{path} cannot be read ({reason(error)}): the run directory is damaged"
            ) from None

    def load_weights(self, model: nn.Module) -> None:
        """Put the kept weights into `model`."""
        load_weights(self.folder / "model.safetensors", model)

    def generation(self) -> dict[str, Any] | None:
        """Facts of the round's generation, or None if it is not done."""
        path = self.folder / "generation.json"
        return dict(read_json(path)) if path.is_file() else None

    def save_generation(self, facts: dict[str, Any], synthetic: pl.DataFrame) -> None:
        """Keep the admitted sequences, then the facts."""
        self.save_frame("synthetic", synthetic)
        write_json(self.folder / "generation.json", facts)

    @property
    def checkpoint(self) -> FileCheckpoint:
        """Where training keeps its progress."""
        return FileCheckpoint(self.folder / "checkpoint.safetensors")


def refuse_used(folder: Path) -> None:
    """Fail where a new run directory cannot be made."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise StoreError(f"{above} is a file: choose another --out")
    if folder.is_dir() and any(folder.iterdir()):
        what = "holds a run: go on with --resume" if (folder / "data.json").is_file() else "is not empty:"
        raise StoreError(f"{folder} {what}{' or' if what.endswith('resume') else ''} choose another --out")
