"""Acts on parts of a task side by side: threads of Python, each with one thread of PyTorch's.

PyTorch cuts each operation between its threads and waits for the slower one at its end; where a
task falls in parts that need nothing of each other, each thread takes its own part through all operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def side_by_side(
    act: Callable[[Part], Result],
    parts: Sequence[Part],
    threads: int,
    give_up: Callable[[], None] = lambda: None,
) -> list[Result]:
    """What `act` gives for each part, in order.

    Args:
        act: must not depend on settings that PyTorch keeps for each thread, such as `no_grad`.
        parts: of the task.
        threads: how many work at a time.
        give_up: called at once where a part fails or the user interrupts; the other parts are waited for.

    >>> side_by_side(lambda part: 2 * part, [1, 2, 3], threads=2)
    [2, 4, 6]
    """
    if min(threads, len(parts)) < 2:
        return [act(part) for part in parts]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            running = [pool.submit(act, part) for part in parts]
            try:
                return [one.result() for one in running]
            except BaseException:
                give_up()
                raise
    finally:
        torch.set_num_threads(before)  # a worker's call also sets what later threads begin with


@contextmanager
def undivided() -> Iterator[int]:
    """PyTorch's operations take one thread meanwhile; gives how many it had, for `side_by_side`.

    Where operations are short, a second thread spins at their ends for as long as it saves, and on a busy
    machine for much longer.

    >>> with undivided() as threads:
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
