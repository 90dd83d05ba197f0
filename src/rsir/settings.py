"""The base class of every configuration section: frozen, typed, and strict about names.

A section is declared beside the code that reads it (`TrainingConfig` in `train.py`, …);
`config.py` composes them. Hyper-parameters only: where a thing runs (device, workers,
progress) is an argument, not a setting.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen section of hyper-parameters; an unknown key is an error.

    Declare each field with `Field(default, description=..., ge=..., le=...)`: the
    description is what `rsir config show` prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _representable(self) -> Self:
        """Numbers must fit what tensors hold: 64-bit integers, 32-bit floats."""
        for name, value in self:
            if isinstance(value, int | float) and abs(value) >= (
                2**63 if isinstance(value, int) else 2.0**127
            ):
                raise ValueError(f"{name} is {value:.3g}; no computation holds a number that large")
        return self
