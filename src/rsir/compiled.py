"""Inner loops compiled by numba, where it is installed (`pip install 'rsir[fast]'`).

Modules of such loops import numba when they are loaded, so they are asked for by name and only
where they are used; each has a counterpart in PyTorch's operations with the same results.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import torch

from rsir.watch import Watch

Loop = TypeVar("Loop", bound=Callable[..., Any])

LOOPS = (
    "data/lookups.py",
    "models/attend.py",
    "models/by_bytes.py",
    "models/fma.py",
    "models/forward.py",
    "models/gelu.py",
    "models/own_first.py",
    "models/registers.py",
    "models/search.py",
    "models/settle.py",
    "models/standing.py",
    "models/vnni.py",
    "steps.py",
)
"""All files whose text goes into compiled loops."""


@cache
def loops(module: str) -> ModuleType | None:
    """A module of compiled loops; None without numba.

    >>> loops("rsir.data.lookups") in (None, import_module("rsir.data.lookups"))
    True
    """
    try:
        import_module("numba")
    except ImportError:
        return None
    return import_module(module)


def tell_of_compiling(watch: Watch, device: torch.device | str) -> None:
    """Say that loops are about to be compiled, where none is kept: generation stands still meanwhile."""
    if torch.device(device).type == "cpu" and find_spec("numba") and not any(Path(_folder()).rglob("*.nbi")):
        watch.note("compiling loops for this machine, the first time only: up to a minute")


def compiled(function: Loop, *, makes_arrays: bool = True, any_order: bool = False) -> Loop:
    """Compile at the first call, to run without the interpreter's lock; kept on disk where there is a place.

    Args:
        function: the loop; arithmetic keeps its order, as in Python.
        makes_arrays: False for one that only looks at the arrays it is given: then numba does not count who
            holds each row, which for a short row takes longer than what is done to it.
        any_order: additions in an order that fits into registers, the same one at each call.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "_nrt": makes_arrays}
    if any_order:
        options["fastmath"] = {"reassoc", "contract", "nsz"}
    try:
        with _kept_in(_folder()):
            return cast(Loop, numba.njit(**options, cache=True)(function))
    except (RuntimeError, OSError):  # no folder to keep it in
        return cast(Loop, numba.njit(**options)(function))


lean = partial(compiled, makes_arrays=False)
"""`compiled` for a loop that makes no arrays."""
reordered = partial(lean, any_order=True)
"""Likewise, with additions in an order that fits into registers."""


@cache
def _folder() -> str:
    """Where compiled loops are kept: a folder for each text of all of them.

    numba compiles anew when a function's own file changes, but not when a function that it calls does.
    """
    digest = hashlib.sha256()
    for name in LOOPS:
        digest.update((Path(__file__).parent / name).read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(home) / "rsir" / "loops" / digest.hexdigest()[:16])


@contextmanager
def _kept_in(folder: str) -> Iterator[None]:
    """Where numba keeps what is decorated meanwhile; others who use numba keep their own place."""
    config: Any = import_module("numba.core.config")
    before = config.CACHE_DIR
    config.CACHE_DIR = folder
    try:
        yield
    finally:
        config.CACHE_DIR = before
