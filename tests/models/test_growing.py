"""States of growing prefixes by compiled loops are those of the network, read anew in float64."""

import copy

import pytest
import torch

from rsir.models.base import SequenceModel
from rsir.models.cl4srec import CL4SRec, CL4SRecConfig
from rsir.models.ensemble import Ensemble
from rsir.models.growing import Growing, Trail
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged

ITEMS = 60
SHAPES = [
    {},
    {"dim": 12, "num_heads": 3, "ffn_factor": 3},
    {"dim": 64, "num_heads": 1, "activation": "relu"},
    {"dim": 70, "num_blocks": 3, "positions": "none"},
    {"dim": 1, "num_heads": 1, "num_blocks": 1},
]


def network(seed: int = 0, **shape: object) -> SASRec:
    torch.manual_seed(seed)
    found = SASRec(ITEMS, SASRecConfig(**{"dim": 16, "init_std": 0.3, **shape})).double().eval()
    for name, value in found.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(value, mean=1.0 if "norm" in name else 0.0, std=0.3)
    return found


def grow(growing: Growing, prefixes_PL: torch.Tensor) -> torch.Tensor:
    """States after prefixes that are read item by item, those that begin alike only once."""
    trail: Trail | None = None
    before = torch.zeros(len(prefixes_PL), dtype=torch.int64)
    for length in range(1, prefixes_PL.shape[1] + 1):
        shorter, place = prefixes_PL[:, :length].unique(dim=0, return_inverse=True)
        parent = torch.zeros(len(shorter), dtype=torch.int64).scatter_(0, place, before)
        states, trail = growing.advance(shorter[:, -1], trail.select(parent) if trail else None)
        before = place
    return states[place]


def prefixes(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, ITEMS, (rows, length), generator=torch.Generator().manual_seed(1)).where(
        torch.arange(length) > 1, torch.arange(rows)[:, None] % 3
    )


def assert_states(model: SequenceModel, prefixes_PL: torch.Tensor) -> None:
    growing = Growing.of(model)
    if growing is None:
        pytest.skip("no loops for states on this machine")
    with torch.no_grad():
        expected = model.encode_last(Ragged.from_lists(prefixes_PL.tolist()))
        found = grow(growing, prefixes_PL)
    assert found.dtype == torch.float32
    # equal but for a value that lies in the middle between two numbers of 32 bits, up to the roundoff of 64
    assert (found.double() - expected).abs().max() <= expected.abs().max() * 2.0**-24 * (1 + 2.0**-20)
    assert (found != expected.float()).sum() <= 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_states_are_those_of_the_network(shape: dict[str, object], length: int) -> None:
    assert_states(network(**shape), prefixes(101, length))


def test_states_of_an_ensemble_stand_side_by_side() -> None:
    members = [network(0), network(1, dim=70, num_blocks=1), network(2, num_heads=4)]
    assert_states(Ensemble(members).double().eval(), prefixes(50, 4))


def test_a_state_has_the_same_bits_whatever_stands_beside_it() -> None:
    growing = Growing.of(network(dim=64))
    if growing is None:
        pytest.skip("no loops for states on this machine")
    rows = prefixes(97, 5)
    whole = grow(growing, rows)
    for part in (slice(0, 1), slice(3, 50), slice(90, 97)):
        assert torch.equal(grow(growing, rows[part]), whole[part])


def test_one_trail_goes_on_in_several_ways() -> None:
    growing = Growing.of(network(dim=64))
    if growing is None:
        pytest.skip("no loops for states on this machine")
    first, past = growing.advance(torch.tensor([4, 9]), None)
    ways = [torch.tensor([[4, 7], [9, 7]]), torch.tensor([[9, 50], [4, 51]]), torch.tensor([[9, 4], [9, 51]])]
    for rows in ways:  # items that one way has read are found by the next, when that way is forgotten
        parent = (rows[:, 0] == 9).long()
        states, _ = growing.advance(rows[:, 1], past.select(parent))
        assert torch.equal(states, grow(growing, rows))
    assert torch.equal(first, grow(growing, torch.tensor([[4], [9]])))


def test_long_prefixes() -> None:
    assert_states(network(max_length=50), prefixes(7, 40))


def test_gelu_is_exact_to_the_last_bits() -> None:
    if Growing.of(network()) is None:
        pytest.skip("no loops for states on this machine")
    from rsir.compiled import lean
    from rsir.models.gelu import gelu, half_erf
    from rsir.models.growing import _lined_up

    ends = torch.tensor([0.0, -0.0, 1e-300, 40.0, -40.0, 8.5, -8.5, 8.6, -8.6, torch.inf, torch.nan])
    x = torch.cat([torch.linspace(-9, 9, 32 * 400 - len(ends)).double(), ends.double()])
    values, table = _lined_up(x.numpy()), _lined_up(half_erf())
    lean(lambda address, count, table: gelu(address, count, table))(
        values.ctypes.data, len(values) // 32, table.ctypes.data
    )
    found, expected = torch.from_numpy(values), x * (1 + torch.erf(x * 0.5**0.5)) / 2
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())
    off = (found - expected).abs()[:-2]
    assert bool((off <= 4e-16 * x.abs()[:-2]).all())


def test_gelu_far_from_zero() -> None:
    model = network(dim=8)
    with torch.no_grad():
        model.get_parameter("blocks.0.feed_forward.0.weight").mul_(40)
    assert_states(model, prefixes(60, 2))


def test_what_is_not_a_number_stays_so() -> None:
    model = network()
    with torch.no_grad():
        model.item.weight[5] = float("nan")
    growing = Growing.of(model)
    if growing is None:
        pytest.skip("no loops for states on this machine")
    states = grow(growing, torch.tensor([[1, 2], [5, 2]]))
    assert bool(states[0].isfinite().all())
    assert bool(states[1].isnan().all())


@pytest.mark.parametrize(
    "shape",
    [{"norm": "post"}, {"cosine": 5.0}, {"positions": "from_start"}, {"scale_embedding": True}],
    ids=str,
)
def test_other_shapes_are_left_to_pytorch(shape: dict[str, object]) -> None:
    assert Growing.of(network(**shape)) is None
    assert Growing.of(copy.deepcopy(Ensemble([network(), network(**shape)]))) is None


def test_what_stands_behind_the_catalogue_is_not_of_it() -> None:
    """CL4SRec has a vector for masked events behind those of the items."""
    torch.manual_seed(0)
    model = CL4SRec(ITEMS, CL4SRecConfig(dim=16)).eval()
    growing = Growing.of(model)
    if growing is None:
        pytest.skip("needs numba and AVX-512")
    assert model.item.num_embeddings == ITEMS + 1
    assert torch.equal(growing.vectors, model.item_vectors().double())
