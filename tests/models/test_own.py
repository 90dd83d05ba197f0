"""A user's own network: named by its class, it takes part in the whole loop."""

import json
from pathlib import Path

import pytest
import torch
from cli.words import TINY

import rsir
from rsir.cli import main
from rsir.config import describe_config, load_config, to_toml
from rsir.errors import ConfigError
from rsir.models import OwnConfig, build_model
from rsir.ragged import Ragged
from rsir.run import Run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hf_transformer.py"
CODE = '''
import torch
from rsir.models import SequenceModel

class Sum(SequenceModel):
    """State: the sum of the item vectors so far."""
    def __init__(self, num_items, config):
        super().__init__()
        self.num_items, self.max_length = num_items, config.max_length
        self.item = torch.nn.Embedding(num_items, config.dim + config.options.get("more", 0))
    def encode(self, histories):
        return histories.flatten(histories.pad(self.item(histories.values)).cumsum(1))
    def item_vectors(self):
        return self.item.weight

def stubborn(num_items, config):
    return Sum(num_items + 1, config)

def nothing(num_items, config):
    return None

def alone():
    return None

def needy(num_items, config):
    return config.options["width"]
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_the_whole_loop_and_the_run_again(file: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "run"
    given = [*TINY, f"model.factory={file}:Sum", "model.options.more=6"]
    words = [word for setting in given for word in ("--set", setting)]
    code = main(["run", "--model", "own", "--out", str(out), "--rounds", "1", "--json", *words])
    assert code == 0, capsys.readouterr().err
    assert json.loads((out / "rounds/0/model.json").read_text())["model"] == "Sum"
    run = Run.open(out)
    assert run.model().item_vectors().shape[1] == 8 + 6
    assert len(run.recommend(histories=[run.interactions.items.ids_of(torch.tensor([3, 4])).to_list()])) == 10


def test_settings_round_trip(tmp_path: Path) -> None:
    config = load_config(
        overrides=["model.name=own", "model.factory=a.b:C", 'model.options={dim = 3, "x y" = "z", on = true}']
    )
    assert config.model == OwnConfig(factory="a.b:C", options={"dim": 3, "x y": "z", "on": True})
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml") == config
    assert "model.factory" in {key for key, *_ in describe_config(config)}


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (None, "names no class"),
        ("mine", "names no class"),
        ("no/such.py:Sum", "cannot be imported"),
        ("no_such_package.module:Sum", "cannot be imported"),
        ("{file}:Product", "no class or function Product"),
        ("{file}:alone", "cannot be called"),
        ("{file}:needy", "cannot be called.*'width'"),
        ("{file}:nothing", "makes a NoneType"),
        ("{file}:stubborn", "ignores what it is given"),
    ],
)
def test_refusals(file: Path, factory: str | None, says: str) -> None:
    config = OwnConfig(factory=factory and factory.format(file=file))
    with pytest.raises(ConfigError, match=says):
        build_model(config, 5)


def test_a_module_of_a_package_can_be_named() -> None:
    config = OwnConfig(factory="rsir.models:GRU4Rec", dim=3, options={"hidden": 1})
    with pytest.raises(ConfigError, match="hidden_factor"):
        build_model(config, 5)
    config = OwnConfig(factory="rsir.models.stack:Stack", dim=3)
    with pytest.raises(ConfigError, match="layers"):
        build_model(config, 5)


class TestHuggingFace:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("transformers")

    def test_it_keeps_the_contract(self) -> None:
        config = OwnConfig(factory=f"{EXAMPLE}:HFTransformer", max_length=8, dim=8)
        model = build_model(config, 30).double().eval()
        rows = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]
        together = model.encode_last(Ragged.from_lists(rows))
        alone = torch.cat([model.encode_last(Ragged.from_lists([row])) for row in rows])
        torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)
        short, long = (model.encode(Ragged.from_lists([row])) for row in ([1, 2], [1, 2, 9]))
        torch.testing.assert_close(short, long[:2], atol=1e-10, rtol=0)

    def test_it_goes_round_the_loop(self, tmp_path: Path) -> None:
        given = [*TINY, "model.name=own", f"model.factory={EXAMPLE}:HFTransformer"]
        config = load_config(overrides=given)
        done = rsir.run(None, tmp_path / "run", rounds=1, config=config, device="cpu")
        assert done.summary()["status"] == "completed"
