"""Recursive self-improving recommendation (RSIR, arXiv 2602.15659)."""

__version__ = "0.1.0"
