"""How sharp a minimum is: the largest Hessian eigenvalue, and the loss along random directions.

RSIR §4 claims that synthetic data regularises: the successor lies in a flatter place than the base.

- λ_max(∇² L) by Lanczos on Hessian-vector products (Pearlmutter 1994: H v = ∇ (∇L · v)), with full
  reorthogonalisation, since without it converged eigenvalues come back as ghosts.
- L(θ + α d) for random d, each filter of d scaled to the norm of the same filter of θ (Li et al., NeurIPS
  2018), so that networks whose layers can be rescaled are compared fairly.

The loss is the mean cross-entropy over the whole catalogue at every position, dropout off, in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from rsir.data.sequences import Sequences
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import generator_seed, permutation

Operator = Callable[[Tensor], Tensor]


def lanczos(operator: Operator, size: int, *, steps: int = 20, seed: int = 0) -> Tensor:
    """Ritz values of a symmetric operator, ascending; float64 (at most `steps`,).

    The extreme ones converge first: the last is a lower bound of the largest eigenvalue, and near it after a
    few tens of steps.

    Args:
        operator: v ↦ A v for float64 (size,).
        size: dimension of the space.
        steps: products A v; memory is steps × size.
        seed: fixes the first vector.

    >>> a = torch.diag(torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64))
    >>> [round(value, 6) for value in lanczos(lambda v: a @ v, 3).tolist()]
    [-1.0, 0.5, 3.0]
    """
    generator = torch.Generator().manual_seed(generator_seed("lanczos", seed))
    v = torch.randn(size, generator=generator, dtype=torch.float64)
    v = v.to(operator(torch.zeros(size, dtype=torch.float64)).device)
    basis: list[Tensor] = []
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    norm = v.norm()
    while len(basis) < min(steps, size):
        basis.append(v / norm)
        w = operator(basis[-1])
        diagonal.append(basis[-1] @ w)
        for _ in range(2):  # twice is enough (Parlett 1980)
            done = torch.stack(basis)
            w = w - done.T @ (done @ w)
        v, norm = w, w.norm()
        if float(norm) < 1e-10 * max(1.0, float(torch.stack(diagonal).abs().max())):
            break  # an invariant subspace: the values are exact
        beside.append(norm)
    matrix = torch.diag(torch.stack(diagonal))
    for place, value in enumerate(beside[: len(diagonal) - 1]):
        matrix[place, place + 1] = matrix[place + 1, place] = value
    return torch.linalg.eigvalsh(matrix)


def hessian_operator(loss: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Operator:
    """The product ∇² loss · v for flat v, over the given parameters.

    The graph of the gradient is made once and kept: memory is that of one backward pass.
    """
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])

    def product(v: Tensor) -> Tensor:
        found = torch.autograd.grad(
            flat, parameters, grad_outputs=v.to(flat), retain_graph=True, allow_unused=True
        )
        parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
        return torch.cat([part.flatten() for part in parts]).detach()

    return product


def largest_eigenvalue(
    model: SequenceModel, data: Sequences, *, rows: int = 256, steps: int = 20, seed: int = 0
) -> float:
    """λ_max of the Hessian of the loss on `rows` sequences, over all parameters.

    Compare models on the same data, rows and seed.
    """
    network, sample = _exact(model), _sample(model, data, rows, seed)
    parameters = [p for p in network.parameters() if p.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        product = hessian_operator(lambda: next_item_loss(network, sample), parameters)
        size = sum(p.numel() for p in parameters)
        return float(lanczos(product, size, steps=steps, seed=seed)[-1])


@torch.no_grad()
def loss_along(
    model: SequenceModel,
    data: Sequences,
    *,
    distances: Sequence[float] = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0),
    directions: int = 3,
    rows: int = 256,
    seed: int = 0,
) -> list[list[float]]:
    """L(θ + α d) at each distance α along random filter-normalised directions d; one list a direction."""
    network, sample = _exact(model), _sample(model, data, rows, seed)
    start = [p.detach().clone() for p in network.parameters()]
    curves = []
    for number in range(directions):
        d = filter_normalised(start, seed=generator_seed(seed, "direction", number))
        curve = []
        for alpha in distances:
            for p, at, along in zip(network.parameters(), start, d, strict=True):
                p.copy_(at + alpha * along)
            curve.append(float(next_item_loss(network, sample)))
        curves.append(curve)
    return curves


def filter_normalised(parameters: Sequence[Tensor], *, seed: int) -> list[Tensor]:
    """A Gaussian direction whose every filter has the norm of the parameters' filter (Li et al. 2018).

    A filter is a row of a weight matrix or of an embedding; biases and norms (one dimension) do not move.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = []
    for p in parameters:
        d = torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device)
        if p.dim() < 2:
            directions.append(torch.zeros_like(p))
            continue
        length = d.flatten(1).norm(dim=1).clamp(min=1e-12)
        scale = p.flatten(1).norm(dim=1) / length
        directions.append(d * scale.view(-1, *[1] * (p.dim() - 1)))
    return directions


def next_item_loss(network: SequenceModel, sample: tuple[Ragged, Tensor]) -> Tensor:
    """Mean cross-entropy over the catalogue at every position; twice differentiable."""
    inputs, target = sample
    return F.cross_entropy(network.encode(inputs) @ network.item_vectors().T, target)


def _exact(model: nn.Module) -> SequenceModel:
    """A copy in float64 with dropout off, so that the loss is a smooth function of the parameters."""
    network = copy.deepcopy(model).double().eval()
    assert isinstance(network, SequenceModel)
    return network


def _sample(model: SequenceModel, data: Sequences, rows: int, seed: int) -> tuple[Ragged, Tensor]:
    """Inputs and targets of some sequences of at least two events."""
    usable = (data.events.lengths >= 2).nonzero().squeeze(1)
    drawn = usable[permutation(len(usable), seed, "sharpness")][:rows].sort().values
    events = data.events.select(drawn).tail(model.max_length + 1).to(next(model.parameters()).device)
    zero = torch.zeros_like(events.lengths)
    inputs = events.slice_rows(zero, events.lengths - 1)
    return inputs, events.slice_rows(zero + 1, events.lengths).values
