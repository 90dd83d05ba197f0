"""The small print: protocol, settings, cost, and the command that makes the run again."""

from __future__ import annotations

import shlex
from typing import Any

from rsir.config import describe_config
from rsir.report.blocks import Code, Section, Table, Text
from rsir.report.numbers import NONE, count, duration, figure, memory, share
from rsir.report.verdict import label
from rsir.report.view import Arm, View

CUTS = {
    "leave_one_out": "leave-one-out: each user's last event tests, the one before validates, the rest trains",
    "global_time": "global time: everything before a date trains, a user's first event after it is the case",
}
SEEN = {
    "mask": "mask: items of the history are never recommended, so a repeated target is a miss",
    "mask_except_target": "mask_except_target: items of the history are out, a repeated target is not",
    "allow": "allow: every item may be recommended, items of the history included",
}


def protocol_section(view: View) -> Section:
    """How figures come about."""
    facts = view.data["split"]
    rows = [
        ("split", CUTS[facts["kind"]]),
        ("cases", f"{count(facts['valid_cases'])} validation, {count(facts['test_cases'])} test"),
        ("ranking", f"the whole catalogue of {count(view.data['items'])} items, no sampled candidates"),
        ("ties", "rank = 1 + items scored higher + half the items scored equally"),
        ("seen items", SEEN[view.config.evaluation.seen]),
        ("ceiling", _ceiling(view)),
        ("cold test targets", _of(facts["cold_test_targets"], facts["test_cases"]) + ", counted as misses"),
        ("repeated test targets", _of(facts["repeated_test_targets"], facts["test_cases"])),
        ("test events older than the newest training event", _older(facts)),
        ("selection", f"{label(view.config.monitor)} on all validation cases chooses updates and round"),
        ("test split", "read once, at the end: for the base, the chosen round and its controls"),
        ("intervals", "paired bootstrap over users, 10,000 samples, 95 %, percentile"),
    ]
    warm = _warm(view)
    return Section("Protocol", (Table(("what", "how"), (*rows, *warm), wide=frozenset({0, 1})),))


def _warm(view: View) -> list[tuple[str, str]]:
    """Figures over the warm targets alone, where there are cold ones."""
    if not view.rounds or not (test := view.rounds[0].test) or not test["counts"]["cold"]:
        return []
    values = ", ".join(f"{label(m)} {figure(test['warm_metrics'].get(m))}" for m in (view.ndcg, view.recall))
    return [("base on warm targets alone", values)]


def _ceiling(view: View) -> str:
    test = view.rounds[0].test if view.rounds else None
    best = test["ceiling"] if test else None
    if best is None:
        policy = view.data["describe"]["seen_policies"][view.config.evaluation.seen]["test"]
        return f"recall {figure(policy['recall_ceiling'])} at most, by masked targets alone"
    return f"recall {figure(best)} at most: masked and cold targets cannot be hit"


def _older(facts: dict[str, Any]) -> str:
    number = facts["test_events_older_than_newest_training_event"]
    if number is None:
        return "unknown: the log has no times"
    text = _of(number, facts["test_cases"])
    return text + (": training saw other users' future" if number else "")


def _of(number: int, total: int) -> str:
    return f"{count(number)} ({share(number / max(1, total))})"


def settings_section(view: View) -> Section:
    """Settings that are not the default, and the machine."""
    changed = [
        (name, _value(value), _value(standard), meaning)
        for name, value, standard, meaning in describe_config(view.config)
        if value != standard
    ]
    table = Table(("setting", "value", "default", "meaning"), tuple(changed), wide=frozenset({0, 1, 2, 3}))
    said = table if changed else Text("Every setting has its default.")
    machine = view.environment
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    rows = (
        ("rsir", str(machine["rsir"])),
        ("Python", f"{machine['python']} on {machine['platform']}"),
        ("packages", packages),
        ("processor", f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads used"),
        ("memory", memory(machine["memory_bytes"])),
        ("device", str(machine["device"])),
    )
    return Section(
        "Settings and environment", (said, Table(("environment", "value"), rows, wide=frozenset({0, 1})))
    )


def _value(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def cost_section(view: View) -> Section:
    """Seconds and memory by stage, and why the run ended."""
    rows = []
    for arm in view.rounds:
        generation = view.generations.get(arm.index)
        if generation:
            rows.append((f"round {arm.index}: generate", duration(generation["seconds"]), NONE, NONE))
        rows.append(_cost(f"round {arm.index}: train" if arm.index else "base: train", arm))
        if not arm.index:
            rows += [_cost(f"further base {other.index}: train", other) for other in view.bases]
            rows += [_cost("model of reversed sequences: train", other) for other in view.reversed]
        if arm.index in view.control:
            rows.append(_cost(f"control {arm.index}: train", view.control[arm.index]))
        rows += [
            _cost(f"{name} {arm.index}: train", found[arm.index])
            for name, found in view.controls.items()
            if arm.index in found
        ]
    total = (duration(view.status.get("seconds")), NONE, memory(view.status.get("peak_rss_bytes")))
    table = Table(
        ("stage", "time", "updates", "peak memory so far"),
        (*rows, ("all", *total)),
        strong=frozenset({len(rows)}),
    )
    text = "The run is not finished."
    if view.result is not None:
        text = f"Stop reason: {view.result['stop_reason']}. {view.result['advice']}"
    return Section("Time, memory and ending", (Text(text), table))


def _cost(name: str, arm: Arm) -> tuple[str, str, str, str]:
    record = arm.record
    seconds = duration(record["seconds"]["train"])
    return name, seconds, count(record["updates"]), memory(record["peak_rss_bytes"])


def reproduce_section(view: View) -> Section:
    """The command that makes the same run."""
    folder, source = view.store.folder, str(view.data["source"])
    config = shlex.quote(str(folder / "config.toml"))
    log = "" if source == "simulated users" else "LOG " if source == "table" else f"{shlex.quote(source)} "
    blocks: list[Text | Code] = [Code(f"rsir run {log}--config {config} --out runs/again")]
    if source == "table":
        blocks.append(Text("The log came as a table from Python: LOG stands for a file that holds it."))
    text = (
        "The same log, configuration and seed give the same numbers on the same machine and versions. This "
        "report is made from the run directory alone:"
    )
    return Section(
        "How to make it again", (*blocks, Text(text), Code(f"rsir report {shlex.quote(str(folder))}"))
    )
