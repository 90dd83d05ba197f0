"""Acts on parts of a batch side by side: threads of Python, each with one thread of PyTorch's.

PyTorch cuts each operation between its threads and waits for the slower one at its end; where a
batch falls in parts that need nothing of each other, each thread takes its own part through all operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

_WORTH = 64
"""Parts smaller than this are not worth a thread."""
_given: ContextVar[int | None] = ContextVar("given", default=None)


def given() -> int:
    """The threads for `side_by_side`: as many as PyTorch was given."""
    return _given.get() or torch.get_num_threads()


def side_by_side(act: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What `act` gives for each part, in order, on as many threads as PyTorch was given.

    `act` must not depend on settings that PyTorch keeps for each thread, such as `no_grad`: it makes its own.

    >>> side_by_side(lambda part: 2 * part, [1, 2, 3])
    [2, 4, 6]
    """
    threads, before = min(given(), len(parts)), torch.get_num_threads()
    if threads < 2:
        return [act(part) for part in parts]
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            return list(pool.map(act, parts))
    finally:
        torch.set_num_threads(before)  # a worker's call also sets what later threads begin with


@contextmanager
def undivided() -> Iterator[None]:
    """PyTorch's operations take one thread meanwhile, and `side_by_side` all that PyTorch was given.

    Where operations are short, a second thread spins at their ends for as long as it saves, and on a busy
    machine for much longer.

    >>> with undivided():
    ...     torch.get_num_threads()
    1
    """
    threads = given()
    token = _given.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _given.reset(token)


def even_parts(size: int, largest: int) -> list[slice]:
    """`range(size)` in parts of like length, none longer than `largest`; each thread gets as many.

    >>> even_parts(10, 4)[-1].stop
    10
    """
    number = -(-size // largest)
    if number > 1 or size >= given() * _WORTH:
        number = -(-number // given()) * given()
    edges = [size * n // number for n in range(number + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
