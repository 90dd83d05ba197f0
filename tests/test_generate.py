import math
import sys
from dataclasses import replace

import pytest
import torch
from oracles import generation as oracle
from oracles.models import DecayedMean, MarkovTable

from rsir.data.sequences import Sequences
from rsir.errors import DataError, ModelError
from rsir.generate import GenerationConfig, Rollouts, StopReason, generate
from rsir.models.base import Recommender, SequenceModel
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.models.scorers import TiledScorer
from rsir.ragged import Ragged
from rsir.rng import hash_scalar

NUM_ITEMS = 40


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def sources(num_rows: int = 25, num_items: int = NUM_ITEMS, seed: int = 0) -> Sequences:
    rows = [
        [hash_scalar(seed, row, place) % num_items for place in range(1 + hash_scalar(seed, row) % 12)]
        for row in range(num_rows)
    ]
    return Sequences.observed(Ragged.from_lists(rows), num_items, user=torch.arange(num_rows) + 100)


def assert_equal_to_oracle(rollouts: Rollouts, expected: list[oracle.OracleRollout]) -> None:
    assert rollouts.events.tolists() == [one.items for one in expected]
    offsets = rollouts.events.offsets
    assert Ragged(rollouts.rank, offsets).tolists() == [one.rank for one in expected]
    assert Ragged(rollouts.own, offsets).tolists() == [one.own for one in expected]
    assert rollouts.stop_reason.tolist() == [one.stop for one in expected]


def same(left: Rollouts, right: Rollouts) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in [
            (left.events.values, right.events.values),
            (left.events.offsets, right.events.offsets),
            (left.rank, right.rank),
            (left.own, right.own),
            (left.stop_reason, right.stop_reason),
        ]
    )


CONFIGS = [
    {},
    {"max_rank": 3},
    {"max_rank": 3, "rank_among": "all"},
    {"max_rank": 3, "failing_step": "keep"},
    {"max_rank": None, "max_length": 6},
    {"max_rank": 100, "own_pool_probability": 0.0},
    {"own_pool_probability": 1.0, "max_length": 4},
    {"top_k": 4},
    {"top_k": 4, "temperature": 0.7, "rank_among": "all"},
    {"top_k": 1000, "temperature": 2.0, "max_rank": None},
    {"num_rollouts": 1, "max_length": 2},
    {"starts": "random", "top_k": 3},
]


@pytest.mark.parametrize("settings", CONFIGS, ids=str)
def test_equal_to_the_oracle_on_an_inner_product_model(settings: dict[str, object]) -> None:
    model, data, config = DecayedMean(NUM_ITEMS), sources(), GenerationConfig(**settings)
    rollouts = generate(model, data, config, seed=3, round_index=2)
    assert_equal_to_oracle(rollouts, oracle.generate(model, data, config, seed=3, round_index=2))


@pytest.mark.parametrize("settings", CONFIGS, ids=str)
def test_equal_to_the_oracle_on_a_markov_table_full_of_ties(settings: dict[str, object]) -> None:
    table = torch.randint(0, 4, (NUM_ITEMS, NUM_ITEMS), generator=torch.Generator().manual_seed(1))
    model, data, config = MarkovTable(table), sources(), GenerationConfig(**settings)
    rollouts = generate(model, data, config, seed=3, round_index=1)
    assert_equal_to_oracle(rollouts, oracle.generate(model, data, config, seed=3, round_index=1))


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("tile_size", [3, 64, 300])
def test_batches_and_tiles_change_nothing(batch_size: int, tile_size: int) -> None:
    model, data = DecayedMean(300, dim=5), sources(30, 300)
    config = GenerationConfig(max_rank=20, top_k=3)
    whole = generate(model, data, config, seed=1, round_index=1)
    cut = generate(model, data, config, seed=1, round_index=1, batch_size=batch_size, tile_size=tile_size)
    assert same(whole, cut)
    assert whole.events.max_length > 3


def test_a_network_equals_the_oracle_for_any_batch_size() -> None:
    torch.manual_seed(0)
    model = SASRec(NUM_ITEMS, SASRecConfig(dim=12, init_std=0.3, max_length=4))
    config = GenerationConfig(max_rank=20, top_k=2, temperature=1.0, num_rollouts=2)
    expected = oracle.generate(model, sources(), config, seed=2, round_index=1)
    for batch_size in (1, 7, 500):
        rollouts = generate(model, sources(), config, seed=2, round_index=1, batch_size=batch_size)
        assert_equal_to_oracle(rollouts, expected)


def test_threads_change_nothing() -> None:
    model, data, config = (
        DecayedMean(3000, dim=64),
        sources(200, 3000),
        GenerationConfig(max_length=4, max_rank=300),
    )
    torch.set_num_threads(1)
    one = generate(model, data, config, seed=1, round_index=1)
    torch.set_num_threads(2)
    assert same(one, generate(model, data, config, seed=1, round_index=1))


def test_threads_change_nothing_for_a_network() -> None:
    torch.manual_seed(0)
    model = SASRec(NUM_ITEMS, SASRecConfig(dim=16, init_std=0.3)).eval()
    config = GenerationConfig(max_rank=20, max_length=8)
    one = generate(model, sources(), config, seed=1, round_index=1)
    torch.set_num_threads(3)
    three = generate(model, sources(), config, seed=1, round_index=1)
    assert same(one, three)
    assert (one.checks, one.distinct_prefixes) == (three.checks, three.distinct_prefixes)


def test_an_interrupt_ends_all_threads() -> None:
    def interrupt(step: int, active: int) -> None:
        raise KeyboardInterrupt

    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        generate(
            DecayedMean(NUM_ITEMS),
            sources(),
            GenerationConfig(),
            seed=0,
            round_index=1,
            progress=interrupt,
        )
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("settings", [{}, {"max_rank": 3, "rank_among": "all"}, {"top_k": 4}], ids=str)
def test_without_compiled_loops_rollouts_are_the_same(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = SASRec(NUM_ITEMS, SASRecConfig(dim=16, init_std=0.3)).eval()
    config = GenerationConfig(**settings)
    compiled = generate(model, sources(), config, seed=4, round_index=1)
    for module in ("rsir.generate", "rsir.data.fronts", "rsir.models.growing", "rsir.models.kernels"):
        monkeypatch.setattr(sys.modules[module], "loops", lambda name: None)
    assert same(compiled, generate(model, sources(), config, seed=4, round_index=1))
    assert compiled.events.max_length >= 3


@pytest.mark.parametrize("settings", [{}, {"max_rank": None}, {"top_k": 4, "max_rank": None}], ids=str)
def test_fronts_too_crowded_to_remember_fall_in_parts(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SASRec(NUM_ITEMS, SASRecConfig(dim=8, max_length=10)).eval()
    config, data = GenerationConfig(**settings), sources()
    whole = generate(model, data, config, seed=5, round_index=1)
    fronts: list[int] = []
    monkeypatch.setattr(sys.modules["rsir.generate"], "_FEWEST", 1)
    monkeypatch.setitem(TiledScorer.__init__.__kwdefaults__, "memory_bytes", 4096)
    keys = {"seed": 5, "round_index": 1}
    parts = generate(model, data, config, **keys, progress=lambda step, active: fronts.append(step))
    assert same(whole, parts)
    assert fronts != sorted(fronts)  # some wait until others have come to their end
    assert (parts.checks, parts.distinct_prefixes) == (whole.checks, whole.distinct_prefixes)


def test_items_with_equal_vectors_are_taken_in_order_of_index() -> None:
    model = DecayedMean(NUM_ITEMS, dim=7)
    with torch.no_grad():
        model.outputs[::2] = model.outputs[0]
    config = GenerationConfig(max_rank=4, top_k=2)
    rollouts = generate(model, sources(), config, seed=0, round_index=1, tile_size=8)
    assert_equal_to_oracle(rollouts, oracle.generate(model, sources(), config, seed=0, round_index=1))


def test_a_source_keeps_its_rollouts_when_other_sources_change() -> None:
    model, data, config = DecayedMean(NUM_ITEMS), sources(), GenerationConfig(max_rank=5)
    whole = generate(model, data, config, seed=3, round_index=1)
    first = generate(model, data.select(torch.arange(4)), config, seed=3, round_index=1)
    assert first.events.tolists() == whole.events.tolists()[: 4 * config.num_rollouts]


def test_keys_matter() -> None:
    model, data, config = DecayedMean(NUM_ITEMS), sources(), GenerationConfig(max_rank=20, top_k=3)
    base = generate(model, data, config, seed=3, round_index=1)
    assert not same(base, generate(model, data, config, seed=4, round_index=1))
    assert not same(base, generate(model, data, config, seed=3, round_index=2))


def chain(num_items: int) -> MarkovTable:
    """After item i the scores fall with the way around the circle: i + 1 is best."""
    ahead = (torch.arange(num_items)[None, :] - torch.arange(num_items)[:, None] - 1) % num_items
    return MarkovTable(-ahead)


def only(rows: list[list[int]], model: Recommender, **settings: object) -> Rollouts:
    data = Sequences.observed(Ragged.from_lists(rows), model.num_items)
    return generate(model, data, GenerationConfig(num_rollouts=1, **settings), seed=0, round_index=1)


def test_a_chain_is_followed_until_the_own_items_are_used_up() -> None:
    rollouts = only([[2, 5, 4]], chain(8), own_pool_probability=0.0, max_rank=10)
    assert rollouts.events.tolists() == [[2, 3, 4, 5]]
    assert rollouts.rank.tolist() == [0, 2, 1, 1]
    assert rollouts.stop_reason.tolist() == [StopReason.EXHAUSTED]


def test_the_failing_step_is_dropped_by_the_paper_and_kept_by_the_release() -> None:
    settings = {"own_pool_probability": 1.0, "max_rank": 2}
    dropped = only([[0, 2, 6]], chain(10), **settings)
    kept = only([[0, 2, 6]], chain(10), failing_step="keep", **settings)
    assert dropped.events.tolists() == [[0]]
    assert kept.events.tolists() == [[0, 2]]
    assert set(dropped.stop_reason.tolist() + kept.stop_reason.tolist()) == {StopReason.LOW_FIDELITY}


def test_a_start_item_is_never_dropped() -> None:
    assert only([[0, 6]], chain(10), max_rank=2).events.tolists() == [[0]]


def test_prefix_items_count_for_a_rank_among_all() -> None:
    # After 1 the best is 0, which stands in the prefix; then 2.
    table = torch.tensor([[0, 9, 5], [9, 0, 5], [0, 0, 0]])
    unseen = only([[0, 1, 2]], MarkovTable(table), max_rank=1, own_pool_probability=1.0)
    among_all = only([[0, 1, 2]], MarkovTable(table), max_rank=1, rank_among="all", own_pool_probability=1.0)
    assert unseen.events.tolists() == [[0, 1, 2]]
    assert among_all.events.tolists() == [[0]]


def test_the_maximal_length_ends_a_rollout_after_its_check() -> None:
    rollouts = only([[0, 1, 2, 3, 4]], chain(10), max_length=3)
    assert rollouts.events.tolists() == [[0, 1, 2]]
    assert rollouts.stop_reason.tolist() == [StopReason.MAX_LENGTH]


def test_a_source_of_one_item_is_exhausted_at_once() -> None:
    rollouts = only([[4], [4, 4]], chain(8))
    assert rollouts.events.tolists() == [[4], [4]]
    assert rollouts.distinct_prefixes == 0


def test_a_prefix_is_scored_once_for_all_rollouts_on_it() -> None:
    data = Sequences.observed(Ragged.from_lists([[0, 3]] * 10), 8)
    rollouts = generate(chain(8), data, GenerationConfig(own_pool_probability=0.0), seed=0, round_index=1)
    assert rollouts.events.tolists() == [[0, 1, 2, 3]] * 50
    assert (rollouts.distinct_prefixes, rollouts.steps) == (3, 150)


def test_sources_are_observed_only_unless_asked() -> None:
    data = sources(6)
    data = replace(data, round_index=torch.tensor([0, 0, 0, 0, 1, 1]))
    model = DecayedMean(NUM_ITEMS)
    observed = generate(model, data, GenerationConfig(), seed=0, round_index=2)
    every = generate(model, data, GenerationConfig(sources="all"), seed=0, round_index=2)
    assert observed.source.unique().tolist() == [0, 1, 2, 3]
    assert every.source.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(every.user, every.source + 100)


def test_facts_add_up() -> None:
    rollouts = generate(DecayedMean(NUM_ITEMS), sources(), GenerationConfig(), seed=0, round_index=1)
    facts = rollouts.facts()
    assert sum(facts["stop_reasons"].values()) == facts["rollouts"] == 125
    assert facts["accepted"] == sum(len(row) >= 3 for row in rollouts.events.tolists())
    assert facts["steps"] >= facts["distinct_prefixes"] > 0
    assert all(0 <= rate <= 1 for rate in facts["pass_rate_by_step"])


def test_a_catalogue_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="40 items but the sources have 41"):
        generate(DecayedMean(40), sources(num_items=41), GenerationConfig(), seed=0, round_index=1)


def test_no_source_is_refused() -> None:
    data = sources(3)
    data = replace(data, round_index=torch.ones(3, dtype=torch.int64))
    with pytest.raises(DataError, match="none of 3 sequences"):
        generate(DecayedMean(NUM_ITEMS), data, GenerationConfig(), seed=0, round_index=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_an_error(bad: float) -> None:
    model = DecayedMean(NUM_ITEMS)
    with torch.no_grad():
        model.outputs[3, 0] = bad
    for broken in (model, MarkovTable(torch.full((NUM_ITEMS, NUM_ITEMS), bad))):
        with pytest.raises(ModelError, match="not finite"):
            generate(broken, sources(), GenerationConfig(), seed=0, round_index=1)


def test_the_model_is_left_as_it_was() -> None:
    model: SequenceModel = DecayedMean(NUM_ITEMS).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generate(model, sources(), GenerationConfig(), seed=0, round_index=1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.outputs.dtype == torch.float32
