"""Reports, made from the run directory alone: one HTML file and a Markdown twin."""

from rsir.report.write import write_report

__all__ = ["write_report"]
