"""What cannot be trained, generated or admitted is refused before anything is made; what can is not."""

from pathlib import Path

import pytest
import torch

import rsir
from rsir.config import Config, load_config
from rsir.data.read import from_sequences
from rsir.data.splits import Split, split
from rsir.enrich import enrich
from rsir.errors import ConfigError
from rsir.models import SASRec, SASRecConfig
from rsir.refusals import refuse_untrainable

SMALL = ["model.dim=8", "model.num_blocks=1"]
ASKED = "acquisition.rule=disagreement"
ALONE = ["recursion.rounds=2", "recursion.writers=newest", "recursion.bases=1", "recursion.newcomers=0"]


def config(*settings: str) -> Config:
    return load_config(overrides=[*SMALL, *settings])


def cut() -> Split:
    return split(from_sequences([[0, 1, 2, 3, 4], [4, 3, 2, 1], [1, 0, 4, 2]]))


def network(**settings: float) -> SASRec:
    return SASRec(5, SASRecConfig(dim=8, num_blocks=1, **settings))


def test_a_lone_successor_without_dropout_cannot_disagree() -> None:
    with pytest.raises(ConfigError, match=r"recursion\.dropout_share = 0 the model of round 1"):
        refuse_untrainable(cut(), config(ASKED, *ALONE, "recursion.dropout_share=0"))


@pytest.mark.parametrize(
    "settings",
    [
        [],
        [*ALONE[1:], "recursion.rounds=1"],  # the base writes the only round
        [*ALONE, "recursion.writers=bases"],
        [*ALONE, "recursion.bases=2"],  # a base with dropout writes beside
        [*ALONE, "recursion.newcomers=1"],
        [*ALONE, "model.attention_dropout=.1"],  # it is no part of the share
        [*ALONE, "acquisition.rule=retain_all"],
    ],
)
def test_a_share_of_no_dropout_is_possible_where_someone_else_writes(settings: list[str]) -> None:
    refuse_untrainable(cut(), config(ASKED, "recursion.dropout_share=0", *settings))


def test_a_teacher_is_asked_in_place_of_the_model() -> None:
    still, torn = network(dropout=0.0), network(dropout=0.5)
    refuse_untrainable(cut(), config(ASKED, "model.dropout=0"), teacher=torn)
    refuse_untrainable(cut(), config(ASKED, *ALONE, "recursion.dropout_share=0"), teacher=torn)
    with pytest.raises(ConfigError, match="needs dropout"):
        refuse_untrainable(cut(), config(ASKED), teacher=still)
    with pytest.raises(ConfigError, match="needs dropout"):
        refuse_untrainable(cut(), config(ASKED, "model.dropout=0"))
    refuse_untrainable(cut(), config(ASKED, "model.dropout=0", "recursion.rounds=0"))


def test_rollouts_can_be_as_long_as_the_least() -> None:
    lengths = ["generation.min_length=6", "generation.max_length=5"]
    with pytest.raises(ConfigError, match=r"generation\.min_length = 6 is above"):
        refuse_untrainable(cut(), config(*lengths))
    refuse_untrainable(cut(), config(*lengths, "generation.max_length=6"))
    refuse_untrainable(cut(), config(*lengths, "recursion.rounds=0"))
    refuse_untrainable(cut(), config(*lengths, "recursion.earlier_items=4"))


def test_enriching_a_run_without_dropout_is_refused_before_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    world = [
        f"simulation.{what}" for what in ("num_users=40", "num_items=60", "num_topics=3", "max_events=20")
    ]
    brief = ["training.max_periods=1", "training.min_period=1", "recursion.rounds=0", "model.dropout=0"]
    run = rsir.run(None, tmp_path / "run", config=config(*world, *brief), device="cpu")
    monkeypatch.setattr("rsir.enrich.generate", lambda *_, **__: pytest.fail("generated"))
    with pytest.raises(ConfigError, match="needs dropout"):
        enrich(run, config=config(*world, *brief, ASKED))
