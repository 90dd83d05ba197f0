"""Recursive self-improving recommendation (RSIR, arXiv 2602.15659).

>>> import rsir
>>> done = rsir.run("events.parquet", "runs/first", rounds=2)  # doctest: +SKIP
>>> done.summary()["chosen_round"]  # doctest: +SKIP
"""

__version__ = "0.1.0"

from rsir.config import Config, load_config
from rsir.data.interactions import Interactions
from rsir.data.read import from_frame, from_sequences, read_log
from rsir.data.sequences import Sequences
from rsir.data.splits import Split, split
from rsir.errors import RsirError
from rsir.evaluate import evaluate
from rsir.generate import generate
from rsir.launch import resume, run
from rsir.recursion import recurse
from rsir.run import Run
from rsir.train import fit

__all__ = [
    "Config",
    "Interactions",
    "RsirError",
    "Run",
    "Sequences",
    "Split",
    "evaluate",
    "fit",
    "from_frame",
    "from_sequences",
    "generate",
    "load_config",
    "read_log",
    "recurse",
    "resume",
    "run",
    "split",
]
