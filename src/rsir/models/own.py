"""Your own network in the loop: any PyTorch module with two methods, named by where its class stands.

Subclass `SequenceModel`, write `encode` and `item_vectors` (see docs/models.md), and run it with
`rsir run LOG --model own --set model.factory=path/to/file.py:Class`. The run directory keeps
the name of the class, not its code: to use the run again, the file has to be there.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from rsir.errors import ConfigError
from rsir.models.base import SequenceModel
from rsir.models.stack import StackConfig


class OwnConfig(StackConfig):
    """Where the network comes from; it is handed these settings and reads of them what it likes."""

    name: Literal["own"] = Field("own", description="which backbone")
    factory: str | None = Field(
        None, description="file.py:Class or package.module:Class; called with num_items and these settings"
    )
    options: dict[str, bool | int | float | str] = Field({}, description="whatever else it needs, by name")


def build_own(config: OwnConfig, num_items: int) -> SequenceModel:
    """The network that `config.factory` makes for a catalogue.

    Raises:
        ConfigError: if there is no such class, it cannot be called so, or it makes something else.
    """
    factory = _find(config.factory)
    try:
        model = factory(num_items, config)
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"model.factory = {config.factory!r} cannot be called with (num_items, config): "
            f"{type(error).__name__}: {error}"
        ) from None
    if not isinstance(model, SequenceModel):
        raise ConfigError(
            f"model.factory = {config.factory!r} makes a {type(model).__name__}: "
            "it must be a rsir.models.SequenceModel"
        )
    if (model.num_items, model.max_length) != (num_items, config.max_length):
        raise ConfigError(
            f"model.factory = {config.factory!r} ignores what it is given: num_items and max_length are "
            f"{model.num_items} and {model.max_length}, not {num_items} and {config.max_length}"
        )
    return model


def _find(factory: str | None) -> Callable[..., Any]:
    """The class or function that is named."""
    where, colon, name = (factory or "").rpartition(":")
    if not colon or not where or not name:
        raise ConfigError(
            f"model.factory = {factory!r} names no class: write path/to/file.py:Class or package.module:Class"
        )
    found = getattr(_module(where), name, None)
    if not callable(found):
        raise ConfigError(f"model.factory = {factory!r}: there is no class or function {name} in {where}")
    made: Callable[..., Any] = found
    return made


def _module(where: str) -> ModuleType:
    """The module at a path or of a name.

    Raises:
        ConfigError: if it cannot be imported.
    """
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(Path(where).stem, where)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(f"model.factory: {where} cannot be imported ({error})") from None
