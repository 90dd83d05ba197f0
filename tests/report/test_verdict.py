"""The verdict follows the interval against the control, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from report.runs import choose, comparison

from rsir.report.blocks import Answer
from rsir.report.results import bucket_section
from rsir.report.verdict import answer, compare
from rsir.report.view import Contrast, View
from rsir.store import RunStore

Copy = Callable[[Path], Path]


def answered(folder: Path) -> Answer:
    return answer(View.load(RunStore.open(folder)))


def frame(ranks: list[float], lengths: list[int] | None = None) -> pl.DataFrame:
    users = [f"u{place}" for place in range(len(ranks))]
    lengths = lengths or [3] * len(ranks)
    return pl.DataFrame({"user": users, "rank": ranks, "history_length": lengths, "target_count": lengths})


@pytest.mark.parametrize(
    ("low", "high", "kind", "title"),
    [
        (0.001, 0.02, "helped", "Yes: round 1 is better than its control."),
        (-0.001, 0.02, "unclear", "No clear difference between round 1 and its control."),
        (0.0, 0.02, "unclear", "No clear difference between round 1 and its control."),
        (-0.02, -0.001, "hurt", "No: round 1 is worse than its control."),
    ],
)
def test_kinds(finished: Path, copy: Copy, low: float, high: float, kind: str, title: str) -> None:
    folder = copy(finished)
    choose(folder, 1, {"control": comparison(low, high), "base": comparison(0.1, 0.2)})
    found = answered(folder)
    assert (found.kind, found.title) == (kind, title)


def test_the_base_has_no_say(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    choose(folder, 1, {"control": comparison(-0.02, -0.01), "base": comparison(0.1, 0.2)})
    assert answered(folder).kind == "hurt"


def test_figures_and_warnings(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    choose(folder, 1, {"control": comparison(0.01, 0.03), "base": comparison(0.1, 0.2)})
    found = answered(folder)
    assert [(f.name, f.value, f.detail) for f in found.figures] == [
        ("NDCG@10", "+10.0 %", "95 % interval +5.0 % to +15.0 %"),
        ("Recall@10", "+10.0 %", "95 % interval +5.0 % to +15.0 %"),
    ]
    text = " ".join(found.lines)
    assert "0.2200 against 0.2000, a difference of +0.0200 (95 % interval +0.0100 to +0.0300" in text
    assert "no synthetic data" in text
    assert "This is one seed (0)" in text


def test_a_gain_relative_to_nothing_is_shown_as_it_is(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    choose(folder, 1, {"control": comparison(0.01, 0.03, relative=None), "base": comparison(0.1, 0.2)})
    assert answered(folder).figures[0].value == "+0.0200"


def test_base_kept_is_said_first(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    choose(folder, 0, {})
    found = answered(folder)
    assert found.title == "It did not help on validation; the base is kept."
    assert "against its control" in " ".join(found.lines)


def test_a_control_above_the_base_is_told(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    choose(folder, 0, {})
    path = folder / "control" / "2" / "round.json"
    record = json.loads(path.read_text())
    record["valid"]["ndcg@10"] = 0.9
    path.write_text(json.dumps(record))
    assert "longer training alone helps" in " ".join(answered(folder).lines)
    record["valid"]["ndcg@10"] = 0.0
    path.write_text(json.dumps(record))
    (folder / "control" / "1" / "round.json").write_text(json.dumps({**record, "round": 1}))
    assert "longer training alone helps" not in " ".join(answered(folder).lines)


def test_compare_is_b_minus_a() -> None:
    contrast = Contrast(frame([2.0, 11.0]), frame([1.0, 1.0]), "control 1", "round 1", "test", True)
    found = compare(contrast, "recall@10", seed=0)
    assert (found["mean_a"], found["mean_b"], found["difference"]) == (0.5, 1.0, 0.5)


def test_buckets_know_where_the_gain_is(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users of long histories gain everything, those of short ones lose nothing; three are too few."""
    lengths = [2] * 30 + [15] * 30 + [50] * 3
    a = frame([1.0] * 30 + [30.0] * 30 + [1.0] * 3, lengths)
    b = frame([1.0] * 30 + [1.0] * 30 + [1.0] * 3, lengths)
    contrast = Contrast(a, b, "control 1", "round 1", "test", True)
    monkeypatch.setattr(View, "contrast", contrast)
    section = bucket_section(View.load(RunStore.open(finished)))
    assert section is not None
    figure = section.blocks[1]
    rows = {row[0]: row[1:] for row in figure.table.rows}  # type: ignore[union-attr]
    assert rows["history 1-3"] == ("30", "1.0000", "1.0000", "0.0000", "0.0000 to 0.0000", "0.0 %")
    assert rows["history 11-20"] == ("30", "0.0000", "1.0000", "+1.0000", "+1.0000 to +1.0000", "–")
    assert rows["history 21+"][4] == "too few"
    assert figure.panels[0].labels == ("1-3  (30)", "11-20  (30)")  # type: ignore[union-attr]
