"""Commands and code that the documents show do run, on a small log."""

import re
import shlex
from pathlib import Path

import pytest

from rsir.cli import main
from rsir.config import load_config
from rsir.data.simulate import SimulationConfig, simulate

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "model.dim": "8",
    "training.max_periods": "2",
    "training.min_period": "2",
    "generation.num_rollouts": "2",
}
DOCUMENTS = ["README.md", "docs/quickstart.md"]


def shown(document: str) -> list[list[str]]:
    """The rsir commands in the code blocks of a document, as a shell would split them."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("rsir ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the log that the documents speak of."""
    world = simulate(SimulationConfig(num_users=60, num_items=60, num_topics=6, max_events=15), seed=1).frame
    names = {"u00": "ann", "i00": "tea", "i01": "cup"}
    renamed = world.with_columns(
        world["user_id"].replace(names).alias("user_id"), world["item_id"].replace(names).alias("item_id")
    )
    renamed.write_csv(tmp_path / "events.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_shown_commands_run(document: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = shown(document)
    assert len(commands) >= 4
    for words in commands:
        small = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
        overridden = {word.split("=")[0] for word in words if "=" in word}
        small = [
            part
            for flag, setting in zip(small[::2], small[1::2], strict=True)
            if setting.split("=")[0] not in overridden
            for part in (flag, setting)
        ]
        extra = small if words[0] == "run" and "--resume" not in words else []
        assert main([*words, *extra]) == 0, (words, capsys.readouterr().err)


def test_shown_python_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rsir

    small = load_config(overrides=[f"{key}={value}" for key, value in TINY.items()])
    original = rsir.run
    monkeypatch.setattr(rsir, "run", lambda log, out, **given: original(log, out, config=small, **given))
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(code, {})
    assert (workplace / "runs" / "from-python" / "result.json").is_file()


def test_links_lead_somewhere() -> None:
    for document in [
        *DOCUMENTS,
        "CONTRIBUTING.md",
        *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    ]:
        text = (ROOT / document).read_text()
        for target in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", text):
            assert ((ROOT / document).parent / target).exists(), (document, target)
