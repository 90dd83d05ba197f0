"""What has to stand beside a comparison: the protocol, each arm's own controls, and what not to believe."""

from __future__ import annotations

from typing import Any, Literal

from rsir.evidence.arms import Arm, differing_settings
from rsir.evidence.sides import Part, has_test, round_of, side_of

ENOUGH_SEEDS = 5
Record = dict[str, Any]
How = Literal["between", "within", "by_round"]
"""Arms against each other, a round against its own controls and base, or every round against its control."""


def protocol_of(arm: Arm, how: How, which: str, part: Part) -> Record:
    """By what the figures of a comparison were taken."""
    run = arm.runs[0]
    return {
        "fingerprint": run.data_facts["fingerprint"],
        "split": run.config.split.kind,
        "seen": run.config.evaluation.seen,
        "cutoffs": list(run.config.evaluation.cutoffs),
        "part": part,
        "round": which,
        "how": how,
    }


def about(arm: Arm, reference: Arm, which: str, part: Part, monitor: str) -> Record:
    """What an arm is, and its own base and controls: a gain is never shown without them."""
    cutoff = monitor.partition("@")[2]
    names = (f"ndcg@{cutoff}", f"recall@{cutoff}")
    sides = {"base": side_of(arm, "base", part), "round": side_of(arm, which, part)}
    if any(sides["round"].rounds):
        sides |= {of: side_of(arm, which, part, of=of) for of in controls_of(arm, which, part)}
    settings, differ = arm.settings(), differing_settings(reference, arm)
    return {
        "name": arm.name,
        "runs": [str(run.folder) for run in arm.runs],
        "seeds": list(arm.seeds),
        "rounds": list(sides["round"].rounds),
        "settings": {name: settings[name] for name in differ if name in settings},
        "figures": {
            of.removeprefix("controls/"): {name: side.mean(name) for name in names}
            for of, side in sides.items()
        },
    }


def notes_on(arms: list[Arm], how: How, part: Part, controlled: bool) -> list[str]:
    """What a reader must know before believing a difference."""
    notes, seeds = [], len(arms[0].runs)
    if seeds == 1:
        notes.append(
            "One seed a side: the intervals resample users and do not cover how training "
            "varies from seed to seed."
        )
    elif seeds < ENOUGH_SEEDS:
        notes.append(
            f"{seeds} seeds: their spread is underestimated by about 1/{seeds}; use {ENOUGH_SEEDS} or more."
        )
    if any(arm.seeds != arms[0].seeds for arm in arms):
        notes.append("The seeds of the two runs differ: the difference holds training noise too.")
    if how != "between" and not controlled:
        notes.append("There is no control: no gain can be put down to the synthetic data.")
    if how == "by_round" and part == "valid":
        notes.append(
            "Validation chose each round's best look, so that gains there promise too much; the test split "
            "is read for the chosen round and its control alone."
        )
    if how == "between":
        notes.append(
            "A difference between arms holds everything in which they differ. What the synthetic data "
            "of an arm adds is told by its own control: rsir compare --within."
        )
    return notes


def controls_of(arm: Arm, which: str, part: Part) -> list[str]:
    """The arms of controls that every run has for its round, the matched one first."""
    found: list[set[str]] = []
    for run in arm.runs:
        if k := round_of(run, which):
            extra = (f"controls/{folder.name}" for folder in sorted(run.folder.glob("controls/*")))
            names = [name for name in ("control", *extra) if run.arm(name, k).done]
            found.append({name for name in names if part == "valid" or has_test(run.arm(name, k))})
    return sorted(set.intersection(*found))  # "control" sorts before "controls/…"
