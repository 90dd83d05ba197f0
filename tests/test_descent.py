"""One step of a descent against what it should be by hand; and on from a snapshot."""

import pytest
import torch
from torch import nn

from rsir.descent import Descent, copied

SETTINGS = {"learning_rate": 0.1, "weight_decay": 0.0, "warmup": 3, "gradient_clip": None, "ema": 0.9}


def one_weight(value: float = 1.0) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def steps(descent: Descent, model: nn.Linear, first: int, count: int) -> list[float]:
    """The weight after each update of a loss whose gradient is 1: Adam then moves by its rate."""
    found = []
    for update in range(first, first + count):
        descent.pace(update)
        descent.step(model.weight.sum())
        found.append(float(model.weight.detach()))
    return found


def test_the_rate_warms_up_and_the_mean_follows() -> None:
    model = one_weight()
    descent = Descent(model, "cpu", **SETTINGS)
    found = steps(descent, model, 0, 5)
    rates = [0.1 * min(1, (update + 1) / 4) for update in range(5)]
    assert found == pytest.approx([1 - sum(rates[: n + 1]) for n in range(5)], abs=1e-6)
    mean = 1.0
    for update, weight in enumerate(found):
        mean += (1 - min(0.9, (1 + update) / (10 + update))) * (weight - mean)
    found_mean = descent.mean()
    assert found_mean is not None
    assert float(found_mean["weight"]) == pytest.approx(mean, abs=1e-6)


def test_a_gradient_is_clipped_and_weights_decay() -> None:
    model = one_weight()
    descent = Descent(model, "cpu", **{**SETTINGS, "gradient_clip": 0.5, "weight_decay": 0.2, "warmup": 0})
    descent.pace(0)
    descent.step(7 * model.weight.sum())
    assert float(model.weight.grad) == pytest.approx(0.5)
    assert float(model.weight.detach()) == pytest.approx(1 - 0.1 * 0.2 - 0.1, abs=1e-6)


def test_the_mean_follows_by_a_number_kept_in_memory_as_by_one_in_python() -> None:
    """The way of a GPU, here on a CPU."""
    found = []
    for step in (None, torch.tensor(0.25)):
        descent = Descent(one_weight(), "cpu", **SETTINGS)
        descent._mean_step, descent._kept_step = 0.25, step
        descent._average({"weight": (mean := torch.tensor([[3.0]]))})
        found.append(float(mean))
    assert found == [2.5, 2.5]


class Odd(nn.Module):
    """A weight with two names, and a number that is no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one = one_weight()
        self.other = self.one
        self.register_buffer("count", torch.zeros(()))


def test_a_weight_with_two_names_has_one_mean_and_other_state_is_as_it_is() -> None:
    model = Odd()
    descent = Descent(model, "cpu", **SETTINGS)
    for update in range(3):
        descent.pace(update)
        descent.step(model.one.weight.sum())
        model.count += 1
    mean = descent.mean()
    assert mean is not None
    assert mean.keys() == model.state_dict().keys()
    assert float(mean["one.weight"]) == float(mean["other.weight"])
    assert float(model.one.weight.detach()) < float(mean["one.weight"]) < 1
    assert mean["count"] == 3


@pytest.mark.parametrize("ema", [None, 0.9])
def test_it_goes_on_from_a_snapshot(ema: float | None) -> None:
    settings = {**SETTINGS, "ema": ema}
    whole = one_weight()
    expected = steps(Descent(whole, "cpu", **settings), whole, 0, 6)
    first = one_weight()
    descent = Descent(first, "cpu", **settings)
    steps(descent, first, 0, 3)
    kept = {name: {key: x.clone() for key, x in group.items()} for name, group in descent.snapshot().items()}
    second = one_weight(float(first.weight.detach()))
    again = Descent(second, "cpu", **settings)
    again.resume({**kept, "best": copied(first)})
    assert steps(again, second, 3, 3) == expected[3:]
    assert (again.mean() is None) == (ema is None)
    assert torch.equal(second.weight, whole.weight)
