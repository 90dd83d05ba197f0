"""How much a model disagrees with itself about a sequence: Monte Carlo dropout, the target's part of BALD.

With p_t the probability of a position's item in the t-th pass with dropout on and p̄ the mean over T passes
(Gal & Ghahramani, ICML 2016; Houlsby et al. 2011; arXiv 2610.04302),

    I = −p̄ log p̄ + (1/T) Σ_t p_t log p_t  ≥ 0,

and a sequence scores the mean of I over its generated positions. Masks cannot be keyed by row, since
layers draw them for a whole batch; so the rows are put in a fixed order (longest first, then as given) and
cut into batches of `BATCH`, and pass t draws from a generator keyed by (seed, t). The result depends on the
rows and on the kind of device (a GPU draws other masks), and on nothing else.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rsir.errors import ConfigError
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import generator_seed

BATCH = 256
_TILE_SCORES = {"cpu": 800_000, "cuda": 128_000_000}
"""Of a CPU's, so many that a tile stays in a core's cache: half the time of tiles five times as large."""


def disagreement(model: SequenceModel, sequences: Ragged, *, passes: int, seed: int) -> Tensor:
    """The mean disagreement over the generated positions of each sequence; float64 (R,), ≥ 0, in nats.

    Args:
        model: a network with dropout; a copy is put in training mode.
        sequences: R rows of at least two items; every item after the first was generated. Of rows longer than
            the model can read, the last positions count.
        passes: T ≥ 2.
        seed: fixes the masks.

    Raises:
        ConfigError: if the model has no dropout: all passes would agree.
    """
    refuse_no_dropout(model)
    if not len(sequences):
        return torch.empty(0, dtype=torch.float64, device=sequences.values.device)
    network = copy.deepcopy(model).train()
    device = next(network.parameters()).device
    order = sequences.lengths.argsort(descending=True, stable=True)
    events = sequences.select(order).tail(model.max_length + 1).to(device)
    zero = torch.zeros_like(events.lengths)
    inputs = events.slice_rows(zero, events.lengths - 1)
    target = events.slice_rows(zero + 1, events.lengths).values
    p_TN = torch.stack(
        [_one_pass(network, inputs, target, generator_seed(seed, "pass", number)) for number in range(passes)]
    )
    mean = torch.zeros(len(inputs), dtype=torch.float64, device=device)
    mean = mean.index_add(0, inputs.row, target_bald(p_TN)) / inputs.lengths
    return torch.empty_like(mean).index_copy(0, order.to(device), mean).to(sequences.values.device)


def target_bald(p_TN: Tensor) -> Tensor:
    """The target's part of BALD from its probability in each of T passes; float64 (N,).

    >>> target_bald(torch.tensor([[0.5, 1.0], [0.5, 0.0]], dtype=torch.float64)).tolist()
    [0.0, 0.34657359027997264]
    """
    mean = p_TN.mean(0)
    return (torch.special.entr(mean) - torch.special.entr(p_TN).mean(0)).clamp(min=0)


@torch.no_grad()
def _one_pass(network: SequenceModel, inputs: Ragged, target: Tensor, seed: int) -> Tensor:
    """Probability of the target at every position under one draw of masks; float64 (N,)."""
    vectors, offsets, parts = network.item_vectors(), inputs.host_offsets.tolist(), []
    devices = [inputs.values.device] if inputs.values.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for start in range(0, len(inputs), BATCH):
            stop = min(start + BATCH, len(inputs))
            flat = slice(offsets[start], offsets[stop])
            parts.append(_probability(network.encode(inputs.span(start, stop)), vectors, target[flat]))
    return torch.cat(parts)


def _probability(hidden_ND: Tensor, vectors_VD: Tensor, target_N: Tensor) -> Tensor:
    """Softmax probability of one item a state, tile by tile of states; float64 (N,)."""
    tile = max(1, _TILE_SCORES[hidden_ND.device.type] // len(vectors_VD))
    items_DV, parts = vectors_VD.T.contiguous(), list[Tensor]()
    room = hidden_ND.new_empty(min(tile, len(hidden_ND)), len(vectors_VD))
    for hidden, target in zip(hidden_ND.split(tile), target_N.split(tile), strict=True):
        scores = torch.mm(hidden, items_DV, out=room[: len(hidden)])
        parts.append(torch.softmax(scores, 1, out=scores).gather(1, target[:, None]).squeeze(1))
    return torch.cat(parts).double()


def refuse_no_dropout(model: nn.Module) -> None:
    """Fail if a network has no dropout.

    Raises:
        ConfigError: says which setting to raise.
    """
    if not has_dropout(model):
        raise ConfigError(
            f"rule='disagreement' needs dropout, and {type(model).__name__} has none: set model.dropout "
            "above 0, or choose another acquisition.rule"
        )


def has_dropout(model: nn.Module) -> bool:
    """Whether some layer of a network drops."""
    return any(_rate(module) > 0 for module in model.modules())


def _rate(module: nn.Module) -> float:
    """The dropout rate of a layer: `rate` or `p` of a dropout layer, `dropout` of one that drops itself."""
    if "dropout" in type(module).__name__.lower():
        rate = getattr(module, "rate", getattr(module, "p", 0.0))
    else:
        rate = getattr(module, "dropout", 0.0)
    return float(rate) if isinstance(rate, int | float) else 0.0
