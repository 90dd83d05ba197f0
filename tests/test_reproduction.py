"""The experiment behind docs/reproduction.md: noise, arithmetic, and a page that says what its rows say."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rsir.data.sequences import Sequences
from rsir.ragged import Ragged

ROOT = Path(__file__).resolve().parent.parent


sys.path.insert(0, str(ROOT / "experiments"))  # scripts share code as they do when they are run


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


reproduction = script("reproduction")
plots = script("reproduction_plots")
weak = script("tables_of_weak")


def row(seed: int, difference: float, error: float) -> dict[str, object]:
    figures = {"test": {"ndcg@10": 0.2}}
    gain = {"ndcg@10": {"difference": difference, "standard_error": error}}
    return {"job": {"seed": seed}, "rounds": [{}, {"control": figures, "gain": gain}]}


def test_noise_goes_between_and_keeps_the_order() -> None:
    rows = [list(range(start, start + 30)) for start in range(0, 900, 30)]
    train = Sequences.observed(Ragged.from_lists(rows), 5000)
    mixed = reproduction.noisy(train, 0.3, seed=1)
    more = mixed.num_events / train.num_events - 1
    assert abs(more - 0.3) < 0.05
    for before, after in zip(rows, mixed.events.tolists(), strict=True):
        left = iter(after)
        assert all(item in left for item in before)
    assert torch.equal(mixed.user, train.user)
    assert torch.equal(reproduction.noisy(train, 0.0, seed=1).events.values, train.events.values)


def test_gain_of_one_seed_has_the_interval_over_users() -> None:
    found = plots.gain([row(0, 0.02, 0.01)], 1)
    assert found == pytest.approx((0.1, 1.96 * 0.05, 1))


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike, apart = (plots.gain([row(0, 0.02 - by, 0.001), row(1, 0.02 + by, 0.001)], 1) for by in (0.0, 0.01))
    assert alike.mean == apart.mean == pytest.approx(0.1)
    assert apart.half > 10 * alike.half


def test_matrix_names_what_there_is() -> None:
    for job in reproduction.jobs(reproduction.MATRIX, "simulated"):
        assert job.config().seed == job.seed
        assert job.config().recursion.rounds == job.what.rounds


def test_the_page_is_what_the_rows_say() -> None:
    rows = [json.loads(line) for line in plots.RESULTS.read_text().splitlines()]
    page = plots.DOCUMENT.read_text()
    shown = dict(re.findall(r"<!-- (?!end |plot )([a-z ]+) -->\n(.*?)<!-- end -->", page, re.DOTALL))
    of_toys = {"weak": weak.rules_table, "weak sweeps": weak.sweeps_table, "measures": weak.measures_table}
    expected = {name: table(rows) for name, table in plots.TABLES.items()}
    assert shown == expected | {name: table() for name, table in of_toys.items()}
