"""Numbers are part of the interface: these must stay as they are, on every machine.

`python tests/test_golden.py` writes them anew; a change of the file is a *results change*
that the changelog has to name.
"""

import json
from pathlib import Path
from typing import Any

import torch
from oracles.models import MarkovTable

from rsir.acquire import RetainAll
from rsir.data.read import from_frame
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.generate import GenerationConfig, generate
from rsir.ragged import Ragged
from rsir.rng import hash_scalar, permutation, uniform_scalar

GOLDEN = Path(__file__).parent / "golden" / "numbers.json"
V = 20


def recursion() -> list[list[list[int]]]:
    """Two rounds of generation and acquisition by a Markov table of whole numbers."""
    table = torch.tensor([[hash_scalar("table", i, j) % 1000 for j in range(V)] for i in range(V)])
    rows = [[hash_scalar("row", r, t) % V for t in range(2 + r % 6)] for r in range(8)]
    data, made = Sequences.observed(Ragged.from_lists(rows), V), []
    config = GenerationConfig(num_rollouts=3, max_rank=8, top_k=2, sources="all")
    for k in (1, 2):
        rollouts = generate(MarkovTable(table), data, config, seed=7, round_index=k)
        synthetic = RetainAll().admit(rollouts, data, seed=7, round_index=k).sequences(rollouts, k)
        made.append(synthetic.events.tolists())
        data = Sequences.concat([data, synthetic])
    return made


def numbers() -> dict[str, Any]:
    """What must not change."""
    world = simulate(SimulationConfig(num_users=50, num_items=100, num_topics=5, max_events=20), seed=3)
    return {
        "hash": [hash_scalar(1, "pool", 2**40), hash_scalar(0)],
        "uniform": uniform_scalar(7, "choice", 3),
        "permutation": permutation(8, 5, "epoch").tolist(),
        "recursion": recursion(),
        "simulated_fingerprint": from_frame(world.frame).fingerprint,
    }


def test_numbers_are_as_they_were() -> None:
    assert numbers() == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(numbers(), indent=1) + "\n")
