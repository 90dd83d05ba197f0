"""Run by test_fused_softmax.py: the fused kernels in Triton's interpreter, a line of JSON for each problem.

"exact" are the errors of the loss and of both gradients against autograd of cross-entropy in float64, "tiles"
against PyTorch's tiles in float32.
"""

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F
from triton.runtime.interpreter import InterpreterBuilder

from rsir import fused_softmax
from rsir.softmax import _agrees, _tiled

Problem = tuple[Tensor, Tensor, Tensor, Tensor, float]


def understand_bfloat16() -> None:
    """The interpreter multiplies the bit patterns of bfloat16; here it is given their values."""
    plain = InterpreterBuilder.create_dot

    def create_dot(self, left, right, *rest):  # type: ignore[no-untyped-def]
        factors = [self.cast_impl(x, tl.float32) if x.dtype.scalar.is_bf16() else x for x in (left, right)]
        return plain(self, *factors, *rest)

    InterpreterBuilder.create_dot = create_dot


def problem(n: int, v: int, d: int, smoothing: float, scale: float) -> Problem:
    """Numbers that bfloat16 holds exactly; every third position weighs nothing. Scale < 0: all scores are."""
    generator = torch.Generator().manual_seed(n + v + d)
    hidden, vectors = torch.randn(n, d, generator=generator), torch.randn(v, d, generator=generator)
    if scale < 0:
        hidden, vectors = hidden.abs(), vectors.abs()
    hidden = (hidden * scale / d**0.5).bfloat16().float().requires_grad_()
    vectors = vectors.bfloat16().float().requires_grad_()
    weight = torch.rand(n, generator=generator).masked_fill(torch.arange(n) % 3 == 1, 0)
    return hidden, vectors, torch.randint(v, (n,), generator=generator), weight, smoothing


def in_float64(hidden: Tensor, vectors: Tensor, target: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    scores = hidden.double() @ vectors.double().T
    return (F.cross_entropy(scores, target, reduction="none", label_smoothing=smoothing) * weight).sum()


def outcome(loss: Tensor, given: Problem) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(7 * loss, given[:2])]


def errors(found: list[Tensor], known: list[Tensor]) -> list[float]:
    """Relative to what is known, or absolute where that is below 1."""
    return [float((a - b).norm() / b.norm().clamp(min=1)) for a, b in zip(found, known, strict=True)]


def report(n: int, v: int, d: int, smoothing: float, scale: float, bfloat16: bool, programs: int = 6) -> None:
    fused_softmax._PROGRAMS = programs
    given = problem(n, v, d, smoothing, scale)
    found = outcome(fused_softmax.weighted_cross_entropy(*given, bfloat16), given)
    line = {
        "name": f"N {n}, V {v}, D {d}, smoothing {smoothing}, scores {scale:g}, {programs} programs",
        "bfloat16": bfloat16,
        "scale": scale,
        "exact": errors(found, outcome(in_float64(*given), given)),
        "tiles": errors(found, outcome(_tiled(*given, False), given)),
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    understand_bfloat16()
    for d in (1, 16, 48, 64, 100, 128, 256):
        report(70, 203, d, 0.1, 1.0, bfloat16=False)
        report(70, 203, d, 0.0, 1.0, bfloat16=True)
    for n, v in ((1, 1), (1, 300), (100, 1), (64, 64), (129, 65), (300, 130)):
        report(n, v, 24, 0.2, 1.0, bfloat16=n > 100)
    for programs in (1, 512):
        report(200, 300, 32, 0.1, 3.0, False, programs)
        report(200, 300, 32, 0.1, 3.0, True, programs)
    for scale in (1e-3, 30.0, 1000.0, -100.0):
        report(40, 200, 64, 0.0, scale, bfloat16=False)
        report(40, 200, 64, 0.1, scale, bfloat16=True)
    for bfloat16 in (False, True):
        assert _agrees(fused_softmax, torch.device("cpu"), 8, bfloat16)


main()
