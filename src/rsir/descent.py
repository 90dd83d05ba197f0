"""How weights move: AdamW after a linear warm-up, and a running mean of the weights beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsir.touched import TouchedRows

State = dict[str, Tensor]


class Descent:
    """Moves the weights of a network.

    On a GPU what changes from step to step, the learning rate and how far the mean moves, stays in its
    memory, so that a step can be recorded once and replayed (`rsir.replay`).

    Args:
        model: the network, where it is trained.
        device: where that is.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: updates until the rate is reached.
        gradient_clip: largest norm of a gradient; None for any.
        ema: decay of the running mean in (0, 1); None for none.
        table: one of whose rows only those move that an update touches (`rsir.touched`), without weight
            decay and clipping; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str,
        *,
        learning_rate: float,
        weight_decay: float,
        warmup: int,
        gradient_clip: float | None,
        ema: float | None,
        table: nn.Embedding | None = None,
    ) -> None:
        on_gpu = torch.device(device).type == "cuda"
        self._touched = None if table is None else TouchedRows(table, ema is not None)
        named = dict(model.named_parameters())
        self._apart = next((name for name, x in named.items() if table and x is table.weight), None)
        self._named = {name: x for name, x in named.items() if name != self._apart}
        self._model, self._rate, self._warmup = model, learning_rate, warmup
        self._clip, self._decay = gradient_clip, ema
        self._adam = torch.optim.AdamW(
            self._named.values(),
            lr=torch.tensor(learning_rate, device=device) if on_gpu else learning_rate,
            weight_decay=weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self._mean_step: float | Tensor = torch.zeros((), device=device) if on_gpu else 0.0
        self._mean = copied(model) if ema else None

    def pace(self, update: int) -> None:
        """Set how far the given update moves the weights, and these their mean; young means follow faster."""
        rate = self._rate * min(1.0, (update + 1) / (self._warmup + 1))
        for group in self._adam.param_groups:
            group["lr"] = _set(group["lr"], rate)
        if self._touched is not None:
            self._touched.pace(rate)
        if self._decay is not None:
            self._mean_step = _set(self._mean_step, 1 - min(self._decay, (1 + update) / (10 + update)))

    def step(self, loss: Tensor) -> None:
        """Move the weights down the gradient of a loss, and their mean towards them."""
        self._model.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._adam.step()
        if self._touched is not None:
            self._touched.step(float(self._mean_step))
        if self._mean is not None:
            self._average(self._mean)

    def mean(self) -> State | None:
        """The running mean of the weights; None without one."""
        if self._mean is not None and self._touched is not None and self._apart is not None:
            of_table = self._touched.mean()
            assert of_table is not None
            self._mean[self._apart] = of_table
        return self._mean

    @torch.no_grad()
    def _average(self, mean: State) -> None:
        means, weights = [mean[name] for name in self._named], list[Tensor](self._named.values())
        if isinstance(self._mean_step, float):
            torch._foreach_lerp_(means, weights, self._mean_step)
        else:
            further = torch._foreach_sub(weights, means)
            torch._foreach_mul_(further, self._mean_step)
            torch._foreach_add_(means, further)

    def snapshot(self) -> dict[str, State]:
        """All that a later process needs to go on, in groups: "ema", and "adam.NAME" for each parameter."""
        names = list(self._named)
        moments = self._adam.state_dict()["state"]
        groups: dict[str, State] = {f"adam.{names[index]}": state for index, state in moments.items()}
        if self._touched is not None:
            groups[f"adam.{self._apart}"] = self._touched.snapshot()
        return groups if (mean := self.mean()) is None else {"ema": mean, **groups}

    def resume(self, groups: dict[str, State]) -> None:
        """Go on from a snapshot; other groups are passed over."""
        self._mean = groups.get("ema")
        state = self._adam.state_dict()
        state["state"] = {i: groups[f"adam.{n}"] for i, n in enumerate(self._named) if f"adam.{n}" in groups}
        self._adam.load_state_dict(state)
        if self._touched is not None and self._apart is not None:
            of_table = None if self._mean is None else self._mean[self._apart]
            self._touched.resume(groups[f"adam.{self._apart}"], of_table)

    def release(self) -> None:
        """Leave the network as it is without."""
        self._model.zero_grad(set_to_none=True)
        if self._touched is not None:
            self._touched.release()


def copied(model: nn.Module) -> State:
    """A copy of a network's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _set(kept: float | Tensor, value: float) -> float | Tensor:
    """The value, on a GPU in the place where it is kept."""
    return kept.fill_(value) if isinstance(kept, Tensor) else value
