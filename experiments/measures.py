"""What the data of a plan of peers.py is made of, and how sharp its models are (claims e and f).

    python experiments/measures.py LOG --plan weak-all --against weak-observed --rounds 3 --alone \\
        --trained runs/weak --peers sasrec.0 sasrec.1 sasrec.2

Plan and peers are those that made it; synthetic data and weights must be there. For each peer and
round: density, approximate entropy of D_k beside as many augmented observed sequences, and the largest
eigenvalue of the Hessian on observed sequences of the successor and of its control. Resumable.
"""

from __future__ import annotations

import argparse
from typing import Any

from peers import Peers, append, arguments, there

from rsir.bench.clock import commit
from rsir.data.sequences import Sequences
from rsir.evidence import diagnostics
from rsir.evidence.controls import augmented
from rsir.evidence.sharpness import largest_eigenvalue

ROWS, STEPS = 96, 12


def about(data: Sequences, train: Sequences) -> dict[str, float]:
    """Size, density and information of a union; beside it as many augmented observed sequences."""
    record = {
        "sequences": len(data),
        "events": data.num_events,
        "density": diagnostics.density(data),
        "distinct_density": diagnostics.distinct_density(data),
        "entropy": diagnostics.corpus_entropy(data.events),
    }
    if len(data) > len(train):
        twin = augmented(train, len(data) - len(train), seed=0, round_index=1)
        record["entropy_augmented"] = diagnostics.corpus_entropy(Sequences.concat([train, twin]).events)
    return record


def measured(plan: Peers, control: Peers, k: int, peer: str) -> dict[str, Any]:
    """One round of one peer; its base for 0."""
    train = plan.split.train
    found: dict[str, Any] = {"data": about(plan.data(k, peer) if k else train, train)}
    for name, models in (("model", plan), ("control", control)):
        if k or name == "model":
            found[name] = largest_eigenvalue(models.model(peer, k), train, rows=ROWS, steps=STEPS)
    return found


def main() -> None:
    parser = arguments(__doc__)
    given = parser.parse_args()
    if given.plan.startswith("way: "):
        parser.error("plans of ways.py make data of their own: measure those of peers.py")
    plan = Peers(given)
    control = Peers(argparse.Namespace(**{**vars(given), "plan": given.against, "observed": True}))
    for k in range(given.rounds + 1):
        for peer in given.successors or given.peers:
            key = {"log": given.log.stem, "plan": given.plan, "round": k, "peer": peer}
            if there("measures.jsonl", key):
                continue
            row = {**key, "against": given.against, **measured(plan, control, k, peer)}
            append("measures.jsonl", {**row, "commit": commit() or ""})
            print(given.log.stem, given.plan, k, peer, row.get("model"), row.get("control"), flush=True)


if __name__ == "__main__":
    main()
