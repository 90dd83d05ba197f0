"""Acquisition by disagreement and by balance: known answers, invariants, refusals, and as typed."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_acquire import rollouts
from torch import Tensor, nn

from rsir.acquire import AcquisitionConfig, Balanced, Disagreement, RetainAll, acquisition_rule
from rsir.acquire.balanced import popularity_percentiles, strata
from rsir.acquire.disagreement import bins_by_rank
from rsir.acquire.uncertainty import disagreement, target_bald
from rsir.cli import main
from rsir.config import load_config
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.errors import ConfigError
from rsir.models import MODELS, SASRec, SASRecConfig, build_model
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import hash_scalar

V = 12


class Torn(SequenceModel):
    """Sure of item 0 after item 0; after item 1 each pass believes in item 2 or in item 3 alone."""

    num_items, max_length = 4, 10

    def __init__(self) -> None:
        super().__init__()
        self.coin = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor(50.0))

    def encode(self, histories: Ragged) -> Tensor:
        state = torch.zeros(len(histories.values), 4)
        side = (self.coin(torch.ones(len(histories.values))) > 0).long()
        state[histories.values == 0, 0] = 1.0
        torn = (histories.values == 1).nonzero().squeeze(1)
        state[torn, 2 + side[torn]] = 1.0
        return state * self.scale

    def item_vectors(self) -> Tensor:
        return torch.eye(4)


def test_bald_of_the_target_is_what_the_equation_says() -> None:
    p = torch.tensor([[0.2, 0.9], [0.4, 0.9]], dtype=torch.float64)
    mean = 0.3
    expected = -mean * math.log(mean) + (0.2 * math.log(0.2) + 0.4 * math.log(0.4)) / 2
    assert target_bald(p).tolist() == pytest.approx([expected, 0.0], abs=1e-12)
    draws = torch.tensor([[hash_scalar(t, n) % 1000 / 1000 for n in range(50)] for t in range(7)]).double()
    assert bool((target_bald(draws) >= 0).all())


def test_a_model_disagrees_where_its_passes_do() -> None:
    rows = Ragged.from_lists([[0, 0, 0], [1, 2, 0], [1, 2], [0, 0]])
    score = disagreement(Torn(), rows, passes=200, seed=0)
    assert score[[0, 3]].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert float(score[2]) == pytest.approx(0.5 * math.log(2), abs=0.01)  # p is 1 in half of the passes
    # after item 2 the state is zero: p = 1/4 in each pass, no disagreement; so the mean is a half
    assert float(score[1]) == pytest.approx(float(score[2]) / 2, abs=0.02)


def test_the_same_seed_the_same_scores_whatever_ran_before() -> None:
    model = SASRec(V, SASRecConfig(dim=8, num_blocks=1, dropout=0.3))
    rows = Ragged.from_lists([[hash_scalar(r, t) % V for t in range(2 + r % 5)] for r in range(600)])
    state = torch.random.get_rng_state()
    one = disagreement(model, rows, passes=4, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    torch.rand(7)
    assert torch.equal(one, disagreement(model, rows, passes=4, seed=3))
    assert not torch.equal(one, disagreement(model, rows, passes=4, seed=4))
    assert bool((one > 0).all())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_backbone_can_disagree(name: str) -> None:
    """Its dropout is seen on a network without storage too, as at the door of a run."""
    config = load_config(overrides=[f"model.name={name}", "model.dim=8"]).model
    with torch.device("meta"):
        rule = acquisition_rule(AcquisitionConfig(rule="disagreement"), model=build_model(config, V))
    assert isinstance(rule, Disagreement)
    rows = Ragged.from_lists([[hash_scalar(r, t) % V for t in range(2 + r % 5)] for r in range(40)])
    assert bool((disagreement(build_model(config, V), rows, passes=4, seed=3) > 0).all())


def test_long_sequences_count_by_what_the_model_can_read() -> None:
    rows = Ragged.from_lists([[1, 2] + [0] * 11])  # the torn position is out of reach
    assert float(disagreement(Torn(), rows, passes=20, seed=0)) == pytest.approx(0, abs=1e-9)


def many() -> Rollouts:
    """Two sources with many rollouts, one with two, one with one."""
    source = [0] * 9 + [1] * 7 + [2] * 2 + [1]
    rows = [[hash_scalar(n, t) % 8 for t in range(3 + n % 3)] for n in range(len(source))]
    return rollouts(rows, source)


@pytest.fixture(scope="module")
def model() -> SASRec:
    torch.manual_seed(0)
    return SASRec(8, SASRecConfig(dim=8, num_blocks=1, dropout=0.4))


def test_one_of_each_bin_of_a_source(model: SASRec) -> None:
    made = many()
    rule = Disagreement(model)
    admission = rule.admit(made, sources(), seed=5, round_index=1)
    retained = RetainAll().admit(made, sources(), seed=5, round_index=1).rows
    taken = Counter(made.source[admission.rows].tolist())
    held = Counter(made.source[retained].tolist())
    assert taken == {s: min(3, n) for s, n in held.items()}
    assert sum(admission.counts.values()) == len(made)
    one = Disagreement(model, bins=1).admit(made, sources(), seed=5, round_index=1)
    assert set(Counter(made.source[one.rows].tolist()).values()) == {1}


def sources() -> Sequences:
    return Sequences.observed(
        Ragged.from_lists([[0, 1, 2], [3, 4], [5, 6, 7]]), 8, torch.tensor([10, 11, 12])
    )


def test_lowest_and_highest_keep_the_ends(model: SASRec) -> None:
    made = many()
    ends = {}
    for keep in ("lowest", "highest", "each"):
        rows = Disagreement(model, keep=keep).admit(made, sources(), seed=5, round_index=1).rows
        ends[keep] = set(rows.tolist())
    assert ends["lowest"] | ends["highest"] < ends["each"]
    assert not ends["lowest"] & ends["highest"]
    retained = RetainAll().admit(made, sources(), seed=5, round_index=1).rows
    from rsir.rng import generator_seed

    key = generator_seed(5, "disagreement", 1)
    score = dict(
        zip(
            retained.tolist(),
            disagreement(model, made.events.select(retained), passes=10, seed=key).tolist(),
            strict=True,
        )
    )
    for s in set(made.source[retained].tolist()):
        low, high = (
            [score[row] for row in ends[keep] if int(made.source[row]) == s] for keep in ("lowest", "highest")
        )
        assert max(low) < min(high)


def test_bins_are_as_even_as_can_be() -> None:
    for n in range(1, 12):
        bins = bins_by_rank(torch.zeros(n, dtype=torch.int64), torch.arange(n).flip(0).double(), 3)
        sizes = sorted(Counter(bins.tolist()).values())
        assert sizes[-1] - sizes[0] <= 1
        assert len(sizes) == min(3, n)
        assert bins.tolist() == sorted(bins.tolist(), reverse=True)


def test_strata_follow_source_length_and_popularity() -> None:
    rows = [[0]] * 6 + [[0, 1]] * 6 + [[0, 1, 2, 3, 4, 5]] * 6  # item 0 makes a third of the events
    data = Sequences.observed(Ragged.from_lists(rows), 8)
    made = Ragged.from_lists([[0, 5, 5], [0, 0, 0], [0, 5, 5], [0, 0, 0]])
    found = strata(made, torch.tensor([0, 0, 17, 17]), data).tolist()
    assert [stratum // 3 for stratum in found] == [0, 0, 2, 2]
    assert found[0] % 3 < found[1] % 3
    assert popularity_percentiles(torch.tensor([3, 1, 0])).tolist() == [0.625, 0.125, 0.0]


def test_balance_thins_what_is_too_full_and_nothing_else() -> None:
    rows = [[0, 1, 2]] * 30 + [[0, 1, 2, 3, 4, 5, 6, 7]] * 30
    data = Sequences.observed(Ragged.from_lists(rows), 8, torch.arange(60))
    source = [0] * 20 + list(range(30, 60)) * 20
    made = rollouts([[0, 1, 3 + n % 5, n % 3, n // 5 % 7] for n in range(620)], source, data)
    retained = RetainAll().admit(made, data, seed=0, round_index=1).rows
    admission = Balanced().admit(made, data, seed=0, round_index=1)
    kept, before = (Counter((made.source[r] < 30).tolist()) for r in (admission.rows, retained))
    assert kept[True] == before[True], "the sparse stratum stays whole"
    assert kept[False] < 0.8 * before[False]
    assert sum(admission.counts.values()) == 620
    capped = Balanced(cap=1).admit(made, data, seed=0, round_index=1)
    assert max(Counter(made.source[capped.rows].tolist()).values()) == 1


def test_nothing_to_admit_is_no_error(model: SASRec) -> None:
    made = rollouts([[0, 1], [3, 4]], [0, 1])
    for rule in (Balanced(), Balanced(cap=1), Disagreement(model)):
        admission = rule.admit(made, sources(), seed=0, round_index=1)
        assert (admission.rows.tolist(), admission.counts["too_short"]) == ([], 2)


def test_rules_by_name_and_what_they_need(model: SASRec) -> None:
    config = AcquisitionConfig(rule="disagreement", bins=2, passes=4, keep="highest")
    assert acquisition_rule(config, 4, model) == Disagreement(model, 4, 2, "highest", 4)
    assert acquisition_rule(AcquisitionConfig(rule="balanced", cap=2)) == Balanced(2)
    still = SASRec(8, SASRecConfig(dim=8, dropout=0.0, attention_dropout=0.0))
    with pytest.raises(ConfigError, match=r"set model\.dropout above 0"):
        acquisition_rule(config, model=still)
    with pytest.raises(ConfigError, match="means nothing to rule='disagreement'"):
        acquisition_rule(AcquisitionConfig(rule="disagreement", cap=2), model=model)
    with pytest.raises(ConfigError, match="hand it in"):
        acquisition_rule(config).admit(many(), sources(), seed=0, round_index=1)
    with pytest.raises(ConfigError, match="is none"):
        acquisition_rule(config, model=object())  # type: ignore[arg-type]


TINY = ["model.dim=8", "model.num_blocks=1", "training.max_periods=1", "training.min_period=1"]
WORLD = [
    "simulation.num_users=60",
    "simulation.num_items=60",
    "simulation.num_topics=3",
    "simulation.max_events=20",
]


@pytest.mark.parametrize("rule", ["disagreement", "balanced"])
def test_a_run_as_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str) -> None:
    settings = [*TINY, *WORLD, f"acquisition.rule={rule}"]
    words = ["run", "--rounds", "1", "--out", str(tmp_path / "run"), "--json", "--quiet"]
    assert main([*words, *(word for setting in settings for word in ("--set", setting))]) == 0
    summary = json.loads(capsys.readouterr().out)
    facts = json.loads((tmp_path / "run/rounds/1/generation.json").read_text())
    assert summary["rounds"][1]["admitted"] == facts["admission"]["admitted"] > 0
    assert facts["admission"].keys() - {"admitted", "too_short", "known", "duplicate"} == {
        "over_cap" if rule == "disagreement" else "over_balance"
    }
    assert main(["generate", str(tmp_path / "run"), "--out", str(tmp_path / "more.csv"), "--quiet"]) == 0


def test_a_run_without_dropout_is_refused_at_the_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        *TINY,
        *WORLD,
        "acquisition.rule=disagreement",
        "model.dropout=0",
        "model.attention_dropout=0",
    ]
    words = ["run", "--out", str(tmp_path / "run"), *(word for s in settings for word in ("--set", s))]
    assert main(words) == 2
    assert "needs dropout" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
