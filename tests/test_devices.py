"""Which precision "auto" is."""

import pytest
import torch

from rsir.devices import resolve_precision

EPYC = {"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_tile": False}
XEON = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_tile": False}


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        (EPYC, "bfloat16"),
        ({**EPYC, "avx512_bf16": False}, "float32"),
        (XEON, "float32"),
        ({**XEON, "amx_tile": True}, "bfloat16"),
        ({"architecture": "arm64"}, "float32"),
    ],
)
def test_bfloat16_where_the_processor_multiplies_it_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", "cpu") == precision
    assert resolve_precision("float32", "cpu") == "float32"


def test_a_pytorch_that_does_not_know_its_processor_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", "cpu") == "float32"
