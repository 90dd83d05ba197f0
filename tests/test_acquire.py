import pytest
import torch

from rsir.acquire import AcquisitionConfig, Admission, CapPerSource, RetainAll, acquisition_rule, identities
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import OBSERVED, Sequences
from rsir.errors import ConfigError
from rsir.ragged import Ragged
from rsir.rng import hash_scalar

DATA = Sequences.observed(
    Ragged.from_lists([[0, 1, 2], [3, 4, 5, 6], [0, 1, 2]]), 8, torch.tensor([10, 11, 12])
)


def rollouts(rows: list[list[int]], source: list[int], data: Sequences = DATA) -> Rollouts:
    events, at = Ragged.from_lists(rows), torch.tensor(source)
    number = torch.tensor([source[:i].count(one) for i, one in enumerate(source)])
    flat = torch.zeros_like(events.values)
    return Rollouts(
        events=events,
        num_items=data.num_items,
        source=at,
        rollout=number,
        user=data.user[at],
        stop_reason=torch.zeros(len(rows), dtype=torch.uint8),
        rank=flat,
        own=flat.bool(),
        min_length=3,
        checks=(),
        distinct_prefixes=0,
        seconds=0.0,
    )


def admit(rule: RetainAll | CapPerSource, made: Rollouts, seed: int = 0) -> Admission:
    return rule.admit(made, DATA, seed=seed, round_index=1)


MADE = rollouts(
    [[0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3], [3, 4, 5], [0, 1, 3], [3, 4, 5, 6]],
    [0, 0, 0, 0, 1, 2, 2],
)


def test_retain_all_drops_the_short_the_known_and_the_repeated() -> None:
    admission = admit(RetainAll(), MADE)
    assert admission.rows.tolist() == [2, 4, 5, 6]
    assert admission.counts == {"admitted": 4, "too_short": 1, "known": 1, "duplicate": 1}


def test_globally_one_sequence_is_kept_whoever_it_is_of() -> None:
    admission = admit(RetainAll(scope="global"), MADE)
    assert admission.rows.tolist() == [2, 4]
    assert admission.counts == {"admitted": 2, "too_short": 1, "known": 2, "duplicate": 2}


def test_min_length() -> None:
    assert admit(RetainAll(min_length=2), MADE).rows.tolist() == [0, 2, 4, 5, 6]
    assert admit(RetainAll(min_length=9), MADE).rows.tolist() == []


def test_admitted_sequences_carry_their_origin() -> None:
    made = admit(RetainAll(), MADE).sequences(MADE, 3)
    assert made.events.tolists() == [[0, 1, 3], [3, 4, 5], [0, 1, 3], [3, 4, 5, 6]]
    assert made.user.tolist() == [10, 11, 12, 12]
    assert made.source.tolist() == [0, 1, 2, 2]
    assert made.round_index.tolist() == [3] * 4
    union = Sequences.concat([DATA, made])
    assert union.select((union.round_index == OBSERVED).nonzero().squeeze(1)).events.tolists() == (
        DATA.events.tolists()
    )


def test_what_an_earlier_round_admitted_is_known() -> None:
    made = admit(RetainAll(), MADE)
    union = Sequences.concat([DATA, made.sequences(MADE, 1)])
    again = RetainAll().admit(MADE, union, seed=0, round_index=2)
    assert again.rows.tolist() == []
    assert again.counts["known"] == 6


def test_the_cap_holds_for_each_source_and_draws_among_all() -> None:
    made = rollouts([[0, 1, 3 + i % 5, i % 3] for i in range(15)], [0] * 15)
    picks = [admit(CapPerSource(cap=2), made, seed=seed) for seed in range(40)]
    retained = set(admit(RetainAll(), made).rows.tolist())
    assert all(len(pick.rows) == 2 and pick.counts["over_cap"] == len(retained) - 2 for pick in picks)
    assert {row for pick in picks for row in pick.rows.tolist()} == retained
    assert all(sum(pick.counts.values()) == 15 for pick in picks)


def test_the_cap_takes_what_there_is() -> None:
    assert admit(CapPerSource(cap=9), MADE).rows.tolist() == [2, 4, 5, 6]
    assert admit(CapPerSource(cap=1), MADE).rows.numel() == 3


def test_the_draw_of_a_source_does_not_depend_on_the_others() -> None:
    made = rollouts([[3, 4, i] for i in range(8)] + [[0, 1, 4 + i] for i in range(4)], [1] * 8 + [0] * 4)
    alone = rollouts([[3, 4, i] for i in range(8)], [1] * 8)
    both = [row for row in admit(CapPerSource(cap=2), made).rows.tolist() if row < 8]
    assert both == admit(CapPerSource(cap=2), alone).rows.tolist()


def test_identities_equal_python_equality() -> None:
    rows = [[hash_scalar(i, j) % 2 for j in range(hash_scalar(i) % 5)] for i in range(60)]
    label = [hash_scalar("label", i) % 3 for i in range(60)]
    group = identities(Ragged.from_lists(rows), torch.tensor(label), 2).tolist()
    keys = [(a, *b) for a, b in zip(label, rows, strict=True)]
    assert all((group[i] == group[j]) == (keys[i] == keys[j]) for i in range(60) for j in range(60))
    assert set(group) <= set(range(60))


def test_rules_by_name() -> None:
    assert acquisition_rule(AcquisitionConfig()) == RetainAll()
    capped = AcquisitionConfig(rule="cap_per_source", cap=2, scope="global")
    assert acquisition_rule(capped, min_length=4) == CapPerSource(2, 4, "global")
    with pytest.raises(ConfigError, match="needs a cap"):
        acquisition_rule(AcquisitionConfig(rule="cap_per_source"))
    with pytest.raises(ConfigError, match="means nothing"):
        acquisition_rule(AcquisitionConfig(cap=2))
