"""experiments/data_only.py against the real libraries, on a small log; skips where neither is installed."""

import importlib
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from rsir.data.interactions import Interactions
from rsir.data.read import ReadConfig, from_frame
from rsir.data.simulate import SimulationConfig, simulate
from rsir.data.splits import split
from rsir.enrich import events_frame

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("data_only")


def small() -> Interactions:
    """Ids are numbers, as in the public data sets; those of synthetic sequences are not."""
    world = simulate(SimulationConfig(num_users=80, num_items=40, num_topics=3, max_events=15), seed=2)
    numbers = [pl.col(name).str.slice(1).cast(pl.Int64) for name in ("user_id", "item_id")]
    return from_frame(world.frame.with_columns(numbers), ReadConfig())


@pytest.mark.parametrize("library", ["rectools", "recbole"])
def test_every_arm_is_trained_and_compared_once(
    script: Any, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library, reason="it is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["test"])
    log = small()
    cut = split(log)
    given = Namespace(
        log=tmp_path / "shop.csv",
        library=library,
        enriched=tmp_path / f"given{script.SUFFIX[library]}",
        updates=6,
        seed=0,
        folder=tmp_path / "kept",
        out=tmp_path / "found.jsonl",
    )
    script.write(events_frame(log, cut.train), given.enriched)
    script.run(given, log, cut)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    trained = {row["arm"]: row for row in rows if row["against"] is None}
    assert {arm: row["after"] for arm, row in trained.items()} == {
        script.HALF: 3,
        script.PLAIN: 6,
        script.ITSELF: 6,
        script.RSIR: 6,
    }
    assert trained[script.PLAIN]["events"] == cut.train.num_events
    assert trained[script.ITSELF]["synthetic"] == trained[script.ITSELF]["sequences"] - 80 > 0
    for row in rows:
        if row["against"] is not None:
            for part in ("valid", "test"):
                found = row[part]["ndcg@10"]
                assert found["mean_a"] == pytest.approx(trained[row["against"]][part]["ndcg@10"])
                assert found["mean_b"] == pytest.approx(trained[row["arm"]][part]["ndcg@10"])
    if (
        library == "recbole"
    ):  # the file given holds the training events alone: the same data, so the same model
        ranks = [pl.read_parquet(script.ranks_of(given, arm, 0)) for arm in (script.PLAIN, script.RSIR)]
        assert ranks[0].equals(ranks[1])
    script.run(given, log, cut)
    assert len(given.out.read_text().splitlines()) == len(rows) == 8


def test_rectools_loss_over_real_events_is_its_own(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rectools", reason="it is not installed")
    from rsir.adapters.rectools import to_dataset

    theirs = importlib.import_module("theirs")
    monkeypatch.setitem(theirs.RECTOOLS, "dropout_rate", 0.0)
    model = theirs.rectools_model(2)
    model.fit(to_dataset(events_frame(log := small(), log.sequences())))
    module, batch = model.lightning_model, next(iter(model.data_preparator.get_dataloader_train()))
    expected = module.loss_calculator(module.get_batch_logits(batch), batch["y"], batch["yw"])
    assert (batch["y"] == 0).any()
    torch.testing.assert_close(module.training_step(batch, 0), expected)
