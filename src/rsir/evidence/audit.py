"""The leak audit of a run: proof by construction, counts against chance, and the seal of the test split."""

from __future__ import annotations

from typing import Any

from rsir.data.sequences import Sequences
from rsir.data.splits import Cases, Split
from rsir.evidence.held_out import (
    against_chance,
    against_neighbours,
    held_items,
    held_transitions,
    neighbours,
    novel,
)
from rsir.evidence.provenance import prove
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
    cut, synthetic = run.split(), proved.synthetic
    held = {}
    if len(synthetic):
        model = run.model(0)
        for name, cases in (("valid", cut.valid), ("test", cut.test)):
            held[name] = _counts(cut, synthetic, cases, model, permutations, seed)
    return {
        "run": str(run.folder),
        "leak": False,
        "checks": proved.checks,
        "held_out": held,
        "test": sealed,
    }


def _counts(
    cut: Split, synthetic: Sequences, cases: Cases, model: SequenceModel, permutations: int, seed: int
) -> dict[str, Any]:
    """Both statistics of one split, each against both references."""
    lookups = {
        "transitions": held_transitions(synthetic, cases, cut.train),
        "items": held_items(synthetic, cut.train),
    }
    options = {"permutations": permutations, "seed": seed}
    near = neighbours(model, cases)
    references = {
        "chance": against_chance(lookups, cases, cut.train.item_counts(), **options),
        "neighbours": against_neighbours(lookups, cases, near, **options),
    }
    return {
        "cases": len(cases),
        "novel_events": int(novel(synthetic, cut.train).sum()),
        **{name: {of: found[name] for of, found in references.items()} for name in lookups},
    }
