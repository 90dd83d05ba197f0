"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; a test that asks for it skips where there is none."""
    folder = Path(os.environ.get("RSIR_DATA_DIR", "../shared/data"))
    folder = folder if folder.is_absolute() else ROOT / folder
    if not (folder / "Beauty.txt").exists():
        pytest.skip(f"no real data in {folder}; set RSIR_DATA_DIR")
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests are small: a second thread costs more than it brings, above all on a busy machine."""
    torch.set_num_threads(1)
