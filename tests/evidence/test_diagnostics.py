"""Diagnostics on cases with a known answer."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import rsir
from rsir.cli import main
from rsir.config import load_config
from rsir.data.read import from_frame
from rsir.data.sequences import Sequences
from rsir.data.simulate import SimulationConfig, simulate
from rsir.data.splits import split
from rsir.data.truth import Truth
from rsir.evidence.breakdown import (
    breakdown_point,
    contraction,
    true_error,
)
from rsir.evidence.diagnose import Effort, diagnose
from rsir.evidence.diagnostics import (
    approximate_entropy,
    corpus_entropy,
    coverage,
    density,
    distinct_density,
    length_drift,
    novelty,
    popularity_drift,
)
from rsir.evidence.directions import change_of, quotients
from rsir.evidence.sharpness import (
    filter_normalised,
    hessian_operator,
    lanczos,
    largest_eigenvalue,
    loss_along,
    next_item_loss,
)
from rsir.models import MODELS, SASRec, SASRecConfig, build_model
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.rng import uniform_scalar
from rsir.run import Run

# Data.


def chain(length: int, stay: float, seed: int = 0) -> list[int]:
    """A two-state chain that stays with a given chance: its entropy rate is known."""
    states = [0]
    for t in range(length - 1):
        states.append(states[-1] if uniform_scalar(seed, "chain", t) < stay else 1 - states[-1])
    return states


@pytest.mark.parametrize("stay", [0.5, 0.9, 0.99])
def test_approximate_entropy_of_a_chain_is_its_entropy_rate(stay: float) -> None:
    rate = -stay * math.log(stay) - (1 - stay) * math.log(1 - stay)
    states = chain(20_000, stay)
    for m in (1, 2):
        assert approximate_entropy(torch.tensor(states), m) == pytest.approx(rate, abs=0.01)
    rows = Ragged.from_lists([states[i : i + 10] for i in range(0, 20_000, 10)])
    assert corpus_entropy(rows, rows=2000) == pytest.approx(rate, abs=0.02)


def test_entropy_of_what_never_varies_and_of_nothing() -> None:
    assert approximate_entropy(torch.zeros(50, dtype=torch.int64)) == 0
    assert math.isnan(approximate_entropy(torch.tensor([3]), 1))
    assert corpus_entropy(Ragged.from_lists([[1, 2, 3]] * 9)) == 0
    assert math.isnan(corpus_entropy(Ragged.from_lists([[1], [2]])))


def data(rows: list[list[int]], num_items: int = 6, user: list[int] | None = None) -> Sequences:
    return Sequences.observed(Ragged.from_lists(rows), num_items, torch.tensor(user or [*range(len(rows))]))


OBSERVED = data([[0, 1, 2], [3, 4]])


def test_density_coverage_novelty_and_drift_by_hand() -> None:
    union = data([[0, 1, 2], [3, 4], [0, 1, 5]], user=[0, 1, 0])
    assert density(union) == 8 / 12
    assert distinct_density(union) == 6 / 12
    made = data([[0, 1, 5], [3, 4, 4]])
    assert coverage(made) == 3 / 6
    assert novelty(OBSERVED, made) == 1 / 4
    assert length_drift(OBSERVED.events, made.events) == 0.5
    assert length_drift(OBSERVED.events, OBSERVED.events) == 0


def test_popularity_drift_is_none_for_the_same_and_seen_for_the_popular() -> None:
    rows = [[9, item] for item in range(10) for _ in range(item + 1)]  # item 9 starts all, so it is commonest
    observed = data(rows, num_items=10)
    same = data([[9, int(item)] for item in observed.events.values], num_items=10)
    assert popularity_drift(observed, same) == pytest.approx({"total_variation": 0, "mean_percentile": 0.5})
    popular = popularity_drift(observed, data([[0, 9]] * 5, num_items=10))
    assert popular["mean_percentile"] > 0.6
    assert popular["total_variation"] > 0.3
    assert popularity_drift(observed, data([[0, 0]] * 5, num_items=10))["mean_percentile"] < 0.05


# Sharpness.


def symmetric(values: list[float]) -> Tensor:
    """A matrix with these eigenvalues in a random basis."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[
        0
    ]
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def test_lanczos_finds_the_spectrum_of_a_quadratic() -> None:
    values = [-3.0, -0.5, 0.0, 0.1, 1.0, 2.5, 7.0, 40.0]
    a = symmetric(values)
    x = torch.randn(8, dtype=torch.float64, requires_grad=True)
    product = hessian_operator(lambda: x @ a @ x / 2, [x])
    assert lanczos(product, 8, steps=8).tolist() == pytest.approx(values, abs=1e-8)


def test_no_eigenvalue_comes_twice() -> None:
    """Without full reorthogonalisation the large ones come back as ghosts."""
    values = [1000.0, 500.0, *(i / 100 for i in range(98))]
    found = lanczos(lambda v, a=symmetric(values): a @ v, 100, steps=60)
    assert found[-2:].tolist() == pytest.approx([500.0, 1000.0])
    assert int((found > 1.1).sum()) == 2
    assert lanczos(lambda v: 2 * v, 5).tolist() == pytest.approx([2.0])


@pytest.fixture(scope="module")
def small() -> tuple[SASRec, Sequences]:
    torch.manual_seed(0)
    model = SASRec(6, SASRecConfig(dim=4, num_blocks=1, num_heads=1, init_std=0.5, dropout=0.5))
    return model, data([[0, 1, 2, 3], [3, 4, 5], [1, 0], [2]])


def test_the_largest_eigenvalue_of_a_network_is_that_of_its_dense_hessian(
    small: tuple[SASRec, Sequences],
) -> None:
    model, train = small
    found = largest_eigenvalue(model, train, rows=10, steps=60)
    network = SASRec(6, model.config).double().eval()
    network.load_state_dict(model.state_dict())
    names = [name for name, _ in network.named_parameters()]
    shapes = [p.shape for p in network.parameters()]
    usable = train.select(torch.tensor([0, 1, 2])).events
    zero = torch.zeros_like(usable.lengths)
    sample = (
        usable.slice_rows(zero, usable.lengths - 1),
        usable.slice_rows(zero + 1, usable.lengths).values,
    )

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self) -> Tensor:
            return next_item_loss(self.network, sample)

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        state = {f"network.{n}": p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(Loss(), state, ())

    flat = torch.cat([p.detach().flatten() for p in network.parameters()])
    with sdpa_kernel(SDPBackend.MATH):
        dense = torch.autograd.functional.hessian(loss, flat)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-6)


def test_directions_have_the_norms_of_the_filters(small: tuple[SASRec, Sequences]) -> None:
    model, train = small
    parameters = [p.detach() for p in model.parameters()]
    for p, along in zip(parameters, filter_normalised(parameters, seed=1), strict=True):
        if p.dim() < 2:
            assert not along.any()
        else:
            assert along.norm(dim=1).tolist() == pytest.approx(p.norm(dim=1).tolist(), rel=1e-5)
    before = [p.clone() for p in parameters]
    curves = loss_along(model, train, distances=(-1, 0, 1), directions=2)
    assert curves[0][1] == curves[1][1]
    assert curves[0][0] != curves[0][2]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_backbone_has_second_derivatives(name: str, small: tuple[SASRec, Sequences]) -> None:
    torch.manual_seed(0)
    model = build_model(load_config(overrides=[f"model.name={name}", "model.dim=8"]).model, 6)
    assert largest_eigenvalue(model, small[1], rows=4, steps=3) > 0


# Along and across.


class Stretched(SequenceModel):
    """f(x) = A v of the last item, A = diag(.1, 1): it hardly changes along the first axis."""

    num_items, max_length = 6, 9

    def __init__(self) -> None:
        super().__init__()
        places = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]
        self.vectors = torch.nn.Parameter(torch.tensor(places))

    def encode(self, histories: Ragged) -> Tensor:
        return self.vectors[histories.values] * torch.tensor([0.1, 1.0])

    def item_vectors(self) -> Tensor:
        return self.vectors


def test_change_along_and_across_a_known_map() -> None:
    """Observed is item 0; generated are items on the first axis, the others stand on the second."""
    observed = data([[0, 0], [0]])
    users = torch.tensor([0, 1])
    made = Sequences(Ragged.from_lists([[0, 1, 2], [0, 2, 1]]), 6, users, users + 1, users)
    found = change_of(Stretched(), observed, made)
    assert (found.along, found.across, found.ratio) == pytest.approx((0.1, 1.0, 0.1))
    assert found.pairs == 4
    assert bool(quotients(Stretched(), observed.events, torch.tensor([0, 0])).isnan().all())


# The error recursion.


def next_error(error: float, base: float, leakage: float, rho: float, weight: float) -> float:
    """The right side of the recursion with E_max = 1: the error after a round."""
    return (1 - weight) * base + weight * ((1 - leakage) * rho * error + leakage)


def test_at_the_breakdown_point_a_round_neither_gains_nor_loses() -> None:
    for base in (0.2, 0.6):
        for rho in (0.3, 0.9):
            edge = breakdown_point(base, base, rho)
            at, below, above = (next_error(base, base, edge + by, rho, 0.4) for by in (0, -0.01, 0.01))
            assert at == pytest.approx(base)
            assert below < base < above
            assert contraction(above, base, base, edge + 0.01, 0.4) == pytest.approx(rho)


class Oracle:
    """Scores by the log of the true law, for the cases in order; or the same score for every item."""

    def __init__(self, laws: Tensor, flat: bool) -> None:
        self.laws, self.flat, self.num_items, self.at = laws, flat, laws.shape[1], 0

    def score(self, histories: Ragged) -> Tensor:
        law = self.laws[self.at : self.at + len(histories)]
        self.at += len(histories)
        return torch.zeros_like(law) if self.flat else law.clamp(min=1e-300).log()


def test_the_error_of_the_oracle_is_zero_and_that_of_ignorance_is_known() -> None:
    world = simulate(SimulationConfig(num_users=80, num_items=60, num_topics=4, max_events=15), seed=2)
    log = from_frame(world.frame)
    cases, truth = split(log).valid, world.truth
    item = truth.item_indices(log.items.ids)
    assert len(item) == 60, "every item occurs, so nothing is missed"
    assert isinstance(truth, Truth)
    user = truth.user_indices(log.users.ids_of(cases.user))
    laws = truth.score(user, Ragged(item[cases.histories.values], cases.histories.offsets))[:, item]
    assert true_error(Oracle(laws, flat=False), cases, log, truth, batch=32) == pytest.approx(0, abs=1e-9)
    free = torch.ones_like(laws)
    free[cases.histories.row, cases.histories.values] = 0
    expected = (free / free.sum(1, keepdim=True) - laws).abs().sum(1).mean() / 2
    assert true_error(Oracle(laws, flat=True), cases, log, truth, batch=32) == pytest.approx(float(expected))


# The verb.

TINY = [
    "simulation.num_users=60",
    "simulation.num_items=60",
    "simulation.num_topics=3",
    "simulation.max_events=20",
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=1",
    "training.min_period=1",
    "recursion.rounds=1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnose") / "run"
    rsir.run(None, folder, config=load_config(overrides=TINY), device="cpu")
    return folder


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value))
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def test_diagnose_as_typed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(finished), "--rows", "20", "--steps", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    base, first = found["rounds"]
    assert base["synthetic"] is base["theory"] is base["control"] is None
    assert first["data"]["density"] > base["data"]["density"]
    assert first["model"]["largest_eigenvalue"] > 0
    assert first["theory"]["growth"] == pytest.approx(first["model"]["error"] - base["model"]["error"])
    assert len(first["model"]["loss_along"][0]) == len(found["distances"])
    told = (Path(__file__).parents[2] / "docs" / "formats.md").read_text().partition("## `rsir diagnose")[2]
    assert keys(found) - set(re.findall(r"`([^`\s]+)`", told)) == set()
    assert main(["diagnose", str(finished), "--rows", "20", "--steps", "2"]) == 0
    assert "error recursion" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_diagnosis(finished: Path) -> None:
    one, two = (diagnose(Run.open(finished), effort=Effort(rows=10, steps=3)) for _ in range(2))
    assert one == two
