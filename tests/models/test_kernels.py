"""Every way to the best K gives the same items and scores: bytes, float32 products, PyTorch's operations."""

import pytest
import torch

from rsir.errors import ModelError
from rsir.models import kernels, topk
from rsir.models.topk import Catalogue, exact_order, exact_top_k, paired_scores

needs_loops = pytest.mark.skipif(not kernels.found(), reason="numba is not installed")
needs_bytes = pytest.mark.skipif(not kernels.bytes_pay(), reason="no instructions for products of bytes")


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(
    states: torch.Tensor, vectors: torch.Tensor, k: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer without kernels, which `test_topk` holds to a full sort."""
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "found", lambda: False)
        patch.setattr(kernels, "bytes_pay", lambda: False)
        return exact_top_k(states, Catalogue.of(vectors), k)


def assert_same(
    states: torch.Tensor, vectors: torch.Tensor, k: int, tile: int, patch: pytest.MonkeyPatch
) -> None:
    items, scores = plain(states, vectors, k, patch)
    for pays in (True, False):
        with patch.context() as inner:
            if not pays:
                inner.setattr(kernels, "bytes_pay", lambda: False)
            catalogue = Catalogue.of(vectors, tile)
            found, found_scores = exact_top_k(states, catalogue, k)
            assert torch.equal(found, items)
            assert torch.equal(found_scores, scores)
            assert torch.equal(exact_order(states, catalogue, k), items)


@pytest.mark.parametrize("dim", [1, 3, 4, 33, 64, 130])
@pytest.mark.parametrize("num_items", [1, 63, 64, 65, 700, 2500])
def test_any_width_and_size(dim: int, num_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    states, vectors = draws(13, dim), draws(num_items, dim, seed=1)
    for k in {1, min(12, num_items), min(70, num_items)}:
        assert_same(states, vectors, k, 1024, monkeypatch)


@pytest.mark.parametrize("rows", [1, 5, 6, 7, 97, 200])
def test_any_number_of_states(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(draws(rows, 16), draws(900, 16, seed=1), 11, 16384, monkeypatch)


@pytest.mark.parametrize(
    "change",
    {
        "one huge item": lambda vectors: vectors.index_fill(0, torch.tensor([5]), 300.0),
        "zeros": lambda vectors: torch.zeros_like(vectors),
        "half zeros": lambda vectors: vectors * (torch.arange(len(vectors)) % 2)[:, None],
        "all equal": lambda vectors: vectors[:1].expand_as(vectors).contiguous(),
        "whole numbers": lambda vectors: vectors.round(),
        "tiny": lambda vectors: vectors * 1e-30,
        "smallest": lambda vectors: vectors * 1e-44,
        "large": lambda vectors: vectors * 1e15,
        "common part": lambda vectors: vectors * 1e-5 + 3.0,
    }.items(),
    ids=lambda change: change[0],
)
def test_awkward_vectors(change: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    states, vectors = draws(40, 24), change[1](draws(3000, 24, seed=1))
    states[3], states[4, 1:] = 0.0, 0.0
    assert_same(states, vectors, 9, 1024, monkeypatch)


@needs_bytes
def test_bytes_settle_nearly_all_rows_of_ordinary_vectors() -> None:
    states, vectors = draws(300, 64), draws(5000, 64, seed=1)
    catalogue = Catalogue.of(vectors)
    assert catalogue.codes is not None
    bound = topk._error_bound(states, catalogue.max_norm)
    _, _, left = catalogue.codes.best(states, vectors, bound, 12, False, 16384)
    assert not len(left)


@needs_bytes
def test_the_bound_of_bytes_holds_and_is_not_idle() -> None:
    import numpy as np

    from rsir.models.by_bytes import _encode

    states, vectors = draws(50, 37), draws(400, 37, seed=1)
    met = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    codes = kernels.Codes.of(vectors, met)
    assert codes is not None
    numbers = codes.packed.transpose(0, 2, 1, 3).reshape(-1, 40)[:400].astype(np.int64) - 128
    used = []
    for state in states.numpy():
        mine = np.zeros(40, np.int8)
        slack, unit, zero = _encode(state, mine, codes.scale, codes.largest, codes.residual)
        scores = vectors[met].double().numpy() @ state.astype(np.float64)
        error = np.abs((numbers + 128) @ mine.astype(np.int64) - zero - scores / unit)
        used.append(2 * error.max() / slack)
    assert max(used) <= 1
    assert max(used) > 0.1


@needs_bytes
def test_sums_of_bytes_are_those_of_whole_numbers() -> None:
    import numba
    import numpy as np

    from rsir.models.by_bytes import _aligned
    from rsir.models.registers import PARTS, ROWS
    from rsir.models.vnni import BLOCK, LANES, products

    @numba.njit
    def multiply(states: np.ndarray, items: np.ndarray, sums: np.ndarray, maxima: np.ndarray) -> None:
        products(states.ctypes.data, items.ctypes.data, 3, sums.ctypes.data, 4 * BLOCK, maxima.ctypes.data)

    states = draws(ROWS, 12).mul(60).round().clamp(-127, 127).to(torch.int8).numpy()
    items = draws(BLOCK, 12, seed=1).mul(60).round().clamp(-127, 127).numpy().astype(np.int64)
    packed = kernels._aligned(3, BLOCK, 4)
    packed[:] = (items + 128).astype(np.uint8).reshape(BLOCK, 3, 4).transpose(1, 0, 2)
    sums, maxima = _aligned(ROWS * BLOCK), _aligned(ROWS * LANES)
    multiply(states, packed, sums, maxima)
    expected = states.astype(np.int64) @ (items + 128).T
    assert (sums.reshape(ROWS, BLOCK) == expected).all()
    assert (maxima.reshape(ROWS, LANES) == expected.reshape(ROWS, PARTS, LANES).max(1)).all()


@needs_loops
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_an_error_with_kernels(bad: float) -> None:
    states, vectors = draws(8, 4), draws(2000, 4, seed=1)
    vectors[7, 1] = bad
    for ask in (exact_top_k, exact_order):
        with pytest.raises(ModelError, match="not finite"):
            ask(states, Catalogue.of(vectors), 3)


def test_pairs_have_the_same_bits_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    states, vectors = draws(5, 37), draws(60, 37, seed=1)
    row, item = torch.arange(5).repeat_interleave(60), torch.arange(60).repeat(5)
    with_loops = paired_scores(states, vectors, row, item)
    monkeypatch.setattr(kernels, "found", lambda: False)
    assert torch.equal(with_loops, paired_scores(states, vectors, row, item))
