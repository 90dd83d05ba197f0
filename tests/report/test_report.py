"""Reports of whole runs: one file, no network, ids escaped, the twin says the same."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from report.runs import SCRIPT, choose, comparison, small

import rsir
from rsir.errors import StoreError
from rsir.report import write_report

VOID = {"meta", "br", "img", "hr", "link", "input"}
SECTIONS = [
    "Outcome",
    "Curves by round",
    "Training of the base",
    "Acceptance and stop reasons",
    "Data before and after",
    "Synthetic sequences beside their source",
    "Where gains fall",
    "Yardsticks",
    "Protocol",
    "Data",
    "Settings and environment",
    "Time, memory and ending",
    "How to make it again",
]


class Page(HTMLParser):
    """Every tag, attribute and piece of text; a tag that is not closed in order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def read(folder: Path) -> tuple[str, Page, str]:
    path = write_report(folder)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    return html, Page(html), (folder / "report.md").read_text(encoding="utf-8")


def headings(markdown: str) -> list[str]:
    return re.findall(r"^## (.*)$", markdown, re.MULTILINE)


def test_one_file_without_network_or_script(finished: Path) -> None:
    html, page, _ = read(finished)
    assert "http" not in html
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert all((value or "").startswith("#") for name, value in page.attributes if name in ("href", "src"))
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_ids_are_distinct_and_links_lead_somewhere(finished: Path) -> None:
    _, page, _ = read(finished)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in page.attributes if name == "href" and value} <= set(ids)


def test_all_sections_in_order_in_both(finished: Path) -> None:
    html, _, markdown = read(finished)
    assert headings(markdown) == SECTIONS
    assert [title for title in re.findall(r"<h2>(.*?)</h2>", html) if title in SECTIONS] == SECTIONS
    assert markdown.index("\n> **") < markdown.index("## ")
    assert html.index('<section class="answer') < html.index("<h2>Outcome")


def test_the_twin_says_the_same(finished: Path) -> None:
    _, page, markdown = read(finished)
    figures = re.findall(r"\d\.\d{4}", markdown)
    assert len(figures) > 50
    assert set(figures) <= set(re.findall(r"\d\.\d{4}", page.text))


def test_further_bases_are_shown(finished: Path) -> None:
    *_, markdown = read(finished)
    for number in (1, 2, 3):
        record = json.loads((finished / "bases" / str(number) / "round.json").read_text())
        assert f"| validation | further base {number} | {record['valid']['ndcg@10']:.4f} |" in markdown
        assert f"| further base {number}: train | " in markdown
    assert re.search(r"The base and [23] of other seeds wrote", markdown)


def test_a_further_base_that_is_better_than_what_was_kept_is_told(
    finished: Path, copy: Callable[[Path], Path]
) -> None:
    folder = copy(finished)
    for number, value in ((1, 0.0), (2, 0.999), (3, 0.0)):
        path = folder / "bases" / str(number) / "round.json"
        record = json.loads(path.read_text())
        record["valid"]["ndcg@10"] = value
        path.write_text(json.dumps(record))
    assert "On validation further base 2 is better than the model that was kept" in read(folder)[2]
    path = folder / "bases" / "2" / "round.json"
    path.write_text(path.read_text().replace("0.999", "0.0"))
    assert "is better than the model that was kept" not in read(folder)[2]


def test_hostile_ids_are_text(finished: Path) -> None:
    html, page, markdown = read(finished)
    assert SCRIPT not in html
    assert SCRIPT in page.text, "the commonest item stands in some example"
    assert "<script" not in markdown
    assert "ann\\|bob \\*u" in markdown


def test_markdown_tables_are_rectangular(finished: Path) -> None:
    *_, markdown = read(finished)
    tables = re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_same_run_gives_the_same_report(finished: Path) -> None:
    assert read(finished)[0] == read(finished)[0]


def test_simulated_users_add_leakage_and_the_oracle(simulated: Path) -> None:
    *_, markdown = read(simulated)
    assert "Leakage off the true preferences" in headings(markdown)
    assert "oracle of the simulation" in markdown
    facts = json.loads((simulated / "rounds" / "1" / "generation.json").read_text())
    assert f"{100 * facts['leakage']['observed']:.1f} %" in markdown


def test_real_users_have_neither(finished: Path) -> None:
    *_, markdown = read(finished)
    assert "oracle" not in markdown
    assert "Leakage off" not in markdown


@pytest.mark.parametrize("left", [0, 1, 2])
def test_an_unfinished_run_says_so(finished: Path, copy: Callable[[Path], Path], left: int) -> None:
    folder = copy(finished)
    (folder / "result.json").unlink()
    for path in [*folder.glob("*/*/test.*")]:
        path.unlink()
    for k in range(left, 3):
        shutil.rmtree(folder / "rounds" / str(k))
        shutil.rmtree(folder / "control" / str(k), ignore_errors=True)
    _, page, markdown = read(folder)
    assert "This run is not finished" in page.text
    assert (
        "no trained model yet" if left == 0 else f"the base and {left - 1} of at most 2 rounds"
    ) in page.text
    assert ("Curves by round" in headings(markdown)) == (left == 2)
    assert "--resume" in page.text
    assert "Yardsticks" not in headings(markdown), "the test split stays sealed"


def test_a_round_that_is_generated_but_not_trained(finished: Path, copy: Callable[[Path], Path]) -> None:
    folder = copy(finished)
    (folder / "result.json").unlink()
    (folder / "rounds" / "2" / "round.json").unlink()
    *_, markdown = read(folder)
    assert "round 2: generate" not in markdown
    assert markdown.count("| round 2 |") == 3, "outcomes, stop reasons and pass rates know it"


def test_the_base_alone(tmp_path: Path) -> None:
    rsir.run(None, tmp_path / "run", config=small(recursion={"rounds": 0}))
    *_, markdown = read(tmp_path / "run")
    assert "**The base alone: nothing to compare.**" in markdown
    assert not {"Curves by round", "Where gains fall", "Synthetic sequences beside their source"} & set(
        headings(markdown)
    )


def test_nothing_admitted(tmp_path: Path) -> None:
    rsir.run(None, tmp_path / "run", config=small(generation={"min_length": 50}))
    *_, markdown = read(tmp_path / "run")
    assert "**Nothing was admitted; the base is kept.**" in markdown
    assert "nothing\\_admitted" in markdown
    assert "Synthetic sequences beside their source" not in headings(markdown)


def test_without_control_no_gain_is_claimed(finished: Path, copy: Callable[[Path], Path]) -> None:
    folder = copy(finished)
    shutil.rmtree(folder / "control")
    choose(folder, 1, {"base": comparison(0.01, 0.03)})
    *_, markdown = read(folder)
    assert "**No gain can be claimed: there is no control.**" in markdown
    assert "these differences cannot be put down to the synthetic data" in markdown


def test_rounds_of_other_cases_are_refused(finished: Path, copy: Callable[[Path], Path]) -> None:
    folder = copy(finished)
    choose(folder, 1, {"control": comparison(0.01, 0.03), "base": comparison(0.01, 0.03)})

    path = folder / "control" / "1" / "test.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)
    with pytest.raises(StoreError, match="not of the same cases"):
        write_report(folder)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a run directory"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_half_written_line_is_left_out_and_a_broken_one_refused(
    finished: Path, copy: Callable[[Path], Path]
) -> None:
    folder = copy(finished)
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"time": "20')
    write_report(folder)
    (folder / "log.jsonl").write_text("no json\n")
    with pytest.raises(StoreError, match="damaged"):
        write_report(folder)
