import importlib.util
from pathlib import Path

import pytest
import torch
from oracles.generation import score_function
from oracles.models import DecayedMean

from rsir.data.sequences import Sequences
from rsir.generate import GenerationConfig, generate
from rsir.ragged import Ragged
from rsir.rng import hash_scalar

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "minimal_rsir.py"
spec = importlib.util.spec_from_file_location("minimal_rsir", EXAMPLE)
assert spec is not None
assert spec.loader is not None
minimal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(minimal)


@pytest.mark.parametrize(("p", "tau", "max_length"), [(0.5, 10, 50), (0.0, 3, 50), (1.0, 20, 4), (0.3, 5, 6)])
def test_the_library_equals_the_page(p: float, tau: int, max_length: int) -> None:
    torch.set_num_threads(1)
    model = DecayedMean(60)
    rows = [[hash_scalar(row, place) % 60 for place in range(1 + row % 9)] for row in range(30)]
    config = GenerationConfig(num_rollouts=3, own_pool_probability=p, max_rank=tau, max_length=max_length)
    data = Sequences.observed(Ragged.from_lists(rows), 60)
    rollouts = generate(model, data, config, seed=5, round_index=2)
    score = score_function(model)
    expected = [
        minimal.generate_rollout(score, source, (5, 2, row, number), p, tau, max_length)
        for row, source in enumerate(rows)
        for number in range(3)
    ]
    assert rollouts.events.tolists() == expected


def test_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As `python examples/minimal_rsir.py` does, with fewer users."""
    monkeypatch.setattr(minimal, "NUM_USERS", 100)
    minimal.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["round 0", "round 1", "round 2"]
    sizes = [int(line.split()[2]) for line in lines[:3]]
    assert sizes[0] == 100 < sizes[1] <= sizes[2]
    assert float(lines[-1].split()[-1]) > 3 * 10 / minimal.NUM_ITEMS
