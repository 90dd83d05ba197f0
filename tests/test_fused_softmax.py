"""The fused softmax: its numbers in Triton's interpreter and on a GPU, and that GPUs can hold its kernels."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rsir import softmax
from rsir.softmax import softmax_loss

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SMALLEST = 99 * 1024
"""Bytes of shared memory a program may have on those GPUs since Ampere with the least (8.6, 8.9, 12.0)."""


def problem(n: int, v: int, d: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Numbers that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(n)
    hidden = (torch.randn(n, d, generator=generator) / d**0.5).bfloat16().float().to(device)
    vectors = torch.randn(v, d, generator=generator).bfloat16().float().to(device)
    target = torch.randint(v, (n,), generator=generator)
    weight = torch.rand(n, generator=generator)
    return hidden.requires_grad_(), vectors.requires_grad_(), target.to(device), weight.to(device)


def outcome(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    """The loss and its gradients, on the CPU."""
    return [x.detach().cpu() for x in (loss, *torch.autograd.grad(loss, inputs))]


def errors(found: list[Tensor], known: list[Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, known, strict=True)]


@needs_triton
@pytest.mark.slow
def test_the_interpreter_gives_loss_and_gradients_of_cross_entropy(tmp_path: Path) -> None:
    script = Path(__file__).with_name("interpreted_softmax.py")
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 25
    for line in lines:
        large = abs(line["scale"]) > 3  # then a probability of the tiles' may count as the smallest number
        for loss, *gradients in (line["exact"],) if large else (line["exact"], line["tiles"]):
            assert loss < 1e-6, line
            assert max(gradients) < (0.004 if line["bfloat16"] else 1e-4 if large else 1e-5), line


def _compile(kernel: Any, tiles: Any, number: str, capability: int) -> Any:
    """A kernel as the library launches it, for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {"target": "*i64", "weight": "*fp32", "log_mass": "*fp32", "out": "*fp32"}
    types |= {"states": f"*{number}", "items": f"*{number}", "hard": "fp32", "even": "fp32"}
    types |= dict.fromkeys(("num_owned", "num_met", "span"), "i32")
    constants = asdict(tiles)
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    aligned = [n for n, name in enumerate(kernel.arg_names) if signature[name].startswith("*")]
    source = ASTSource(kernel, signature, constants, {(n,): [["tt.divisibility", 16]] for n in aligned})
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def _spilled(cubin: bytes, folder: Path) -> int:
    """Bytes that a thread puts in memory for want of registers."""
    from triton import knobs

    (folder / "kernel.cubin").write_bytes(cubin)
    command = [knobs.nvidia.cuobjdump.path, "-res-usage", folder / "kernel.cubin"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"REG:\d+ STACK:(\d+)", said.stdout + said.stderr)
    assert found is not None
    return int(found[1])


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("number", "dim"),
    [
        ("bf16", 64),
        ("fp32", 64),
        *(pytest.param("bf16", dim, marks=pytest.mark.slow) for dim in (16, 48, 100, 128, 256)),
        *(pytest.param("fp32", dim, marks=pytest.mark.slow) for dim in (16, 48, 100, 128, 256)),
    ],
)
def test_gpus_hold_the_kernels(
    capability: int, number: str, dim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    from rsir import fused_softmax

    tiles = fused_softmax.Tiles.of(dim, {"bf16": torch.bfloat16, "fp32": torch.float32}[number])
    for kernel in (fused_softmax._mass, fused_softmax._grad_states, fused_softmax._grad_items):
        made = _compile(kernel, tiles, number, capability)
        assert made.metadata.shared <= SMALLEST
        assert _spilled(made.asm["cubin"], tmp_path) <= 32
        assert "tf32" not in made.asm["ptx"]
        assert ("mma" in made.asm["ptx"]) == (number == "bf16")
        assert re.search(r"\b(atom|red)\.", made.asm["ptx"]) is None  # nothing adds in an order of its own


@needs_triton
@pytest.mark.parametrize(("owned", "met"), [(1, 1), (1, 10**6), (10**6, 2048), (5000, 12_000), (65, 64)])
def test_every_row_is_met_once(owned: int, met: int) -> None:
    from rsir.fused_softmax import Tiles

    tiles = Tiles.of(64, torch.bfloat16)
    (blocks, parts), span = tiles.cut(owned, met)
    assert (blocks - 1) * tiles.OWN < owned <= blocks * tiles.OWN
    assert (parts - 1) * span < met <= parts * span
    assert span % tiles.TILE == 0
    assert parts == 1 or blocks * parts <= 512


def test_on_a_cpu_the_tiles_do_it() -> None:
    assert softmax._fused(torch.device("cpu"), 8, False) is None


def _halved(*problem: Any) -> Tensor:
    return softmax._tiled(*problem[:-1], bfloat16=False) / 2


def _failing(*problem: Any) -> Tensor:
    raise RuntimeError("no C compiler")


@pytest.mark.parametrize(("kernel", "why"), [(_halved, "off by 50 percent"), (_failing, "no C compiler")])
def test_kernels_that_fail_or_err_are_not_used_and_that_is_said(
    kernel: Callable[..., Tensor], why: str
) -> None:
    fused = SimpleNamespace(weighted_cross_entropy=kernel)
    with pytest.warns(UserWarning, match=why):
        assert not softmax._agrees(fused, torch.device("cpu"), 8, False)


def test_kernels_that_agree_are_used_and_no_generator_is_touched() -> None:
    fused, before = SimpleNamespace(weighted_cross_entropy=softmax._tiled), torch.get_rng_state()
    with torch.no_grad():
        assert softmax._agrees(fused, torch.device("cpu"), 8, False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.cuda
@needs_cuda
@needs_triton
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(("n", "v", "d"), [(1, 7, 16), (1500, 12_101, 64), (333, 5000, 100), (200, 999, 256)])
def test_on_a_gpu_they_equal_the_tiles_and_the_cpu_and_themselves(
    n: int, v: int, d: int, bfloat16: bool
) -> None:
    from rsir.fused_softmax import weighted_cross_entropy

    here, there = problem(n, v, d), problem(n, v, d, "cuda")
    assert softmax._fused(there[0].device, d, bfloat16) is not None
    found = [outcome(weighted_cross_entropy(*there, 0.1, bfloat16), *there[:2]) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    tolerance = 0.005 if bfloat16 else 1e-5
    assert max(errors(found[0], outcome(softmax._tiled(*there, 0.1, False), *there[:2]))) < tolerance
    assert max(errors(found[0], outcome(softmax._tiled(*here, 0.1, False), *here[:2]))) < tolerance
    loss = softmax_loss(*there, 2.0, label_smoothing=0.1, bfloat16=bfloat16)
    assert torch.equal(2 * loss.detach().cpu(), found[0][0])


@pytest.mark.cuda
@needs_cuda
@needs_triton
def test_a_million_items_take_no_room_for_scores() -> None:
    hidden, vectors, target, weight = problem(4096, 1_000_000, 64, "cuda")
    softmax_loss(hidden[:1], vectors[:9], target[:1] % 9, weight[:1], 1.0, bfloat16=True)  # compiles
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    loss = softmax_loss(hidden, vectors, target, weight, 4096.0, bfloat16=True)
    loss.backward()
    assert vectors.grad is not None
    assert torch.cuda.max_memory_allocated() - before < 3 * vectors.numel() * 4  # its gradient, and copies
