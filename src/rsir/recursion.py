"""The loop: train, generate, judge, admit, retrain; a control beside; one record of what happened.

RSIR §1 (arXiv 2602.15659). Generation and acquisition are handed the training sequences and
what was generated from them, nothing else. Validation chooses the round; the test split is read
once, at the end, for the base, the chosen round and its controls.

Every stage is kept in the run directory when it is done and taken from there when it is
asked for again, so a run that was stopped goes on with the same numbers.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import Any

import polars as pl
import torch
from torch import Tensor

from rsir.acquire import acquisition_rule
from rsir.config import Config, ControlArm
from rsir.data.interactions import Interactions
from rsir.data.sequences import OBSERVED, Sequences
from rsir.data.splits import Cases, Split
from rsir.data.synthetic import enriched, from_frame, leakage, sequences_frame, to_frame
from rsir.data.truth import Truth
from rsir.earlier import admitted_earlier_items, backward_cases, backwards
from rsir.errors import ModelError
from rsir.evaluate import Evaluation, evaluate
from rsir.evidence.controls import augmented, duplicates, folder_of, unverified
from rsir.evidence.outcome import compare_models, round_record
from rsir.files import write_json
from rsir.generate import generate
from rsir.lineage import Lineage
from rsir.models import describe_model
from rsir.models.base import SequenceModel
from rsir.rng import generator_seed
from rsir.store import ArmFolder, RunStore
from rsir.train import TrainingConfig, fit, period_of
from rsir.watch import Watch


class Ending(StrEnum):
    """Why the recursion ended. Every ending is an expected result, with advice."""

    COMPLETED = "completed"
    SATURATED = "saturated"
    COLLAPSED = "collapsed"
    NOTHING_ADMITTED = "nothing_admitted"


ADVICE = {
    Ending.COMPLETED: "All rounds were made. A further one seldom added to the first; --rounds tries it.",
    Ending.SATURATED: "Further rounds did not improve validation; the best round was kept. More variety "
    "may help: another generation.own_pool_probability, or generation.top_k above 1.",
    Ending.COLLAPSED: "Validation fell far below the base: the synthetic data misleads the model. Tighten "
    "fidelity (a lower generation.max_rank) or lower recursion.synthetic_weight.",
    Ending.NOTHING_ADMITTED: "No new sequence passed the fidelity check. Loosen it (a higher "
    "generation.max_rank), raise generation.num_rollouts, or train a stronger base.",
}

_DRAWS = {"bases": "base", "reversed": "reversed"}
"""What the draws of an arm's training are named after, where it is not "train"."""


def recurse(
    split: Split,
    interactions: Interactions,
    config: Config,
    store: RunStore,
    *,
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
    truth: Truth | None = None,
    teacher: SequenceModel | None = None,
) -> dict[str, Any]:
    """Run RSIR and keep everything in `store`.

    Args:
        split: training sequences, validation and test cases; only `split.train` reaches generation.
        interactions: the log, for the external ids on disk.
        config: what to do; see `rsir config show`.
        store: the run directory; stages found there are not made again.
        device: where to compute.
        watch: is told of progress.
        truth: what is known of simulated users; then leakage is measured.
        teacher: generates, judges and gives soft targets in each round; None: see `recursion.writers`.

    Returns:
        The outcome, as in `result.json` (see docs/formats.md).
    """
    run = _Recursion(split, interactions, config, store, device, watch or Watch(), truth, teacher)
    data, ending = split.train, Ending.COMPLETED
    base = run.train("rounds", 0, data)
    rules = config.recursion
    for k in range(1, rules.rounds + 1):
        for number in range(1, rules.bases_of(k) if teacher is None else 1):
            run.train("bases", number, split.train)
        if rules.earlier_items:
            run.train("reversed", 1, backwards(split.train), budget=base["updates"])
        synthetic = run.enrich(k, data)
        if not len(synthetic):
            ending = Ending.NOTHING_ADMITTED
            break
        data = enriched(split.train, data, synthetic, rules.synthetic)
        updates = run.train("rounds", k, data)["updates"]
        for arm in rules.control:
            run.train(folder_of(arm), k, run.control_data(arm, k, len(synthetic)), budget=updates)
        if found := run.stop_early(k):
            ending = found
            break
    return run.conclude(ending)


class _Recursion:
    """The acts of the loop over one run directory. Nothing here outlives a stage but the store."""

    def __init__(
        self,
        split: Split,
        interactions: Interactions,
        config: Config,
        store: RunStore,
        device: torch.device | str,
        watch: Watch,
        truth: Truth | None,
        teacher: SequenceModel | None,
    ) -> None:
        self.split, self.interactions, self.config, self.store = split, interactions, config, store
        self.device, self.watch, self.truth = device, watch, truth
        self.lineage = Lineage(config, store, split.train.num_items, device, teacher)
        self.started = time.perf_counter()
        self.counts = split.train.item_counts()
        self.period = period_of(split.train, config.training, config.model.max_length)

    def enrich(self, k: int, data: Sequences) -> Sequences:
        """Generate round k's rollouts from `data`, judge, and admit."""
        folder = self.store.arm("rounds", k)
        if folder.generation() is None:
            self._generate(k, self._sources(data), folder)
        return from_frame(folder.frame("synthetic"), self.interactions, data)

    def _sources(self, data: Sequences) -> Sequences:
        """What generation and admission are handed of D_{k−1}: all that is a source, or is learnt from again.

        So what a round admitted is not held against a later rollout that repeats it, if it is forgotten.
        """
        kept = (self.config.recursion.synthetic, self.config.generation.sources)
        return data if "all" in kept else self.split.train

    def _generate(self, k: int, data: Sequences, folder: ArmFolder) -> None:
        config, seed = self.config, self.config.seed
        self.watch.stage("generate", "rounds", k)
        started = time.perf_counter()
        model = self.lineage.teacher("rounds", k)
        rollouts = generate(
            model,
            data,
            config.generation,
            seed=seed,
            round_index=k,
            device=self.device,
            progress=lambda step, active: self.watch.advance(step, None),
        )
        rule = acquisition_rule(config.acquisition, config.generation.min_length, model)
        admission = rule.admit(rollouts, data, seed=seed, round_index=k)
        facts = {**rollouts.facts(), "admission": admission.counts, "round": k}
        if self.truth is not None and len(admission.rows):
            made = admission.sequences(rollouts, k)
            facts["leakage"] = leakage(self.truth, self.interactions, made, self.split.train)
        synthetic = to_frame(rollouts, admission.rows, k, self.interactions)
        told = f"round {k}: {len(rollouts):,} rollouts, {len(admission.rows):,} admitted"
        if config.recursion.earlier_items:
            extended, facts["earlier"] = self._earlier(k, data, model)
            synthetic = pl.concat([synthetic, extended])
            told += f"; earlier items before {len(extended):,} histories"
        facts["seconds"] = time.perf_counter() - started
        folder.save_generation(facts, synthetic)
        self.store.log("generated", round=k, admitted=len(synthetic))
        self.watch.note(told)

    def _earlier(self, k: int, data: Sequences, judge: SequenceModel) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Short histories behind earlier items, as they are kept, and what became of the rest."""
        writer, number = self.lineage.model("reversed", 1), self.config.recursion.earlier_items
        made, admission, facts = admitted_earlier_items(
            writer,
            judge,
            data,
            self.config,
            round_index=k,
            device=self.device,
            progress=self.watch.advance,
        )
        return to_frame(made, admission.rows, k, self.interactions, earlier=number), facts

    def train(self, arm: str, k: int, data: Sequences, budget: int | None = None) -> dict[str, Any]:
        """Fit round k of an arm on `data` and judge it on validation; its record."""
        folder = self.store.arm(arm, k)
        if folder.done:
            return folder.record()
        self.watch.stage("train", arm, k)
        warm = self.lineage.warm(arm, k)
        training = self._warm_training() if warm else self.config.training
        model = self.lineage.initial(arm, k)
        horizon = budget or training.max_periods * self.period
        cases = backward_cases(self.split.valid) if arm == "reversed" else self.split.valid
        result = fit(
            model,
            data,
            training,
            partial(self._validate, cases=cases),
            seed=generator_seed(self.config.seed, _DRAWS.get(arm, "train"), k),
            monitor=self.config.monitor,
            weight=self._weights(data),
            teacher=self.lineage.soft_teacher(arm, k, data),
            period=self.period,
            budget=budget,
            device=self.device,
            checkpoint=folder.checkpoint,
            progress=lambda look: self.watch.advance(look.updates, horizon),
        )
        self.watch.stage("evaluate", arm, k)
        evaluation = self._evaluate(model, cases)
        record = round_record(arm, k, "warm" if warm else "cold", data, result, evaluation)
        looks = [asdict(look) for look in result.looks]
        folder.save(record, model, describe_model(model), looks, self._cases_frame(evaluation))
        self.store.write_metrics()
        self.store.log("trained", arm=arm, round=k, updates=result.updates, ended=result.ended)
        shown = evaluation.metrics[self.config.monitor]
        self.watch.note(
            f"{_name(arm, k)}: validation {self.config.monitor} {shown:.4f} ({result.seconds:.0f} s)"
        )
        return record

    def _warm_training(self) -> TrainingConfig:
        """How a warm-started round is fitted: slower, and for its share of the base's updates at most."""
        rules, training = self.config.recursion, self.config.training
        changes: dict[str, float] = {"learning_rate": rules.warm_learning_rate}
        if rules.warm_share is not None:
            periods = self.store.arm("rounds", 0).record()["updates"] / self.period
            changes["max_periods"] = max(1, round(rules.warm_share * periods))
        return training.model_copy(update=changes)

    def control_data(self, arm: ControlArm, k: int, count: int) -> Sequences:
        """What a control arm is trained on in round k, where the round itself admitted `count` sequences."""
        train = data = self.split.train
        for j in range(1, k + 1) if arm not in ("updates", "plain") else ():
            folder = self.store.arm(folder_of(arm), j)
            if folder.generation() is None:
                self._make_control(arm, j, self._sources(data), count, folder)
            made = from_frame(folder.frame("synthetic"), self.interactions, data)
            data = enriched(train, data, made, self.config.recursion.synthetic)
        return data

    def _make_control(self, arm: ControlArm, k: int, data: Sequences, count: int, folder: ArmFolder) -> None:
        """Make a control arm's sequences for round k, and keep them as synthetic data is kept."""
        started = time.perf_counter()
        keys: dict[str, Any] = {"seed": self.config.seed, "round_index": k}
        if arm == "unverified":
            self.watch.stage("generate", folder_of(arm), k)
            free = self.config.generation.model_copy(update={"max_rank": None})
            rollouts = generate(self.lineage.teacher("rounds", k), data, free, **keys, device=self.device)
            made = unverified(rollouts, data, count, **keys)
        else:
            made = (duplicates if arm == "duplicates" else augmented)(self.split.train, count, **keys)
        facts = {"round": k, "sequences": len(made), "seconds": time.perf_counter() - started}
        folder.save_generation(facts, sequences_frame(made, self.interactions))

    def stop_early(self, k: int) -> Ending | None:
        """Whether validation says that further rounds are useless."""
        rules, values = self.config.recursion, self._validation()
        if rules.collapse is not None and values[k] < (1 - rules.collapse) * values[0]:
            return Ending.COLLAPSED
        best = values.index(max(values))
        if rules.patience is not None and k - best >= rules.patience and k < rules.rounds:
            return Ending.SATURATED
        return None

    def conclude(self, ending: Ending) -> dict[str, Any]:
        """Choose the round on validation, read the test split, compare, and write the outcome."""
        values = self._validation()
        chosen = values.index(max(values))
        evaluations = {("rounds", 0): self._test("rounds", 0)}
        if chosen > 0:
            evaluations["rounds", chosen] = self._test("rounds", chosen)
            for name in map(folder_of, self.config.recursion.control):
                evaluations[name, chosen] = self._test(name, chosen)
        outcome = {
            "stop_reason": ending.value,
            "advice": ADVICE[ending],
            "chosen_round": chosen,
            "monitor": self.config.monitor,
            "comparison": compare_models(evaluations, chosen, self.config),
        }
        self.store.write_metrics()
        write_json(self.store.folder / "result.json", outcome)
        self.store.log("finished", stop_reason=ending.value, chosen_round=chosen)
        return outcome

    def _test(self, arm: str, k: int) -> Evaluation:
        """Read the test split with one model, and keep the figures."""
        self.watch.stage("evaluate", arm, k)
        evaluation = self._evaluate(self.lineage.model(arm, k), self.split.test)
        folder = self.store.arm(arm, k)
        folder.save_frame("test", self._cases_frame(evaluation))
        figures = {
            "metrics": evaluation.metrics,
            "warm_metrics": evaluation.warm_metrics,
            "ceiling": evaluation.ceiling,
            "counts": evaluation.counts,
        }
        write_json(folder.folder / "test.json", figures)
        self.store.log("tested", arm=arm, round=k)
        return evaluation

    def _validation(self) -> list[float]:
        """The monitored figure of each round so far."""
        return [folder.record()["valid"][self.config.monitor] for folder in self.store.arms("rounds")]

    def _weights(self, data: Sequences) -> Tensor | None:
        """λ for synthetic sequences, 1 for observed ones."""
        share = self.config.recursion.synthetic_weight
        return None if share == 1.0 else torch.where(data.round_index == OBSERVED, 1.0, share)

    def _validate(self, model: SequenceModel, cases: Cases) -> dict[str, float]:
        """Accuracy on validation cases, for early stopping.

        Raises:
            ModelError: if training diverged.
        """
        try:
            look = partial(evaluate, model, cases, self.counts, self.config.evaluation)
            return look(device=self.device, with_lists=False).metrics
        except ModelError as error:
            raise ModelError(f"training diverged ({error}): lower training.learning_rate") from None

    def _evaluate(self, model: SequenceModel, cases: Cases) -> Evaluation:
        return evaluate(
            model,
            cases,
            self.counts,
            self.config.evaluation,
            device=self.device,
            progress=self.watch.advance,
        )

    def _cases_frame(self, evaluation: Evaluation) -> pl.DataFrame:
        """Per-case values with external ids."""
        return evaluation.per_user_frame().with_columns(
            self.interactions.users.ids_of(evaluation.user).alias("user"),
            self.interactions.items.ids_of(evaluation.target).alias("target"),
        )


def _name(arm: str, k: int) -> str:
    """How a round of an arm is called in notes."""
    if arm == "reversed":
        return "model of reversed sequences"
    if arm == "bases":
        return f"base {k + 1}"
    names = {"rounds": "round", "control": "control of round"}
    return "base" if k == 0 else f"{names.get(arm, arm)} {k}"
