"""Times go wherever their items go, from the log to a recommendation, and never from what is held out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from oracles import gaps

from rsir.cli import main
from rsir.data.batches import TrainingRows
from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame
from rsir.data.sequences import Sequences
from rsir.data.splits import SplitConfig, split
from rsir.evaluate import evaluate
from rsir.evidence.held_out import neighbours
from rsir.models.hstu import HSTU, HSTUConfig
from rsir.ragged import Ragged
from rsir.run import Run
from rsir.train import TrainingConfig, fit
from rsir.weights import FileCheckpoint


def known(rows: Ragged) -> bool:
    """Whether each time is the one that its item, all different, began with: ten times its index."""
    return rows.time is not None and torch.equal(rows.time, rows.values * 10.0)


ROWS = Ragged.from_lists([[3, 1, 4], [], [5, 9], [2, 6, 8, 7]])
TIMED = ROWS.with_time(ROWS.values * 10.0)


def test_rows_keep_their_times() -> None:
    assert known(TIMED.select(torch.tensor([3, 0, 0])))
    assert known(TIMED.tail(2))
    assert known(TIMED.slice_rows(TIMED.lengths // 2, TIMED.lengths))
    assert known(Ragged.concat([TIMED, TIMED.tail(1)]))
    assert known(TIMED.to("cpu"))
    spread = (TIMED.spread(x) for x in (TIMED.values, TIMED.time))
    assert all(torch.equal(time, values * 10.0) for values, time in zip(*spread, strict=True))
    assert TIMED.tail(2).tolists() == ROWS.tail(2).tolists()


def test_rows_without_times_stay_without() -> None:
    parts = [ROWS.select(torch.tensor([0])), ROWS.tail(2), ROWS.to("cpu"), Ragged.concat([ROWS, ROWS])]
    assert all(rows.time is None for rows in parts)


def test_beside_timed_rows_the_others_are_unknown() -> None:
    both = Ragged.concat([ROWS, TIMED])
    assert both.time is not None
    assert both.time[: len(ROWS.values)].isnan().all()
    assert known(both.select(torch.arange(4, 8)))


def test_batches_have_the_times_of_their_events() -> None:
    data = Sequences.observed(TIMED, 10)
    for targets in ("every", "last"):
        built = TrainingRows.build(data, 3, targets)  # type: ignore[arg-type]
        batches = list(built.epoch(0, 0, 2, "cpu"))
        assert all(known(batch.histories) for batch in batches)
        assert sum(len(batch.histories) for batch in batches) == len(built)


def frame(count: int = 60, length: int = 6) -> pl.DataFrame:
    """Users who begin at one item after another and go on item by item, each item at another hour."""
    user = torch.arange(count).repeat_interleave(length)
    place = torch.arange(length).repeat(count)
    hours = (user * 7 + place * (place + user % 5)) % 97 + 100 * place
    columns = {"user_id": user, "item_id": (user * 3 + place) % 40, "timestamp": hours * 3600}
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})


@pytest.mark.parametrize("kind", ["leave_one_out", "global_time"])
def test_a_split_never_hands_on_when_the_target_was_taken(kind: Any) -> None:
    log = from_frame(frame())
    assert log.time is not None
    cut = split(log, SplitConfig(kind=kind))
    rows = log.ragged
    for events, user in (
        (cut.train.events, cut.train.user),
        (cut.valid.histories, cut.valid.user),
        (cut.test.histories, cut.test.user),
    ):
        start = rows.offsets[user][events.row] + events.position
        assert events.time is not None
        assert torch.equal(events.time, log.time.double()[start])
        assert len(events.time) == len(events.values) == int(events.lengths.sum())


def test_dates_and_logs_in_file_order() -> None:
    dated = frame().with_columns(pl.from_epoch("timestamp", "s"))
    log = from_frame(dated)
    assert log.time_is_date
    assert log.ragged.time is not None
    seconds = from_frame(frame()).ragged.time
    assert torch.equal(log.ragged.time, seconds * 1e6)  # type: ignore[operator]
    assert from_frame(dated, ReadConfig(file_order=True)).ragged.time is None


def network(log: Interactions) -> HSTU:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return HSTU(len(log.items), HSTUConfig(dim=8, time_bias=True, max_length=5))


def reading_times(log: Interactions) -> HSTU:
    """A network whose scores do depend on times."""
    model = network(log).eval()
    for layer in model.layers:
        torch.nn.init.normal_(layer.elapsed.weight, std=3.0)
    return model


def test_evaluation_reads_the_times_of_histories() -> None:
    """Any batch gives the same ranks; other times give others."""
    log = from_frame(frame())
    cut, model = split(log), reading_times(log)
    counts = cut.train.item_counts()
    found = [evaluate(model, cut.test, counts, batch_size=size).rank for size in (7, 256)]
    assert torch.equal(*found)
    blind = replace(cut.test, histories=Ragged(cut.test.histories.values, cut.test.histories.offsets))
    assert not torch.equal(evaluate(model, blind, counts).rank, found[0])
    # the audit asks what generation could know, and rollouts have no times
    assert torch.equal(neighbours(model, cut.test), neighbours(model, blind))


def test_training_with_times_goes_on_exactly_where_it_stopped(tmp_path: Path) -> None:
    log = from_frame(frame())
    data = split(log).train
    untimed = Sequences.observed(Ragged.from_lists([[1, 2, 3], [5, 6, 7]]), data.num_items)
    both = Sequences.concat([data, untimed])
    config = TrainingConfig(batch_size=16, min_period=2, max_periods=4)

    class Stop(Exception): ...

    def told(look: Any) -> None:
        if look.period == 2 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise Stop

    def train(checkpoint: FileCheckpoint | None) -> HSTU:
        model = network(log)
        progress = None if checkpoint is None else told
        look = lambda _: {"ndcg@10": 0.0}  # noqa: E731
        fit(model, both, config, look, seed=1, checkpoint=checkpoint, progress=progress)
        return model

    whole, kept = train(None), FileCheckpoint(tmp_path / "checkpoint.safetensors")
    with pytest.raises(Stop):
        train(kept)
    resumed = train(kept)
    assert all(torch.equal(one, resumed.state_dict()[key]) for key, one in whole.state_dict().items())
    assert any(layer.elapsed.weight.abs().sum() > 0 for layer in whole.layers)


SMALL = [
    "model.dim=8",
    "model.num_blocks=1",
    "training.min_period=4",
    "training.max_periods=3",
    "model.max_length=5",
]


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """The command line with these words: exit code and both streams."""
    capsys.readouterr()
    return main([str(word) for word in words]), *capsys.readouterr()


def run(capsys: pytest.CaptureFixture[str], log: Path, out: Path, *settings: str) -> dict[str, Any]:
    flags = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    code, told, complaint = call(
        capsys, "run", log, "--model", "hstu", "--rounds", 1, "--out", out, "--json", "--quiet", *flags
    )
    assert code == 0, complaint
    return json.loads(told)


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    frame().write_csv(path)
    return path


def bias_of(out: Path, k: int = 0) -> object:
    return json.loads((out / f"rounds/{k}/model.json").read_text())["config"]["time_bias"]


def test_a_run_decides_by_its_log(csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, csv, tmp_path / "timed")
    assert bias_of(tmp_path / "timed", 1) is True
    assert bias_of(tmp_path / "timed") is True
    order = pl.read_csv(csv).drop("timestamp")
    order.write_csv(tmp_path / "order.csv")
    run(capsys, tmp_path / "order.csv", tmp_path / "order")
    assert bias_of(tmp_path / "order") is False
    starts = [Run.open(tmp_path / name).config.recursion.start for name in ("timed", "order")]
    assert starts == ["warm", "cold"]
    words = ("run", tmp_path / "order.csv", "--model", "hstu", "--out", tmp_path / "x")
    code, _, complaint = call(capsys, *words, "--set", "model.time_bias=true")
    assert (code, "the log has none" in complaint, (tmp_path / "x").exists()) == (2, True, False)


@pytest.mark.slow
def test_a_law_of_gaps_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Known best NDCG@10: .963 with times, .815 without."""
    gaps.log(600, 0).write_csv(tmp_path / "gaps.csv")
    found = {}
    for bias in ("auto", "false"):
        settings = ("model.dim=16", "model.dropout=0.1", "model.init_std=0.05", "training.batch_size=64")
        settings += ("training.learning_rate=0.01", "training.min_period=40", "training.max_periods=8")
        settings += ("recursion.bases=1",)
        summary = run(capsys, tmp_path / "gaps.csv", tmp_path / bias, *settings, f"model.time_bias={bias}")
        found[bias] = [summary[arm][0]["valid"]["ndcg@10"] for arm in ("rounds", "control")]
        assert summary["rounds"][1]["admitted"] > 0
    assert min(found["auto"]) > 0.92
    assert max(found["false"]) < 0.84


def test_known_users_are_recommended_to_by_their_times(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's history with its times; the same items given on the spot have none."""
    run(capsys, csv, tmp_path / "run", "training.learning_rate=0.1", "training.max_periods=20")
    opened = Run.open(tmp_path / "run")
    log, model = opened.interactions, opened.model()
    with torch.inference_mode():
        scores = model.score(log.ragged)
        blind = model.score(Ragged(log.ragged.values, log.ragged.offsets))
    users = log.users.ids.to_list()
    known = opened.recommend(users=users, n=1, repeats=True)
    given = [log.items.ids_of(torch.tensor(row)).to_list() for row in log.ragged.tolists()]
    spot = opened.recommend(histories=given, n=1, repeats=True)
    assert known["item"].to_list() == log.items.ids_of(scores.argmax(1)).to_list()
    assert spot["item"].to_list() == log.items.ids_of(blind.argmax(1)).to_list()
    assert known["score"].to_list() != spot["score"].to_list()


def test_runs_from_before_times_were_read_open_as_they_were(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, csv, tmp_path / "run", "model.time_bias=false")
    before = Run.open(tmp_path / "run").recommend(users=[0, 1], n=3)
    path = tmp_path / "run" / "config.toml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(("time_bias", "time_dropout"))))
    assert "time_bias" not in path.read_text()
    assert Run.open(tmp_path / "run").recommend(users=[0, 1], n=3).equals(before)
