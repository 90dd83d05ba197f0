"""Is one arm better than another? Paired over seeds and users, with Holm over the whole family.

The reference is the first arm; every other is compared with it. Or one arm by itself: a round with its
controls and base (within), or every round with its control (by round), and then whether gains grow from
one round to the next. Seeds are resampled outside, users inside (`significance.hierarchical_bootstrap`).
The family of Holm's rule is every metric of every comparison; the buckets, which look where a difference
falls, are a family of their own, and so is growth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsir.errors import ConfigError
from rsir.evaluate import BUCKETS
from rsir.evidence.arms import (
    Arm,
    arm_of,
    differing_settings,
    refuse_different,
    refuse_unpaired,
    sort_into_arms,
)
from rsir.evidence.claims import How, about, controls_of, notes_on, protocol_of
from rsir.evidence.sides import Part, Side, refuse_other_cases, side_of
from rsir.evidence.significance import Comparison, Growth, growth, hierarchical_bootstrap, holm
from rsir.metrics import by_name

FEWEST_USERS = 20
"""Users a bucket needs for an interval."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    """How the bootstrap draws.

    Attributes:
        num_samples: samples; the smallest p is 2 / (num_samples + 1).
        level: coverage of the intervals.
        seed: fixes the draws.
    """

    num_samples: int = 10_000
    level: float = 0.95
    seed: int = 0


def compare_runs(
    folders: Sequence[str | Path],
    *,
    which: str = "chosen",
    part: Part = "test",
    how: How = "between",
    metrics: Sequence[str] | None = None,
    sampling: Sampling = Sampling(),
) -> Record:
    """Compare runs, from their directories alone.

    Args:
        folders: run directories; those that differ in their seed alone are one arm, the first arm is the
            reference. Exactly two runs are two arms, unless `how` asks for one.
        which: whose model counts: "chosen", "base" or the number of a round.
        part: "test" or "valid"; test figures exist for the base, the chosen round and its controls.
        how: arms with the reference ("between"); or runs of one arm by themselves: that round with its
            controls and base ("within"), or each round with its control, and its gain with that of the
            round before ("by_round", where `which` means nothing).
        metrics: names such as "ndcg@10"; default NDCG and recall at each cutoff.
        sampling: how the bootstrap draws.

    Returns:
        The comparison, as `rsir compare --json` prints it (docs/formats.md).

    Raises:
        DataError: if protocol or data differ (names the field), or a figure is not there.
        ConfigError: if there is nothing to compare, or the seeds of two arms differ.
    """
    if not folders:
        raise ConfigError("no run was given: name at least two, or one with --within or --by-round")
    arms = sort_into_arms(folders) if how == "between" else [_one_arm(folders, how)]
    refuse_different([run for arm in arms for run in arm.runs])
    config = arms[0].runs[0].config
    names = list(metrics or (f"{m}@{k}" for k in config.evaluation.cutoffs for m in ("ndcg", "recall")))
    for name in names:
        by_name(name, torch.ones(1))
    pairs = _pairs(arms, how, which, part)
    refuse_other_cases([side for pair in pairs for side in pair])
    comparisons = [_compared(a, b, names, config.monitor, sampling) for a, b in pairs]
    grown = [_grown(a, b, names, sampling) for a, b in pairwise(pairs)] if how == "by_round" else []
    _adjust([record["metrics"] for record in comparisons])
    _adjust([record["metrics"] for record in grown])
    return {
        "protocol": protocol_of(arms[0], how, which, part),
        "arms": [about(arm, arms[0], which, part, config.monitor) for arm in arms],
        "metrics": comparisons[0]["metrics"],
        "comparisons": comparisons,
        "growth": grown,
        "notes": notes_on(arms, how, part, bool(pairs[0][0].name.startswith("control"))),
    }


def _one_arm(folders: Sequence[str | Path], how: How) -> Arm:
    """Runs of one configuration."""
    first, *more = [arm for folder in folders for arm in sort_into_arms([folder])]
    for arm in more:
        if different := differing_settings(first, arm):
            name = next(iter(different))
            raise ConfigError(
                f"--{how.replace('_', '-')} takes runs that differ in their seed alone: {name} is "
                f"{different[name][0]!r} in {first.name} and {different[name][1]!r} in {arm.name}"
            )
    return arm_of([first.runs[0], *(arm.runs[0] for arm in more)])


def _pairs(arms: list[Arm], how: How, which: str, part: Part) -> list[tuple[Side, Side]]:
    """Who is held against whom, the reference first."""
    if how == "between":
        return _between(arms, which, part)
    return _within(arms[0], which, part) if how == "within" else _by_round(arms[0], part)


def _between(arms: list[Arm], which: str, part: Part) -> list[tuple[Side, Side]]:
    """The reference beside each other arm."""
    if len(arms) < 2:
        raise ConfigError(
            "the runs given are seeds of one arm: name runs with other settings to compare it "
            "with, or --within or --by-round"
        )
    for arm in arms[1:]:
        refuse_unpaired(arms[0], arm)
    sides = [side_of(arm, which, part) for arm in arms]
    return [(sides[0], side) for side in sides[1:]]


def _within(arm: Arm, which: str, part: Part) -> list[tuple[Side, Side]]:
    """The controls and the base of the same runs beside their round."""
    mine = side_of(arm, which, part, name=f"round {which}" if which.isdecimal() else f"{which} round")
    if which == "base" or not any(mine.rounds):
        what = "the base" if which == "base" else "validation chose the base"
        raise ConfigError(f"{what}: there is no later round to hold against its control")
    rivals = [
        side_of(arm, which, part, of=of, name=of.removeprefix("controls/"))
        for of in controls_of(arm, which, part)
    ]
    return [(rival, mine) for rival in (*rivals, side_of(arm, "base", part, name="base"))]


def _by_round(arm: Arm, part: Part) -> list[tuple[Side, Side]]:
    """Each round that all runs have beside its control."""
    last = min(len(run.arms("control")) for run in arm.runs)
    if not last:
        raise ConfigError(
            "--by-round holds each round against its control, and a run has none: run again with it"
        )
    return [
        (side_of(arm, str(k), part, "control", f"control {k}"), side_of(arm, str(k), part, name=f"round {k}"))
        for k in range(1, last + 1)
    ]


def _grown(
    before: tuple[Side, Side], after: tuple[Side, Side], names: list[str], sampling: Sampling
) -> Record:
    """Whether a round gains more over its control than the round before."""
    found = {}
    for name in names:
        gains = [(control.values(name), mine.values(name)) for control, mine in (before, after)]
        found[name] = _plain(growth(*gains, **asdict(sampling)))
    return {"before": before[1].rounds[0], "after": after[1].rounds[0], "metrics": found}


def _compared(a: Side, b: Side, names: list[str], monitor: str, sampling: Sampling) -> Record:
    """One comparison: every metric, and where the differences fall."""
    cutoff = monitor.partition("@")[2]
    shown = (f"ndcg@{cutoff}", f"recall@{cutoff}")
    return {
        "a": a.name,
        "b": b.name,
        "rounds": {"a": list(a.rounds), "b": list(b.rounds)},
        "metrics": {name: _record(a.values(name), b.values(name), sampling) for name in names},
        **{f"by_{by}": _buckets(a, b, by, shown, sampling) for by in BUCKETS},
    }


def _record(a_RN: Tensor, b_RN: Tensor, sampling: Sampling) -> Record:
    """One metric of two sides."""
    return _plain(hierarchical_bootstrap(a_RN, b_RN, **asdict(sampling)))


def _plain(found: Comparison | Growth) -> Record:
    """Plain values; `cases` is called what it counts."""
    values = asdict(found)
    values["users"] = values.pop("cases")
    return {name: None if value != value else value for name, value in values.items()}


def _buckets(a: Side, b: Side, by: str, names: tuple[str, ...], sampling: Sampling) -> list[Record]:
    """The comparison for each bucket of a column that has users."""
    column, edges = torch.from_numpy(a.frames[0][by].to_numpy().copy()), BUCKETS[by]
    place = torch.searchsorted(torch.tensor(edges), column, right=True) - 1
    labels = [f"{low}-{high - 1}" if high - 1 > low else str(low) for low, high in pairwise(edges)]
    rows: list[Record] = []
    for bucket, label in enumerate([*labels, f"{edges[-1]}+"]):
        among = place == bucket
        if not (users := int(among.sum())):
            continue
        found = {
            name: _record(a.values(name)[:, among], b.values(name)[:, among], sampling) for name in names
        }
        if users < FEWEST_USERS:
            for record in found.values():
                record.update(dict.fromkeys(("low", "high", "relative_low", "relative_high", "p")))
        rows.append({"bucket": label, "users": users, "metrics": found})
    _adjust([row["metrics"] for row in rows])
    return rows


def _adjust(family: list[dict[str, Record]]) -> None:
    """Put p after Holm beside each p of a family; None where there is no p."""
    records = [record for metrics in family for record in metrics.values()]
    known = [record for record in records if record["p"] is not None]
    for record in records:
        record["p_holm"] = None
    for record, p in zip(known, holm([record["p"] for record in known]), strict=True):
        record["p_holm"] = p
