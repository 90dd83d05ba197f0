"""The answer: did it help, by how much, with an interval, against which control."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import polars as pl
import torch
from torch import Tensor

from rsir.evidence.significance import paired_bootstrap
from rsir.metrics import by_name
from rsir.report.blocks import Answer, Headline
from rsir.report.numbers import count, figure, gain, share, signed
from rsir.report.view import Contrast, View

Kind = Literal["helped", "unclear", "hurt"]
PARTS = {"test": "test", "valid": "validation"}


def answer(view: View) -> Answer:
    """What a reader wants to know first."""
    if view.result is None:
        return _unfinished(view)
    if view.config.recursion.rounds == 0:
        return _base_only(view)
    if not view.shown:
        return _nothing_made(view)
    if view.chosen == 0:
        return _base_kept(view)
    return _claimed(view) if "control" in view.result["comparison"] else _uncontrolled(view)


def verdict(comparison: dict[str, Any]) -> Kind:
    """Helped or hurt only if the interval of the difference leaves zero on one side.

    >>> verdict({"low": 0.001, "high": 0.004}), verdict({"low": -0.001, "high": 0.0})
    ('helped', 'unclear')
    """
    if comparison["low"] > 0:
        return "helped"
    return "hurt" if comparison["high"] < 0 else "unclear"


def ranks_of(frame: pl.DataFrame) -> Tensor:
    """The ranks of a stored evaluation; float64."""
    return torch.from_numpy(frame["rank"].to_numpy().copy())


def compare(contrast: Contrast, metric: str, seed: int) -> dict[str, Any]:
    """Arm b against arm a over the cases, as in result.json."""
    a, b = (by_name(metric, ranks_of(frame)) for frame in (contrast.a, contrast.b))
    return asdict(paired_bootstrap(a, b, seed=seed))


def describe_comparison(metric: str, comparison: dict[str, Any], part: str) -> str:
    """One comparison in a sentence."""
    c = comparison
    return (
        f"{label(metric)} on {part}: {figure(c['mean_b'])} against {figure(c['mean_a'])}, a difference of "
        f"{signed(c['difference'])} ({share(c['level'], 0)} interval {signed(c['low'])} to "
        f"{signed(c['high'])}, p = {c['p']:.4f}, {count(c['cases'])} users)."
    )


def label(metric: str) -> str:
    """The name of a metric as it is written.

    >>> label("ndcg@10"), label("recall@5")
    ('NDCG@10', 'Recall@5')
    """
    name, _, cutoff = metric.partition("@")
    return f"{name.upper() if name in ('ndcg', 'mrr') else name.capitalize()}@{cutoff}"


def headline(metric: str, comparison: dict[str, Any]) -> Headline:
    """The relative gain with its interval; the absolute one where the control has next to nothing."""
    c, level = comparison, share(comparison["level"], 0)
    ends = (c["relative_low"], c["relative_high"])
    if c["relative"] is not None and None not in ends and ends[0] == ends[0]:
        return Headline(
            label(metric), gain(c["relative"]), f"{level} interval {gain(ends[0])} to {gain(ends[1])}"
        )
    detail = f"{level} interval {signed(c['low'])} to {signed(c['high'])}"
    return Headline(label(metric), signed(c["difference"]), detail)


def _claimed(view: View) -> Answer:
    """A chosen round with its control: the verdict."""
    assert view.result is not None
    against = view.result["comparison"]["control"]
    kind, k = verdict(against[view.ndcg]), view.shown
    titles = {
        "helped": f"Yes: round {k} is better than its control.",
        "unclear": f"No clear difference between round {k} and its control.",
        "hurt": f"No: round {k} is worse than its control.",
    }
    lines = [describe_comparison(name, against[name], "test") for name in (view.ndcg, view.recall)]
    base = view.result["comparison"]["base"][view.ndcg]
    lines += [
        _control(view, k),
        f"Against the base, which had fewer updates, {label(view.ndcg)} changed by {gain(base['relative'])} "
        f"({signed(base['low'])} to {signed(base['high'])}); that difference mixes data and training.",
        _seeds(view),
    ]
    figures = tuple(headline(name, against[name]) for name in (view.ndcg, view.recall))
    return Answer(kind, titles[kind], figures, tuple(lines))


def _uncontrolled(view: View) -> Answer:
    """A chosen round without control: figures, but no claim."""
    assert view.result is not None
    against = view.result["comparison"]["base"]
    lines = (
        "This run had no control (recursion.control = false). A later round also trained longer, so the "
        "difference from the base says nothing about the synthetic data. Run again with the control on.",
        *(describe_comparison(name, against[name], "test, round against base")
          for name in (view.ndcg, view.recall)),
        _seeds(view),
    )  # fmt: skip
    return Answer("none", "No gain can be claimed: there is no control.", _levels(view, view.shown), lines)


def _base_kept(view: View) -> Answer:
    """No round beat the base on validation."""
    k, contrast = view.shown, view.contrast
    assert contrast is not None
    rival = "its control" if contrast.controlled else "the base"
    mine, base = view.rounds[k].valid(view.config.monitor), view.rounds[0].valid(view.config.monitor)
    compared = compare(contrast, view.ndcg, view.config.seed)
    lines = (
        f"No round was better than the base on validation, so the base is kept. The best one, round {k}, "
        f"reached {label(view.config.monitor)} {figure(mine)} there; the base has {figure(base)}.",
        f"Round {k} against {rival}, {describe_comparison(view.ndcg, compared, 'validation')}",
        *_better_control(view),
        "The test split was read for the base alone.",
        _advice(view),
        _seeds(view),
    )
    return Answer("none", "It did not help on validation; the base is kept.", _levels(view, 0), lines)


def _base_only(view: View) -> Answer:
    lines = (
        "No round of self-improvement was asked for (--rounds 0): this is the base, trained and tested.",
    )
    return Answer("none", "The base alone: nothing to compare.", _levels(view, 0), lines)


def _nothing_made(view: View) -> Answer:
    made = view.generations.get(1, {}).get("rollouts", 0)
    lines = (
        f"Of {count(made)} rollouts of round 1 none was both accepted and new, so there was nothing to "
        "learn from and the base is kept.",
        _advice(view),
    )
    return Answer("none", "Nothing was admitted; the base is kept.", _levels(view, 0), lines)


def _unfinished(view: View) -> Answer:
    """What is there of a run that is not finished, and what is missing."""
    state = {
        "running": "Its status says that it is running; if no process is at work any more, it was stopped.",
        "failed": "It ended with an error.",
        "interrupted": "It was interrupted.",
    }
    wanted, done = view.config.recursion.rounds, len(view.rounds)
    there = "no trained model yet" if not done else f"the base and {done - 1} of at most {wanted} rounds"
    missing = "test figures, the choice of a round and the comparison with the control"
    lines = (
        state.get(view.status.get("status", ""), "It has not begun."),
        f"There: {there}. Missing: {missing}.",
        f"Go on with: rsir run --resume --out {view.store.folder}",
    )
    return Answer(
        "none", "This run is not finished: no answer yet.", _levels(view, view.shown, "valid"), lines
    )


def _levels(view: View, k: int, part: str = "test") -> tuple[Headline, ...]:
    """Plain figures of a round where no difference can be headlined."""
    if k >= len(view.rounds):
        return ()
    arm, name = view.rounds[k], f"round {k}" if k else "base"
    take = arm.tested if part == "test" else arm.valid
    detail = f"{name}, {PARTS[part]}"
    return tuple(Headline(label(metric), figure(take(metric)), detail) for metric in (view.ndcg, view.recall))


def _control(view: View, k: int) -> str:
    """What the control is."""
    updates, rules = count(view.control[k].record["updates"]), view.config.recursion
    since = " from the base on" if view.rounds[k].record["start"] == "warm" else ""
    as_base = view.config.successor_dropout_share < 1 and not (rules.soft_observed or rules.soft_synthetic)
    own = " Its dropout is the base's, which suits less data." if as_base else ""
    own += f" Both are {rules.dim} wide." if rules.dim else ""
    return (
        f"The control is control {k}: trained like round {k}{since}, with as many updates in each round "
        f"({updates} in this one) and as many looks at validation, but no synthetic data.{own}"
    )


def _better_control(view: View) -> tuple[str, ...]:
    """What a control better than the base says."""
    best = max(view.control.values(), key=lambda arm: arm.record["valid"][view.config.monitor], default=None)
    if best is None or (best.valid(view.config.monitor) or 0) <= (
        view.rounds[0].valid(view.config.monitor) or 0
    ):
        return ()
    return (
        f"Control {best.index}, trained on without synthetic data, is better than the base there "
        f"({figure(best.valid(view.config.monitor))}): longer training alone helps.",
    )


def _advice(view: View) -> str:
    assert view.result is not None
    return f"The run ended as {view.result['stop_reason']}. {view.result['advice']}"


def _seeds(view: View) -> str:
    return (
        f"This is one seed ({view.config.seed}). The intervals resample users; they do not cover how "
        "training varies from seed to seed, so repeat with other seeds before relying on a small difference."
    )
