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
        named = dict(model.named_parameters())
        self._table_name = next((name for name, x in named.items() if table and x is table.weight), "")
        self._named = {name: x for name, x in named.items() if name != self._table_name}
        self._model, self._rate, self._warmup = model, learning_rate, warmup
        self._clip, self._decay = gradient_clip, ema
        self._adam = torch.optim.AdamW(
            [{"params": list(self._named.values())}],
            lr=torch.tensor(learning_rate, device=device) if on_gpu else learning_rate,
            weight_decay=weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self._mean_step = 0.0
        self._kept_step = torch.zeros((), device=device) if on_gpu else None
        self._means = {name: x.detach().clone() for name, x in self._named.items()} if ema else None
        self._touched = TouchedRows(table, ema is not None) if table and self._table_name else None

    def pace(self, update: int) -> None:
        """Set how far the given update moves the weights, and these their mean; young means follow faster."""
        rate = self._rate * min(1.0, (update + 1) / (self._warmup + 1))
        for group in self._adam.param_groups:
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate
        if self._touched is not None:
            self._touched.pace(rate)
        if self._decay is not None:
            self._mean_step = 1 - min(self._decay, (1 + update) / (10 + update))
            if self._kept_step is not None:
                self._kept_step.fill_(self._mean_step)

    def step(self, loss: Tensor) -> None:
        """Move the weights down the gradient of a loss, and their mean towards them."""
        self._model.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._adam.step()
        if self._touched is not None:
            self._touched.step(self._mean_step)
        if self._means:
            self._average(self._means)

    @torch.no_grad()
    def _average(self, kept: State) -> None:
        means, weights = list(kept.values()), list[Tensor](self._named.values())
        if self._kept_step is None:
            torch._foreach_lerp_(means, weights, self._mean_step)
        else:
            further = torch._foreach_sub(weights, means)
            torch._foreach_mul_(further, self._kept_step)
            torch._foreach_add_(means, further)

    def mean(self) -> State | None:
        """The network's state with the running mean of its weights; None without one.

        A weight that has two names has one mean; what is no weight is as it is.
        """
        if self._means is None:
            return None
        means = dict(self._means)
        if self._touched is not None and (of_table := self._touched.mean()) is not None:
            means[self._table_name] = of_table
        of_weight = {id(x): means[name] for name, x in self._model.named_parameters()}
        names = self._model.named_parameters(remove_duplicate=False)
        state = {name: x.detach() for name, x in self._model.state_dict().items()}
        return {**state, **{name: of_weight[id(x)] for name, x in names if name in state}}

    def snapshot(self) -> dict[str, State]:
        """All that a later process needs to go on, in groups: "ema", and "adam.NAME" for each parameter."""
        names = list(self._named)
        moments = self._adam.state_dict()["state"]
        groups: dict[str, State] = {f"adam.{names[index]}": state for index, state in moments.items()}
        if self._touched is not None:
            groups[f"adam.{self._table_name}"] = self._touched.snapshot()
        return groups if (mean := self.mean()) is None else {"ema": mean, **groups}

    def resume(self, groups: dict[str, State]) -> None:
        """Go on from a snapshot; other groups are passed over."""
        mean = groups.get("ema")
        self._means = None if mean is None else {name: mean[name] for name in self._named}
        state = self._adam.state_dict()
        state["state"] = {i: groups[f"adam.{n}"] for i, n in enumerate(self._named) if f"adam.{n}" in groups}
        self._adam.load_state_dict(state)
        if self._touched is not None:
            of_table = None if mean is None else mean[self._table_name]
            self._touched.resume(groups[f"adam.{self._table_name}"], of_table)

    def release(self) -> None:
        """Leave the network without gradients, and its table as it was."""
        self._model.zero_grad(set_to_none=True)
        if self._touched is not None:
            self._touched.release()


def copied(model: nn.Module) -> State:
    """A copy of a network's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
