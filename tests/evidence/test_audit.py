"""The leak audit: nothing found where nothing leaks, every planted leak found and named."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

import rsir
from rsir.cli import main
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.data.splits import Cases
from rsir.errors import DataError
from rsir.evidence.audit import audit
from rsir.evidence.fingerprint import data_fingerprint
from rsir.evidence.held_out import (
    Lookup,
    against_chance,
    against_neighbours,
    held_items,
    held_transitions,
    neighbours,
)
from rsir.ragged import Ragged
from rsir.rng import hash_scalar
from rsir.run import Run

WORLD = SimulationConfig(num_users=120, num_items=60, num_topics=4, max_events=15)
SMALL = [
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=1",
    "training.min_period=1",
    "recursion.rounds=2",
    "recursion.collapse=none",
    "recursion.patience=none",
    "generation.max_rank=30",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "run"
    config = rsir.load_config(overrides=SMALL)
    rsir.run(simulate(WORLD, seed=1).frame, folder, config=config, device="cpu")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_an_honest_run_passes(made: Path) -> None:
    found = audit(Run.open(made), permutations=99)
    assert found["leak"] is False
    sizes = [len(pl.read_parquet(made / f"rounds/{k}/synthetic.parquet")) for k in (1, 2)]
    assert found["checks"]["sequences"] == sum(sizes)
    assert found["checks"]["training_data"] == 8, (
        "three bases, one more for round 2, two rounds, two controls"
    )
    assert found["test"]["ordered"] is True
    chosen = Run.open(made).chosen_round()
    assert set(found["test"]["read"]) == {
        "rounds/0",
        *((f"rounds/{chosen}", f"control/{chosen}") if chosen else ()),
    }
    for held in found["held_out"].values():
        for statistic in ("transitions", "items"):
            assert held[statistic]["neighbours"]["p"] > 0.01


def test_the_document_names_every_key(made: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    told = set(re.findall(r"`([^`\s]+)`", text.partition("## `rsir audit --json`")[2]))
    assert keys(audit(Run.open(made), permutations=9)) <= told


def keys(value: Any) -> set[str]:
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def test_the_command_line(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(made), "--permutations", "99", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {**audit(Run.open(made), permutations=99)}
    assert main(["audit", str(made), "--permutations", "9"]) == 0
    assert "no leak by construction" in capsys.readouterr().out


def test_a_run_without_rounds(tmp_path: Path) -> None:
    config = rsir.load_config(overrides=[*SMALL, "recursion.rounds=0"])
    rsir.run(simulate(WORLD, seed=1).frame, tmp_path / "run", config=config, device="cpu")
    found = audit(Run.open(tmp_path / "run"))
    assert (found["checks"]["sequences"], found["held_out"]) == (0, {})


Change = Callable[[pl.DataFrame], pl.DataFrame]


def first_changed(column: str, value: Callable[[dict[str, Any]], Any]) -> Change:
    """A table whose first row has another value."""

    def act(frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame.to_dicts()
        rows[0][column] = value(rows[0])
        return pl.DataFrame(rows, schema=frame.schema)

    return act


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (first_changed("round", lambda row: 2), "not of round 1"),
        (first_changed("source", lambda row: 10**6), "no row of the data"),
        (first_changed("user", lambda row: "u119"), "not its source's user"),
        (first_changed("items", lambda row: row["items"][::-1]), "its source's first item"),
        (first_changed("own", lambda row: [True] * len(row["own"])), "marked as the source's own"),
    ],
)
def test_a_sequence_that_does_not_lead_to_its_source(run: Path, change: Change, rule: str) -> None:
    path = run / "rounds/1/synthetic.parquet"
    frame = pl.read_parquet(path)
    foreign = frame.with_row_index().filter(~pl.col("own").list.slice(1).list.all())["index"][0]
    frame = pl.concat(
        [frame[foreign], frame[:foreign], frame[foreign + 1 :]]
    )  # its first row has a free item
    change(frame).write_parquet(path)
    with pytest.raises(DataError, match=rf"failed at rounds/1/synthetic.parquet, row 0: .*{rule}"):
        audit(Run.open(run))


def test_a_held_out_item_slipped_in_is_not_what_the_model_was_trained_on(run: Path) -> None:
    path = run / "rounds/1/synthetic.parquet"
    change = first_changed(
        "items", lambda row: [*row["items"][:-1], "i59" if row["items"][-1] != "i59" else "i58"]
    )
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(DataError, match=r"rounds/(1/round.json|1/synthetic.parquet)"):
        audit(Run.open(run))


def test_other_training_data_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "control/2/round.json"
    record = json.loads(path.read_text())
    record["data"]["events"] += 1
    path.write_text(json.dumps(record))
    assert main(["audit", str(run), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "control/2/round.json: trained on events" in err


def test_a_model_read_on_test_before_its_time(run: Path) -> None:
    chosen = json.loads((run / "result.json").read_text())["chosen_round"]
    other = next(k for k in (1, 2) if k != chosen)
    shutil.copy(run / "rounds/0/test.json", run / f"rounds/{other}/test.json")
    with pytest.raises(DataError, match=f"failed at rounds/{other}: the test split was read"):
        audit(Run.open(run))


@pytest.mark.parametrize("number", [1, 2])
def test_a_further_base_is_never_read_on_test(run: Path, number: int) -> None:
    """Not even the one whose number is that of the chosen round."""
    shutil.copy(run / "rounds/0/test.json", run / f"bases/{number}/test.json")
    with pytest.raises(DataError, match=f"failed at bases/{number}: the test split was read for it"):
        audit(Run.open(run), permutations=9)


def test_training_after_the_test_split_was_read(run: Path) -> None:
    path = run / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    trained = next(line for line in lines if '"trained"' in line and '"round": 2' in line)
    path.write_text("".join(lines) + trained)
    with pytest.raises(DataError, match="round 2 was trained after the test split"):
        audit(Run.open(run))
    path.write_text("".join(line for line in lines if '"tested"' not in line))
    assert audit(Run.open(run), permutations=1)["test"]["ordered"] is None


def test_the_fingerprint_tells_all_columns() -> None:
    data = Sequences.observed(Ragged.from_lists([[1, 2], [3]]), 9)
    from dataclasses import replace

    others = [
        replace(data, user=data.user + 1),
        replace(data, source=data.source + 1),
        replace(data, round_index=data.round_index + 1),
        replace(data, events=Ragged.from_lists([[1, 2], [4]])),
    ]
    assert len({data_fingerprint(one) for one in [data, *others]}) == 5


# The counts, on data whose answer is known.

V, N = 40, 100
TRAIN = Sequences.observed(
    Ragged.from_lists([[hash_scalar("a", u) % 10, 10 + hash_scalar("b", u) % 10] for u in range(N)]), V
)
CASES = Cases(TRAIN.events, torch.tensor([20 + hash_scalar("t", u) % 20 for u in range(N)]), TRAIN.user)


def synthetic(rows: list[list[int]]) -> Sequences:
    """One sequence of each user."""
    users = torch.arange(len(rows))
    return Sequences(Ragged.from_lists(rows), V, users, torch.ones_like(users), users)


HISTORIES = TRAIN.events.tolists()
LEAKED = synthetic([[*HISTORIES[u], int(CASES.target[u])] for u in range(N)])
HONEST = synthetic([[*HISTORIES[u], 20 + hash_scalar("free", u) % 20] for u in range(N)])


class Flat:
    """Ranks items by number, the same for everyone."""

    num_items = V

    def score(self, histories: Ragged) -> Tensor:
        return -torch.arange(V, dtype=torch.float32).repeat(len(histories), 1)


def test_counts_equal_a_plain_count() -> None:
    made = synthetic([[0, 5, 25, 25], [1, 11, 21, 11, 22]] + [[0, 1]] * (N - 2))
    train = Sequences.observed(Ragged.from_lists([[0, 5], [1, 11]] + [[2, 3]] * (N - 2)), V)
    cases = Cases(train.events, torch.tensor([25, 22] + [30] * (N - 2)), train.user)
    transitions, items = held_transitions(made, cases, train), held_items(made, train)
    assert transitions(cases.user, cases.target).tolist() == [1, 1] + [0] * (N - 2)
    assert items(cases.user, cases.target).tolist() == [1, 1] + [0] * (N - 2)
    assert int(transitions(torch.tensor(1), torch.tensor(21))) == 1
    assert int(items(torch.tensor(0), torch.tensor(5))) == 0, "own items are not novel"


def test_a_leak_stands_out_against_chance_and_neighbours() -> None:
    near = neighbours(Flat(), CASES)
    popularity = torch.ones(V, dtype=torch.int64)
    for made, leaked in ((LEAKED, True), (HONEST, False)):
        lookups = {"transitions": held_transitions(made, CASES, TRAIN), "items": held_items(made, TRAIN)}
        for found in (
            against_chance(lookups, CASES, popularity, permutations=199),
            against_neighbours(lookups, CASES, near, permutations=199),
        ):
            for record in found.values():
                assert (record["p"] == 1 / 200) == leaked
                if leaked:
                    assert record["observed"] > record["high"]
    lookup = {"items": held_items(LEAKED, TRAIN)}
    assert against_chance(lookup, CASES, popularity)["items"]["observed"] == N
    # 20 targets at random, blocks of 50: one in twenty hits by chance
    assert against_chance(lookup, CASES, popularity)["items"]["mean"] == pytest.approx(N / 20, rel=0.4)


def test_neighbours_are_next_in_rank_and_novel() -> None:
    near = neighbours(Flat(), CASES)
    for (above, below), target, row in zip(near.tolist(), CASES.target.tolist(), HISTORIES, strict=True):
        assert above == max(item for item in range(target) if item not in row)
        assert below == (min((i for i in range(target + 1, V) if i not in row), default=-1))


def test_lookup_of_nothing() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    assert Lookup.of(nothing, nothing, V)(torch.arange(3), torch.arange(3)).tolist() == [0, 0, 0]
