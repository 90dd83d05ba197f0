"""The leak audit of a run: proof by construction, counts against chance, and the seal of the test split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rsir.data.sequences import Sequences
from rsir.data.splits import Cases
from rsir.evidence.held_out import (
    Lookup,
    against_chance,
    against_neighbours,
    held_items,
    held_transitions,
    neighbours,
    novel,
)
from rsir.evidence.provenance import Provenance, prove
from rsir.evidence.seal import check_seal
from rsir.models.base import SequenceModel
from rsir.run import Run


def audit(run: Run, *, permutations: int = 999, seed: int = 0) -> dict[str, Any]:
    """Audit a run directory, finished or not; nothing in it is changed.

    Args:
        run: the run.
        permutations: draws of chance; p is never below 1 / (permutations + 1).
        seed: fixes them.

    Returns:
        `leak` (False: a failed check is an error), `checks`, `held_out` by split and statistic, `test`; see
        docs/formats.md.

    Raises:
        DataError: if a check fails; one line names it.
    """
    proved = prove(run)
    sealed = check_seal(run)
    cut, held = run.split(), dict[str, Any]()
    if len(proved.synthetic):
        writers = run.writer(0), run.backward_writer()
        for name, cases in (("valid", cut.valid), ("test", cut.test)):
            held[name] = _counts(proved, cut.train, cases, writers, permutations=permutations, seed=seed)
    return {
        "run": str(run.folder),
        "leak": False,
        "checks": proved.checks,
        "held_out": held,
        "test": sealed,
    }


def _counts(
    proved: Provenance,
    train: Sequences,
    cases: Cases,
    writers: tuple[SequenceModel, SequenceModel | None],
    **draws: int,
) -> dict[str, Any]:
    """The statistics of one split, each against chance and against the neighbours of who wrote.

    These are the bases as one, and the model of reversed sequences.
    """
    forward, backward = writers
    rollouts, extended = (
        proved.synthetic.select(rows.nonzero().squeeze(1)) for rows in (proved.ahead == 0, proved.ahead > 0)
    )
    found: dict[str, Any] = {"cases": len(cases), "novel_events": int(novel(proved.synthetic, train).sum())}
    after = {"transitions": held_transitions(rollouts, cases, train)}
    found |= _against(after, cases, train, neighbours(forward, cases), **draws)
    among = {"items": held_items(rollouts, train)}
    found |= _against(among, cases, train, _near(forward, cases, train), **draws)
    if backward is not None and len(extended):
        before = {"earlier_items": held_items(extended, train)}
        found |= _against(before, cases, train, _near(backward, cases, train, backwards=True), **draws)
    return found


def _near(model: SequenceModel, cases: Cases, train: Sequences, backwards: bool = False) -> Tensor:
    """The neighbours of held-out items by what generation knew, the user's training sequence; int64 (N, 2).

    A test case's history also holds what was held out for validation: who reads it ranks otherwise.
    """
    row = torch.full((int(max(train.user.max(), cases.user.max())) + 1,), -1)
    row[train.user] = torch.where(train.events.lengths > 0, torch.arange(len(train)), -1)
    known = (row[cases.user] >= 0).nonzero().squeeze(1)
    histories = train.events.select(row[cases.user[known]])
    asked = histories.reversed() if backwards else histories
    near = torch.full((len(cases), 2), -1)
    near[known] = neighbours(model, Cases(asked, cases.target[known], cases.user[known]))
    return near


def _against(
    lookups: dict[str, Lookup], cases: Cases, train: Sequences, near: Tensor, **draws: int
) -> dict[str, Any]:
    """Each statistic against both references."""
    references = {
        "chance": against_chance(lookups, cases, train.item_counts(), **draws),
        "neighbours": against_neighbours(lookups, cases, near, **draws),
    }
    return {name: {of: found[name] for of, found in references.items()} for name in lookups}
