"""The rivals make the rollouts they claim to make."""

import torch
from oracles.generation import generate as slow_generate
from oracles.models import DecayedMean

from rsir.bench.rollouts import Task, dense, exact_scores, plain_scores, row_loop
from rsir.data.sequences import Sequences
from rsir.generate import GenerationConfig
from rsir.ragged import Ragged

SOURCES = [[0, 3, 5, 9], [2, 2, 7], [4], [3, 1, 8, 6, 0, 10, 11], [9, 5, 3, 0]]
KEYS = (5, 2)


def sources() -> Sequences:
    return Sequences.observed(Ragged.from_lists(SOURCES), 12)


def test_all_make_the_rollouts_of_the_oracle() -> None:
    model = DecayedMean(12)
    for rank, longest in ((1, 50), (4, 50), (9, 50), (None, 5), (12, 3)):
        config = GenerationConfig(num_rollouts=4, max_rank=rank, max_length=longest)
        slow = slow_generate(model, sources(), config, seed=KEYS[0], round_index=KEYS[1])
        truth = [rollout.items for rollout in slow]
        task = Task.evenly(sources(), 5, config, KEYS, chunk=3)
        assert row_loop(exact_scores(model), task).rollouts == truth
        assert row_loop(plain_scores(model), task).rollouts == truth
        assert dense(model, task).rollouts == truth


def test_steps_are_counted_alike() -> None:
    config = GenerationConfig(num_rollouts=3, max_rank=6)
    task = Task.evenly(sources(), 5, config, KEYS)
    assert row_loop(exact_scores(DecayedMean(12)), task).steps == dense(DecayedMean(12), task).steps > 0


def test_sources_are_taken_at_even_distances_and_keep_their_rows() -> None:
    task = Task.evenly(sources(), 3, GenerationConfig(), KEYS)
    assert task.rows == [0, 2, 4]
    assert task.sources == [SOURCES[row] for row in task.rows]
    assert Task.evenly(sources(), 99, GenerationConfig(), KEYS).rows == [0, 1, 2, 3, 4]


def test_exact_scores_tell_what_float32_cannot() -> None:
    model = DecayedMean(4, dim=3)
    with torch.no_grad():
        model.inputs.fill_(1.0)
        model.outputs.copy_(torch.tensor([[1e8, 1.0, -1e8], [1e8, 2.0, -1e8], [0.0, 0, 0], [0.0, 0, 0]]))
    scores = exact_scores(model)([[0]])[0]
    assert scores.tolist()[:2] == [1.0, 2.0]
