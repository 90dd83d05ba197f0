"""The base class of every configuration section: frozen, typed, and strict about names.

A section is declared beside the code that reads it (`TrainingConfig` in `train.py`, …);
`config.py` composes them. Hyper-parameters only: where a thing runs (device, workers,
progress) is an argument, not a setting.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen section of hyper-parameters; an unknown key is an error.

    Declare each field with `Field(default, description=..., ge=..., le=...)`: the
    description is what `rsir config show` prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
