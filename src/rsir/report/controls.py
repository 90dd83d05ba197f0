"""Every control arm beside the round: what a claim for synthetic data has to beat."""

from __future__ import annotations

from rsir.report.blocks import Section, Table, Text
from rsir.report.numbers import count, figure, gain, signed
from rsir.report.verdict import PARTS, compare, label
from rsir.report.view import Arm, Contrast, View

MEANINGS = {
    "control": "updates alone",
    "plain": "updates alone, no teacher",
    "duplicates": "observed sequences once more",
    "unverified": "rollouts without fidelity check",
    "augmented": "cropped, reordered, inserted",
}


def controls_section(view: View) -> Section | None:
    """The shown round against each of its controls; nothing where there is only the matched one."""
    k = view.shown
    arms = {name: found[k] for name, found in view.controls.items() if k in found}
    if not (k and arms):
        return None
    if k in view.control:
        arms = {"control": view.control[k], **arms}
    mine = view.rounds[k]
    part = "test" if mine.test and all(arm.test for arm in arms.values()) else "valid"
    columns = ("against", "what is added", "sequences", "metric", "control's", f"round {k}", "difference",
               "95 % interval", "relative")  # fmt: skip
    rows = tuple(
        (
            name,
            MEANINGS.get(name, name),
            count(arm.record["admitted"]),
            *_cells(view, name, arm, mine, part, metric),
        )
        for name, arm in arms.items()
        for metric in (view.ndcg, view.recall)
    )
    text = (
        f"Each control starts as round {k} does and makes as many updates; it is given as many sequences of "
        f"another making, weighted alike. Figures on {PARTS[part]}; a gain counts that beats them all. The "
        "intervals resample users of this one seed and are not corrected for their number: see "
        "rsir compare --within."
    )
    return Section("Controls", (Table(columns, rows, wide=frozenset({0, 1, 3})), Text(text, quiet=True)))


def _cells(view: View, name: str, arm: Arm, mine: Arm, part: str, metric: str) -> tuple[str, ...]:
    """One metric of the round against one control."""
    contrast = Contrast(arm.folder.frame(part), mine.folder.frame(part), name, "round", part, True)
    c = compare(contrast, metric, view.config.seed)
    interval = f"{signed(c['low'])} to {signed(c['high'])}"
    means = figure(c["mean_a"]), figure(c["mean_b"])
    return label(metric), *means, signed(c["difference"]), interval, gain(c["relative"])
