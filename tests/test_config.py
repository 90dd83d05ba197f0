"""Configuration: files, overrides, and errors that name what to do."""

from pathlib import Path

import pytest

from rsir.config import Config, describe_config, load_config, to_toml
from rsir.errors import ConfigError
from rsir.models import MODELS, GRU4RecConfig


def test_toml_round_trip_with_things_switched_off(tmp_path: Path) -> None:
    config = load_config(
        overrides=["generation.max_rank=none", "model.dim=32", 'data.user_column=ann\'s "u"']
    )
    assert config.generation.max_rank is None
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config


@pytest.mark.parametrize("name", ["c.toml", "c.json", "c.yaml"])
def test_files_then_overrides(tmp_path: Path, name: str) -> None:
    texts = {
        "c.toml": "seed = 4\n[model]\ndim = 32\n",
        "c.json": '{"seed": 4, "model": {"dim": 32}}',
        "c.yaml": "seed: 4\nmodel:\n  dim: 32\n",
    }
    path = tmp_path / name
    path.write_text(texts[name])
    config = load_config(path, ["model.dim=48", "training.loss=bce"])
    assert (config.seed, config.model.dim, config.training.loss) == (4, 48, "bce")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generation.max_rnk=3", "generation.max_rank"),
        ("max_rank=3", "generation.max_rank"),
        ("generaton.max_rank=3", "generation.max_rank"),
        ("model.dim=0", "greater than or equal to 1"),
        ("model.dim=wide", "valid integer"),
        ("model=sasrec", "is a section"),
        ("model.name=gru", "did you mean 'gru4rec'"),
        ("model.name=SAS", "did you mean 'sasrec'"),
        ("training.loss=hinge", "'softmax'"),
        ("seed", "no '='"),
        ("monitor=ndcg@7", "ndcg@10"),
        ("evaluation.cutoffs=[5]", "monitor"),
        ("simulation.num_users=-3", "simulation.num_users"),
    ],
)
def test_errors_say_what_to_do(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_has_a_meaning() -> None:
    rows = list(describe_config(Config()))
    assert len(rows) > 50
    assert all(meaning for *_, meaning in rows)
    assert all(value == default for _, value, default, _ in rows)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", MODELS)
def test_every_backbone_by_its_name(tmp_path: Path, name: str) -> None:
    config = load_config(overrides=["model.dim=12", f"model.name={name}"])  # in any order
    assert (config.model.name, config.model.dim) == (name, 12)
    assert isinstance(config.model, MODELS[name].config)
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml") == config
    changed = {key for key, value, default, _ in describe_config(config) if value != default}
    assert changed == {"model.dim", "model.name"} - ({"model.name"} if name == "sasrec" else set())


def test_successors_begin_as_suits_the_backbone_unless_told() -> None:
    suited = {
        name: (config.successor_start, config.successor_dropout_share)
        for name in ("sasrec", "hstu", "own")
        for config in (load_config(overrides=[f"model.name={name}"]),)
    }
    assert suited == {"sasrec": ("warm", 0.6), "hstu": ("cold", 1.0), "own": ("warm", 0.6)}
    timed = load_config(overrides=["model.name=hstu", "model.time_bias=true"])
    assert (timed.successor_start, timed.successor_dropout_share) == ("warm", 0.6)
    told = load_config(overrides=["model.name=hstu", "recursion.start=warm", "recursion.dropout_share=0.5"])
    assert (told.successor_start, told.successor_dropout_share) == ("warm", 0.5)


def test_another_backbone_begins_with_its_own_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[model]\ndim = 32\nnorm = 'post'\n")
    assert load_config(path, ["model.name=gru4rec"]).model == GRU4RecConfig()
    assert load_config(path, ["model.name=sasrec"]).model.dim == 32
    path.write_text("[model]\nname = 'gru4rec'\ndim = 32\n")
    assert load_config(path, ["model.num_blocks=2"]).model == GRU4RecConfig(dim=32, num_blocks=2)
