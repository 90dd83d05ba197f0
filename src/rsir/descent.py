"""How weights move: AdamW after a linear warm-up, and a running mean of the weights beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

    Attributes:
        mean: the running mean of the weights; None without one.
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
    ) -> None:
        on_gpu = torch.device(device).type == "cuda"
        self._model, self._rate, self._warmup = model, learning_rate, warmup
        self._clip, self._decay = gradient_clip, ema
        self._adam = torch.optim.AdamW(
            model.parameters(),
            lr=torch.tensor(learning_rate, device=device) if on_gpu else learning_rate,
            weight_decay=weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self._mean_step: float | Tensor = torch.zeros((), device=device) if on_gpu else 0.0
        self.mean = copied(model) if ema else None

    def pace(self, update: int) -> None:
        """Set how far the given update moves the weights, and these their mean; young means follow faster."""
        rate = self._rate * min(1.0, (update + 1) / (self._warmup + 1))
        for group in self._adam.param_groups:
            group["lr"] = _set(group["lr"], rate)
        if self._decay is not None:
            self._mean_step = _set(self._mean_step, 1 - min(self._decay, (1 + update) / (10 + update)))

    def step(self, loss: Tensor) -> None:
        """Move the weights down the gradient of a loss, and their mean towards them."""
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._adam.step()
        if self.mean is not None:
            self._average(self.mean)

    @torch.no_grad()
    def _average(self, mean: State) -> None:
        now = dict(self._model.named_parameters())
        means, weights = [mean[name] for name in now], list[Tensor](now.values())
        if isinstance(self._mean_step, float):
            torch._foreach_lerp_(means, weights, self._mean_step)
        else:
            further = torch._foreach_sub(weights, means)
            torch._foreach_mul_(further, self._mean_step)
            torch._foreach_add_(means, further)

    def snapshot(self) -> dict[str, State]:
        """All that a later process needs to go on, in groups: "ema", and "adam.NAME" for each parameter."""
        names = [name for name, _ in self._model.named_parameters()]
        moments = self._adam.state_dict()["state"]
        groups = {f"adam.{names[index]}": state for index, state in moments.items()}
        return groups if self.mean is None else {"ema": self.mean, **groups}

    def resume(self, groups: dict[str, State]) -> None:
        """Go on from a snapshot; other groups are passed over."""
        self.mean = groups.get("ema")
        names = [name for name, _ in self._model.named_parameters()]
        state = self._adam.state_dict()
        state["state"] = {i: groups[f"adam.{n}"] for i, n in enumerate(names) if f"adam.{n}" in groups}
        self._adam.load_state_dict(state)


def copied(model: nn.Module) -> State:
    """A copy of a network's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _set(kept: float | Tensor, value: float) -> float | Tensor:
    """The value, on a GPU in the place where it is kept."""
    return kept.fill_(value) if isinstance(kept, Tensor) else value
