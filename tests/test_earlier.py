"""Earlier items: equal to plain Python, verified, traced to their source, and learnt from by the run."""

import polars as pl
import pytest
import torch
from oracles.generation import Score, score_function
from oracles.models import DecayedMean, MarkovTable

import rsir
from rsir.data.rollouts import Rollouts
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.earlier import backwards, earlier_items
from rsir.enrich import enrich
from rsir.errors import DataError
from rsir.evidence.audit import audit
from rsir.evidence.provenance import prove
from rsir.generate import GenerationConfig
from rsir.models.base import Recommender
from rsir.models.ensemble import Ensemble
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged
from rsir.report import write_report
from rsir.rng import hash_scalar
from rsir.run import Run

NUM_ITEMS = 40
Made = tuple[int, list[int], list[int], list[bool]]


def sources(num_rows: int = 40) -> Sequences:
    rows = [
        [hash_scalar(row, place) % NUM_ITEMS for place in range(1 + hash_scalar(row) % 12)]
        for row in range(num_rows)
    ]
    return Sequences.observed(Ragged.from_lists(rows), NUM_ITEMS, user=torch.arange(num_rows) + 100)


def sasrec(seed: int) -> SASRec:
    torch.manual_seed(seed)
    config = SASRecConfig(dim=16, num_heads=2, num_blocks=1, dropout=0.0)
    network = SASRec(NUM_ITEMS, config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return network.eval()


def table(seed: int, size: int = NUM_ITEMS) -> MarkovTable:
    return MarkovTable(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))


def ranked(score: Score, prefix: list[int], among: str) -> list[int]:
    scores = score(prefix)
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    return [item for item in order if among == "all" or item not in prefix]


def expected(
    writer: Recommender,
    judge: Recommender,
    data: Sequences,
    config: GenerationConfig,
    number: int,
    longest: int,
) -> list[Made]:
    """In plain Python, one source and one item at a time."""
    write, check, found = score_function(writer), score_function(judge), list[Made]()
    for row, source in enumerate(data.events.tolists()):
        if not 1 <= len(source) <= longest or int(data.round_index[row]):
            continue
        back = source[::-1]
        for _ in range(number):
            back.append(ranked(write, back, "unseen")[0])
        before = back[len(source) :][::-1]
        rank = 0
        if config.max_rank is not None:
            order = ranked(check, before, config.rank_among)
            rank = order.index(source[0]) + 1
            if rank > config.max_rank:
                continue
        ranks = [0] * number + [rank] + [0] * (len(source) - 1)
        found.append((row, before + source, ranks, [False] * number + [True] * len(source)))
    return found


def told(made: Rollouts) -> list[Made]:
    rank, own = (Ragged(along, made.events.offsets).tolists() for along in (made.rank, made.own))
    return list(zip(made.source.tolist(), made.events.tolists(), rank, own, strict=True))


@pytest.mark.parametrize(
    "rules", [{"max_rank": 12}, {"max_rank": None}, {"max_rank": 5, "rank_among": "all"}]
)
@pytest.mark.parametrize(("number", "longest"), [(1, 8), (3, 8), (3, 50), (4, 1)])
@pytest.mark.parametrize("kind", ["networks", "as one", "read anew", "tables"])
def test_equal_to_plain_python(kind: str, number: int, longest: int, rules: dict[str, int | None]) -> None:
    writer, judge = {
        "networks": lambda: (sasrec(0), sasrec(1)),
        "as one": lambda: (sasrec(0), Ensemble([sasrec(1), sasrec(2)]).eval()),
        "read anew": lambda: (DecayedMean(NUM_ITEMS, seed=1), DecayedMean(NUM_ITEMS, seed=2)),
        "tables": lambda: (table(0), table(1)),
    }[kind]()
    data, config = sources(), GenerationConfig.model_validate(rules)
    made = earlier_items(writer, judge, data, config, number=number, longest=longest)
    wanted = expected(writer, judge, data, config, number, longest)
    assert told(made) == wanted
    assert made.user.tolist() == [100 + row for row, *_ in wanted]
    short = int((data.events.lengths <= longest).sum())
    assert made.checks == ((short, len(wanted)),)
    assert (len(wanted) < short) == (config.max_rank is not None)


def test_threads_change_nothing() -> None:
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(
            told(earlier_items(sasrec(0), sasrec(1), sources(), GenerationConfig(), number=3, longest=8))
        )
    assert found[0] == found[1]


def test_only_observed_sequences_that_leave_enough_items() -> None:
    rows = Ragged.from_lists([[0, 1], [], [0, 1, 2], [2, 0]])
    data, config = Sequences.observed(rows, 4), GenerationConfig(max_rank=None)
    data.round_index[3] = 1
    made = earlier_items(table(0, 4), table(1, 4), data, config, number=2, longest=8)
    assert made.source.tolist() == [0], "one is empty, one leaves a single item, one is synthetic"
    assert sorted(made.events.tolists()[0]) == [0, 1, 2, 3]
    none = earlier_items(table(0, 4), table(1, 4), data, config, number=3, longest=8)
    assert (len(none), none.events.tolists(), none.checks) == (0, [], ((0, 0),))


WORLD = SimulationConfig(num_users=120, num_items=60, num_topics=4, max_events=15)
SMALL = [
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=2",
    "training.min_period=2",
    "recursion.rounds=2",
    "recursion.bases=1",
    "recursion.collapse=none",
    "recursion.patience=none",
    "recursion.earlier_items=2",
    "generation.max_rank=30",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("earlier") / "run"
    frame = simulate(WORLD, seed=1).frame
    return rsir.run(frame, folder, config=rsir.load_config(overrides=SMALL), device="cpu")


def with_earlier(run: Run, k: int) -> pl.DataFrame:
    return run.store.arm("rounds", k).frame("synthetic").filter(pl.col("earlier") > 0)


def test_a_run_learns_from_whole_sources_behind_earlier_items(run: Run) -> None:
    train = run.split().train
    items = [run.interactions.items.ids_of(torch.tensor(row)).to_list() for row in train.events.tolists()]
    for k in (1, 2):
        made, facts = with_earlier(run, k), run.store.arm("rounds", k).generation()
        assert facts is not None and facts["earlier"]["admitted"] == len(made) > 0
        assert facts["earlier"]["histories"] == int((train.events.lengths <= 8).sum())
        for row in made.iter_rows(named=True):
            assert row["items"][2:] == items[row["source"]]
            assert not set(row["items"][:2]) & set(items[row["source"]])
            assert 1 <= row["rank"][2] <= 30 and sum(row["rank"]) == row["rank"][2]
        rollouts = facts["admission"]["admitted"]
        assert run.store.arm("rounds", k).record()["admitted"] == rollouts + len(made)


def test_its_writer_was_trained_on_reversed_training_data(run: Run) -> None:
    record = run.store.arm("reversed", 1).record()
    train = run.split().train
    assert record["updates"] == run.store.arm("rounds", 0).record()["updates"]
    assert (record["sequences"], record["start"], record["origin"]) == (len(train), "cold", "observed")
    assert backwards(train).events.tolists() == [row[::-1] for row in train.events.tolists()]
    assert [row["round"] for row in run.summary()["reversed"]] == [1]


def test_the_audit_proves_them(run: Run) -> None:
    assert audit(run)["checks"]["sequences"] == sum(
        len(run.store.arm("rounds", k).frame("synthetic")) for k in (1, 2)
    )
    made = [run.store.arm("rounds", k).frame("synthetic") for k in (1, 2)]
    written = sum(
        int(
            frame.select(
                pl.when(pl.col("earlier") > 0)
                .then(pl.col("earlier"))
                .otherwise(pl.col("items").list.len() - 1)
                .sum()
            ).item()
        )
        for frame in made
    )
    assert prove(run).checks["generated_items"] == written


def test_the_audit_names_a_source_that_was_changed(run: Run) -> None:
    path = run.folder / "rounds/1/synthetic.parquet"
    frame, before = pl.read_parquet(path), path.read_bytes()
    rows = frame.to_dicts()
    place = next(n for n, row in enumerate(rows) if row["earlier"])
    rows[place]["items"][3:5] = rows[place]["items"][3:5][::-1]
    try:
        pl.DataFrame(rows, schema=frame.schema).write_parquet(path)
        with pytest.raises(DataError, match=rf"row {place}: all of its source does not stand behind"):
            audit(run)
    finally:
        path.write_bytes(before)


def test_the_enriched_data_has_them(run: Run) -> None:
    made = enrich(run, round_index=0, only_synthetic=True)
    lists = made.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()
    assert lists == run.store.arm("rounds", 1).frame("synthetic")["items"].to_list()


def test_the_report_tells_of_them(run: Run) -> None:
    text = write_report(run.folder).with_suffix(".md").read_text(encoding="utf-8")
    assert "2 earlier items, then the source" in text
    assert "Before histories of up to 8 events a model of reversed sequences put 2 earlier items" in text
    assert "model of reversed sequences: train" in text
