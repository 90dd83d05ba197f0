"""An update recorded once on a GPU and replayed for batch after batch.

An update of a small network is some four hundred kernels of about three microseconds each, and Python takes
longer to ask for them than the GPU to run them. A CUDA graph asks for all of them at once; it wants every
tensor to have one shape and one place, so batches are filled up to one (`Room`) and copied to where the
recorded work reads them (`Slot`). Random numbers are drawn as they would be without: dropout follows
PyTorch's generator.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rsir.data.batches import Batch
from rsir.data.room import Room, Slot

_BEFORE = 3
"""Updates made before one is recorded: libraries set themselves up and kernels are compiled at the first."""


class Replay:
    """Makes updates, recorded ones where it can; call it `beside` other work.

    Args:
        room: what batches are filled up to; one that does not fit is not replayed.
        update: one update of the model from a batch, without a look at any value; returns the loss. What
            changes from update to update beside the batch, it must read from tensors that stay in place.
        device: a GPU.
    """

    def __init__(self, room: Room, update: Callable[[Batch], Tensor], device: torch.device | str) -> None:
        self._stream = torch.cuda.Stream(device)
        self._room, self._update, self._before = room, update, _BEFORE
        self._slot: Slot | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss = torch.empty(0)

    def __call__(self, batch: Batch) -> Tensor:
        """One update; its loss, a scalar that the next update overwrites."""
        if not self._room.holds(batch):
            return self._update(batch)
        if self._slot is None:
            self._slot = Slot(self._room, batch)
        self._slot.put(batch)
        if self._before:
            self._before -= 1
            return self._update(self._slot.batch())
        if self._graph is None:
            self._graph = self._record(self._slot)
        self._graph.replay()
        return self._loss

    @contextmanager
    def beside(self) -> Iterator[None]:
        """A stream of its own, on which work can be recorded; what was asked for before is waited for."""
        now = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(now)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            now.wait_stream(self._stream)

    def _record(self, slot: Slot) -> torch.cuda.CUDAGraph:
        """Record an update from whatever is in the slot; nothing is run.

        Another graph must not be freed meanwhile, as the garbage collector might at any moment.
        """
        graph = torch.cuda.CUDAGraph()
        gc.collect()
        collects = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._loss = self._update(slot.batch())
        finally:
            if collects:
                gc.enable()
        return graph
