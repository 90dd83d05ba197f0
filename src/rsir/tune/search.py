"""A search: the base first, then self-improvement on the best base, each with the same budget.

A trial is worth its best validation figure. The test split is never read: what a trial is handed as a test
split is the validation split once more. Every finished trial is a line of `trials.jsonl`; a search that was
killed goes on behind the last one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rsir.compiled import tell_of_compiling
from rsir.config import Config, to_toml
from rsir.data.interactions import Interactions
from rsir.data.splits import Split, split
from rsir.devices import environment, resolve_device
from rsir.errors import ConfigError, ModelError
from rsir.evaluate import evaluate
from rsir.files import write_json, write_text
from rsir.launch import open_log, resolved
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.recursion import recurse
from rsir.refusals import refuse_untrainable
from rsir.rng import generator_seed
from rsir.store import RunStore
from rsir.teaching import open_teachers
from rsir.train import fit
from rsir.tune.folder import held, read_trials, write_trials
from rsir.tune.space import Axis, Phase, Space, check_axes, current, with_values
from rsir.tune.trials import Record, best, importance, library, looking, next_trial, study_of
from rsir.watch import Watch


@dataclass(frozen=True)
class Tuning:
    """What is searched, and for how long.

    Attributes:
        phases: "base", "recursion" or both; without "base", that of the configuration is improved.
        space: the axes of each phase.
        trials: trials of each phase at most; ≥ 1.
        timeout: seconds of trials of each phase, over all stops; a running trial is not cut off.
    """

    phases: tuple[Phase, ...]
    space: Space
    trials: int = 20
    timeout: float | None = None

    def facts(self, config: Config, log: Interactions) -> dict[str, Any]:
        """What makes two searches the same: not the budget, which may grow."""
        axes = {phase: [axis.facts() for axis in self.space[phase]] for phase in self.phases}
        return {"fingerprint": log.fingerprint, "space": axes, "config": config.model_dump(mode="json")}


def tune(
    log: Any,
    out: str | Path,
    tuning: Tuning,
    *,
    config: Config | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Search for the settings that are best on validation.

    Args:
        log: as of `rsir.run`; None simulates users.
        out: folder of the search; one that holds the same search goes on.
        tuning: what, and for how long.
        config: everything that is not searched, and the first trial.
        device: "auto", "cpu" or "cuda".
        watch: is told of progress.

    Returns:
        The result, as in `result.json` (see docs/formats.md).

    Raises:
        MissingExtraError: if Optuna is not installed.
        ConfigError: for an axis that is no possible setting, or a budget of nothing.
        StoreError: if `out` holds another search, or something else, or another process works in it.
    """
    library()
    config, where = config or Config(), resolve_device(device)
    _refuse_nothing_to_try(tuning, config)
    interactions, _ = open_log(log, config)
    cut = split(interactions, config.split)
    teacher = open_teachers(config.recursion.teachers, interactions, config, where)
    refuse_untrainable(cut, config, teacher)
    folder, cut = Path(out), replace(cut, test=cut.valid)
    with held(folder, tuning.facts(config, interactions)):
        return _Search(tuning, config, interactions, cut, folder, where, watch or Watch(), teacher).run()


def _refuse_nothing_to_try(tuning: Tuning, config: Config) -> None:
    if tuning.trials < 1 or (tuning.timeout is not None and tuning.timeout <= 0):
        raise ConfigError(
            f"a budget of {tuning.trials} trials and {tuning.timeout} seconds tries nothing: raise it"
        )
    for phase in tuning.phases:
        check_axes(tuning.space[phase], config)
    if "recursion" in tuning.phases and not config.recursion.rounds:
        raise ConfigError(
            "recursion.rounds = 0 leaves no self-improvement to tune: raise it, or say --for base"
        )


class _Search:
    """One search over its folder. Nothing outlives a trial but its record."""

    def __init__(
        self,
        tuning: Tuning,
        config: Config,
        log: Interactions,
        cut: Split,
        folder: Path,
        device: torch.device,
        watch: Watch,
        teacher: SequenceModel | None,
    ) -> None:
        self.tuning, self.log, self.cut, self.folder = tuning, log, cut, folder
        self.device, self.watch, self.given, self.teacher = device, watch, config, teacher
        self.config = with_values(config, {"recursion.control": False})
        self.counts = cut.train.item_counts()

    def run(self) -> dict[str, Any]:
        """Every phase, on top of the best of the one before; then the result."""
        found: dict[str, Any] = {}
        for phase in self.tuning.phases:
            records = self._phase(phase)
            found[phase] = self._outcome(phase, records)
            if chosen := best(records):
                self.config = with_values(self.config, chosen["params"])
                self.given = with_values(self.given, chosen["params"])
        write_text(self.folder / "best.toml", to_toml(self.given))
        result = {
            "out": str(self.folder),
            "monitor": self.config.monitor,
            "budget": {"trials": self.tuning.trials, "timeout": self.tuning.timeout},
            "config": str(self.folder / "best.toml"),
            "base": found.get("base"),
            "recursion": found.get("recursion"),
        }
        write_json(self.folder / "result.json", result)
        return result

    def _phase(self, phase: Phase) -> list[Record]:
        """Trials until the budget is spent; those of before included."""
        axes, records = self.tuning.space[phase], read_trials(self.folder, phase)
        first = current(resolved(self.config, self.device, self.log), axes)
        while len(records) < self.tuning.trials and not self._late(records):
            study = study_of(records, axes, self.config.seed)
            records.append(self._trial(phase, next_trial(study, axes, first), len(records)))
            write_trials(self.folder, phase, records)
        return records

    def _late(self, records: list[Record]) -> bool:
        limit = self.tuning.timeout
        return limit is not None and sum(record["seconds"] for record in records) >= limit

    def _trial(self, phase: Phase, trial: Any, number: int) -> Record:
        """Make one trial; one that diverges or cannot be has failed, one below the median is left off."""
        started = time.perf_counter()
        record: Record = {"phase": phase, "number": number, "params": trial.params, "looks": []}
        self.watch.stage("train", f"{phase} trial {number}", 0)
        worth = self._base if phase == "base" else self._recursion
        try:
            config = self._drawn(trial.params)
            record |= {"state": "completed", "value": worth(config, trial, record)}
        except library().TrialPruned:
            record |= {"state": "pruned", "value": max(record["looks"])}
        except (ModelError, ConfigError) as error:
            record |= {"state": "failed", "value": None, "reason": str(error)}
        record["seconds"] = round(time.perf_counter() - started, 3)
        shown = "–" if record["value"] is None else f"{record['value']:.4f}"
        why = f" ({record['reason']})" if "reason" in record else ""
        self.watch.note(
            f"{phase} trial {number}: {record['state']}{why}, {self.config.monitor} {shown}, {trial.params}"
        )
        return record

    def _drawn(self, values: Mapping[str, Any]) -> Config:
        """The configuration of a trial: each value is possible, but they may not go together."""
        config = resolved(with_values(self.config, values), self.device, self.log)
        refuse_untrainable(self.cut, config, self.teacher)
        return config

    def _base(self, config: Config, trial: Any, record: Record) -> float:
        """The base as `rsir run` trains it, given up where other trials were better by then."""
        look = looking(trial)

        def told(period: int, value: float) -> None:
            record["looks"].append(value)
            look(period, value)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator_seed(config.seed, "initial", 0))
            model = build_model(config.model, self.cut.train.num_items)
        result = fit(
            model,
            self.cut.train,
            config.training,
            partial(self._validate, config=config),
            seed=generator_seed(config.seed, "train", 0),
            monitor=config.monitor,
            device=self.device,
            progress=lambda seen: told(seen.period, seen.value),
        )
        return result.best_value

    def _validate(self, model: SequenceModel, config: Config) -> dict[str, float]:
        look = partial(evaluate, model, self.cut.valid, self.counts, config.evaluation)
        return look(device=self.device, with_lists=False).metrics

    def _recursion(self, config: Config, trial: Any, record: Record) -> float:
        """The best successor of the base; the base itself where nothing was admitted.

        Further bases and a model of reversed sequences are made by the first trial, and kept for the others.
        """
        place, base = self.folder / ".trial", self._trained_base()
        tell_of_compiling(self.watch, self.device)
        shutil.rmtree(place, ignore_errors=True)
        try:
            store = self._store(place, config)
            for made in base.iterdir():
                if made.is_dir() and made.name != "data":
                    shutil.copytree(made, place / made.name)
            self._recurse(config, store)
            values = [arm.record()["valid"][config.monitor] for arm in store.arms("rounds")]
            for arm in ("bases", "reversed"):
                if (place / arm).is_dir() and not (base / arm).is_dir():
                    (place / arm).rename(base / arm)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        record["base"] = values[0]
        return float(max(values[1:], default=values[0]))

    def _trained_base(self) -> Path:
        """The run of the base that all trials of self-improvement start from, made once."""
        place, alone = self.folder / "base", with_values(self.config, {"recursion.rounds": 0})
        config = resolved(alone, self.device, self.log)
        if not (place / "result.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            self._recurse(config, self._store(place, config))
        return place

    def _recurse(self, config: Config, store: RunStore) -> None:
        how: dict[str, Any] = {"device": self.device, "watch": self.watch, "teacher": self.teacher}
        recurse(self.cut, self.log, config, store, **how)

    def _store(self, place: Path, config: Config) -> RunStore:
        return RunStore.create(place, config, self.log, {}, environment(self.device))

    def _outcome(self, phase: Phase, records: list[Record]) -> dict[str, Any]:
        """What a phase found."""
        states = [record["state"] for record in records]
        axes: tuple[Axis, ...] = self.tuning.space[phase]
        return {
            "trials": {state: states.count(state) for state in ("completed", "pruned", "failed")},
            "best": _pick(best(records), ("number", "value", "params")),
            "first": _pick(records[0], ("number", "value", "params")) if records else None,
            "start": records[0].get("base") if records else None,
            "importance": importance(records, axes, self.config.seed),
            "seconds": round(sum(record["seconds"] for record in records), 3),
        }


def _pick(record: Mapping[str, Any] | None, keys: tuple[str, ...]) -> dict[str, Any] | None:
    return None if record is None else {key: record[key] for key in keys}
