"""Yardsticks on the test split, made when the report is, where that takes a moment."""

from __future__ import annotations

from rsir.evaluate import evaluate
from rsir.models.base import Recommender
from rsir.models.item_knn import ItemKNN
from rsir.models.popular import popular_yardsticks
from rsir.report.blocks import Section, Table, Text
from rsir.report.numbers import figure
from rsir.report.verdict import label
from rsir.report.view import View

MOST_SCORES = 1_000_000_000
MOST_PAIRS = 50_000_000
"""Cases × items, and pairs of items in a sequence, above which yardsticks are left out."""


def yardstick_section(view: View) -> Section | None:
    """Simple recommenders and, for simulated users, the best possible scores."""
    if not view.rounds or view.rounds[0].test is None:
        return None
    rows = [*_simple(view), *_ours(view), *_ideal(view)]
    table = Table(("recommender", label(view.ndcg), label(view.recall)), tuple(rows))
    text = "The same test cases and protocol for all."
    if _quick(view) and view.split.train.events.time is not None:
        text += " Recent popular counts the newest fifth of the training events."
    if view.truth is not None and view.config.split.kind == "leave_one_out":
        text += (
            " The oracle knows the true law of the next item, tastes and session included, which a "
            "recommender has to infer: no one can do better on average."
        )
    if not _quick(view):
        text += " Popular items and item-kNN are left out: the log is too large to score them on the side."
    return Section("Yardsticks", (table, Text(text, quiet=True)))


def _quick(view: View) -> bool:
    """Whether scoring everything takes a moment."""
    cut = view.split
    pairs = int((cut.train.events.lengths**2).sum())
    return len(cut.test) * cut.train.num_items <= MOST_SCORES and pairs <= MOST_PAIRS


def _simple(view: View) -> list[tuple[str, str, str]]:
    if not _quick(view):
        return []
    cut, config = view.split, view.config.evaluation
    popular = {name.replace("_", " "): model for name, model in popular_yardsticks(cut.train).items()}
    models: dict[str, Recommender] = {**popular, "item-kNN": ItemKNN(cut.train)}
    counts, rows = cut.train.item_counts(), []
    for name, model in models.items():
        metrics = evaluate(model, cut.test, counts, config, with_lists=False).metrics
        rows.append((name, figure(metrics[view.ndcg]), figure(metrics[view.recall])))
    return rows


def _ours(view: View) -> list[tuple[str, str, str]]:
    arms = [("base", view.rounds[0])]
    if view.chosen:
        arms.append((f"round {view.chosen}", view.rounds[view.chosen]))
    return [(name, figure(arm.tested(view.ndcg)), figure(arm.tested(view.recall))) for name, arm in arms]


def _ideal(view: View) -> list[tuple[str, str, str]]:
    """The oracle's expected scores; it is defined for the last event of each user."""
    truth = view.truth
    if truth is None or view.config.split.kind != "leave_one_out":
        return []
    if truth.config.num_users * truth.config.num_items > MOST_SCORES:
        return []
    best = truth.ideal(view.cutoff)
    return [("oracle of the simulation", figure(best[view.ndcg]), figure(best[view.recall]))]
