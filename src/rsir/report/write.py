"""One report of a run: what it says is put together once and rendered twice."""

from __future__ import annotations

from pathlib import Path

from rsir.files import write_text
from rsir.report.blocks import Document, Section
from rsir.report.closing import cost_section, protocol_section, reproduce_section, settings_section
from rsir.report.controls import controls_section
from rsir.report.data import data_section, source_section
from rsir.report.examples import examples_section
from rsir.report.generation import acceptance_section, leakage_section
from rsir.report.html import to_html
from rsir.report.markdown import to_markdown
from rsir.report.results import bucket_section, curves_section, outcome_section, training_section
from rsir.report.verdict import answer
from rsir.report.view import View
from rsir.report.yardsticks import yardstick_section
from rsir.store import RunStore


def write_report(folder: str | Path) -> Path:
    """Write `report.html` and `report.md` into a run directory, finished or not.

    Args:
        folder: the run directory.

    Returns:
        The path of the HTML file.

    Raises:
        StoreError: if the folder is no run directory, is damaged, or cannot be written.

    >>> write_report("runs/quickstart")  # doctest: +SKIP
    PosixPath('runs/quickstart/report.html')
    """
    document = compose(View.load(RunStore.open(folder)))
    path = Path(folder) / "report.html"
    write_text(path.with_suffix(".md"), to_markdown(document))
    write_text(path, to_html(document))
    return path


def compose(view: View) -> Document:
    """Everything a report says, the answer first."""
    sections: list[Section | None] = [
        outcome_section(view),
        controls_section(view),
        curves_section(view),
        training_section(view),
        acceptance_section(view),
        data_section(view),
        leakage_section(view),
        examples_section(view),
        bucket_section(view),
        yardstick_section(view),
        protocol_section(view),
        source_section(view),
        settings_section(view),
        cost_section(view),
        reproduce_section(view),
    ]
    return Document(
        title=view.name,
        subtitle=view.subtitle,
        answer=answer(view),
        sections=tuple(section for section in sections if section is not None),
    )
