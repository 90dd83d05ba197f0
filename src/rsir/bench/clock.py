"""What a figure is measured with: clocks, the rate of a plain matrix product, the machine's facts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from rsir.devices import environment, peak_rss_bytes

T = TypeVar("T")

LEAST_SECONDS = 0.2
"""A product is repeated for at least so long before its rate is taken."""


@dataclass(frozen=True)
class Timed(Generic[T]):
    """What an act gave, and what it took.

    Attributes:
        result: what it returned.
        seconds: wall time.
        cpu_seconds: processor time of all threads; on a busy machine the steadier of the two.
    """

    result: T
    seconds: float
    cpu_seconds: float


def timed(act: Callable[[], T], repeats: int = 1) -> Timed[T]:
    """The least of some repeats, in wall and in processor time: what was disturbed least.

    >>> timed(lambda: 6 * 7).result
    42
    """
    return interleaved({"": act}, repeats)[""]


def interleaved(acts: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, Timed[T]]:
    """All acts in turn, again and again, so that other work on the machine disturbs all of them alike.

    >>> [found.result for found in interleaved({"a": lambda: 1, "b": lambda: 2}, 2).values()]
    [1, 2]
    """
    rounds = [{name: _once(act) for name, act in acts.items()} for _ in range(repeats)]
    return {name: _least([found[name] for found in rounds]) for name in acts}


def _least(found: list[Timed[T]]) -> Timed[T]:
    seconds = min(one.seconds for one in found)
    return Timed(found[0].result, seconds, min(one.cpu_seconds for one in found))


def _once(act: Callable[[], T]) -> Timed[T]:
    _wait()
    wall, processor = time.perf_counter(), time.process_time()
    result = act()
    _wait()
    return Timed(result, time.perf_counter() - wall, time.process_time() - processor)


def _wait() -> None:
    """A GPU works on after Python has gone on; here it is waited for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes() -> int:
    """The largest resident memory of this process so far, in bytes.

    Linux counts in a child's `ru_maxrss` what its parent held when it started it; `VmHWM` does not.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return peak_rss_bytes()


class Product:
    """The plain product (rows × dim)·(dim × columns), repeated for some `LEAST_SECONDS`.

    A product of r × d by d × c takes 2·r·d·c operations.

    >>> Product(8, 8, 8).rate(timed(Product(8, 8, 8))) > 0
    True
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        columns: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.left = torch.randn(rows, dim, device=device).to(dtype)
        self.right = torch.randn(columns, dim, device=device).to(dtype)
        self.out = torch.empty(rows, columns, dtype=dtype, device=device)
        self.times = 1
        self.times = max(1, round(LEAST_SECONDS / max(1e-6, timed(self, 3).seconds)))
        self.operations = 2.0 * rows * dim * columns * self.times

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self.times):
            torch.mm(self.left, self.right.T, out=self.out)

    def rate(self, took: Timed[Any]) -> float:
        """Floating-point operations a second."""
        return self.operations / took.seconds


def circumstances(benchmark: str, device: torch.device | str) -> dict[str, object]:
    """What was run when and where: date, commit of the code, the machine and how busy it was."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": environment(device),
        "load_average": round(os.getloadavg()[0], 2),
        **({"peak_device_bytes": torch.cuda.max_memory_allocated(device)} if on_gpu else {}),
    }


def commit() -> str | None:
    """The commit of the checkout the code runs from, with "+" if it was changed since; None outside one."""
    place = Path(__file__).parents[2]
    told = _git(place, "rev-parse", "--short=10", "HEAD")
    if not told or _git(place, "ls-files", "--error-unmatch", str(place / "rsir" / "__init__.py")) is None:
        return None
    return told + ("+" if _git(place, "status", "--porcelain", "--untracked-files=no", str(place)) else "")


def _git(place: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def figure(value: float, digits: int = 4) -> float:
    """A measured figure, to so many significant digits.

    >>> figure(123456.789), figure(0.000123456)
    (123500.0, 0.0001235)
    """
    return float(f"{value:.{digits}g}")
