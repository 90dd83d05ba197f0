"""What a search may change: a small table for the base, one for self-improvement, and a way to say other."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rsir.config import Config, load_config
from rsir.errors import ConfigError

Phase = Literal["base", "recursion"]
Value = int | float | str | bool
Space = dict[Phase, tuple["Axis", ...]]


@dataclass(frozen=True)
class Axis:
    """One setting that is searched.

    Attributes:
        key: of `rsir config show`.
        low: least value; whole numbers are drawn where `low` and `high` are whole.
        high: greatest value, included.
        log: draw evenly in the logarithm.
        choices: values to choose among, in place of low and high.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()

    def distribution(self) -> Any:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that must be possible for all to be."""
        return self.choices or tuple(end for end in (self.low, self.high) if end is not None)

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "choices": list(self.choices)}


SPACE: Space = {
    "base": (
        Axis("training.learning_rate", 3e-4, 1e-2, log=True),
        Axis("model.dropout", 0.1, 0.7),
        Axis("model.num_blocks", 1, 3),
        Axis("model.dim", choices=(32, 64, 128)),
        Axis("training.batch_size", choices=(128, 256, 512)),
    ),
    "recursion": (
        Axis("generation.max_rank", choices=("none", 3, 10, 30, 100)),
        Axis("generation.own_pool_probability", 0.0, 1.0),
        Axis("generation.num_rollouts", 1, 10),
        Axis("generation.top_k", 1, 20, log=True),
        Axis("recursion.synthetic_weight", 0.1, 1.0, log=True),
        Axis("recursion.start", choices=("cold", "warm")),
    ),
}
"""The default space: around the defaults, as wide as the papers report to be sensible."""

_SECTIONS: dict[Phase, tuple[str, ...]] = {
    "base": ("model", "training"),
    "recursion": ("generation", "acquisition", "recursion"),
}
_FORMS = "KEY=low..high, KEY=low..high:log or KEY=a,b,c"


def search_space(file: Path | None, given: Sequence[str]) -> Space:
    """The axes of each phase: the table above, or a file's, with those given one by one in their place.

    Args:
        file: TOML with a table `[base]` or `[recursion]` in place of a phase's; a line an axis:
            `"model.dropout" = {low = 0.1, high = 0.5}` (`log = true`), `"model.dim" = {choices = [32, 64]}`.
        given: `KEY=low..high`, `KEY=low..high:log` or `KEY=a,b,c`.

    Raises:
        ConfigError: if one cannot be read, or the setting belongs to no phase.
    """
    space = {phase: {axis.key: axis for axis in axes} for phase, axes in SPACE.items()}
    if file is not None:
        space |= _read(file)
    for axis in map(parse_axis, given):
        space[phase_of(axis.key)][axis.key] = axis
    return {phase: tuple(axes.values()) for phase, axes in space.items()}


def check_axes(axes: Sequence[Axis], config: Config) -> None:
    """Fail where the end of an axis is no possible value of its setting.

    Raises:
        ConfigError: as `load_config`; names the nearest setting.
    """
    for axis in axes:
        for end in axis.ends:
            with_values(config, {axis.key: end})


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration with these settings in it."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return load_config(overrides=overrides, base=config.model_dump(mode="json"))


def current(config: Config, axes: Sequence[Axis]) -> dict[str, Any]:
    """What the configuration has on each axis."""
    values = config.model_dump(mode="json")
    found = {axis.key: values[axis.key.split(".")[0]][axis.key.split(".")[1]] for axis in axes}
    return {key: "none" if value is None else value for key, value in found.items()}


def parse_axis(text: str) -> Axis:
    """An axis as it is typed.

    Raises:
        ConfigError: if it has another form.

    >>> parse_axis("training.learning_rate=1e-4..1e-2:log")
    Axis(key='training.learning_rate', low=0.0001, high=0.01, log=True, choices=())
    >>> parse_axis("model.dim=32,64").choices
    (32, 64)
    """
    key, equals, rest = text.partition("=")
    if not equals or not key.strip() or not rest.strip():
        raise ConfigError(f"--search {text!r} has another form than {_FORMS}")
    between = re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", rest.strip())
    if between is None:
        return _axis(key.strip(), {"choices": [_value(part) for part in rest.split(",")]})
    low, high = _value(between[1]), _value(between[2])
    return _axis(key.strip(), {"low": low, "high": high, "log": bool(between[3])})


def phase_of(key: str) -> Phase:
    """The phase in which a setting is searched.

    Raises:
        ConfigError: if in none.

    >>> phase_of("model.dim")
    'base'
    """
    for phase, sections in _SECTIONS.items():
        if key.split(".")[0] in sections and key.count(".") == 1:
            return phase
    known = ", ".join(name for sections in _SECTIONS.values() for name in sections)
    raise ConfigError(f"{key!r} cannot be searched: choose a setting of {known}, as in model.dropout")


def _axis(key: str, values: Mapping[str, Any]) -> Axis:
    """An axis from plain values, checked."""
    if unknown := values.keys() - {"low", "high", "log", "choices"}:
        raise ConfigError(f"space of {key}: unknown {min(unknown)!r}; there are low, high, log, choices")
    low, high, log, choices = (values.get(name) for name in ("low", "high", "log", "choices"))
    if choices is not None:
        if low is not None or high is not None or not isinstance(choices, list) or not choices:
            raise ConfigError(f"space of {key}: give choices, a list of values, or low and high")
        return Axis(key, choices=tuple(choices))
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or low >= high or (log and low <= 0):  # type: ignore[operator]
        raise ConfigError(
            f"space of {key}: low = {low!r} must be a number below high = {high!r}, above 0 if log"
        )
    return Axis(key, low, high, bool(log))


def _value(text: str) -> Value:
    """A number, a truth value, or else the text itself."""
    text = text.strip()
    try:
        value: Value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return float(text) if re.fullmatch(r"-?\.\d+", text) else text  # TOML wants a digit before the point
    return value


def _read(file: Path) -> dict[Phase, dict[str, Axis]]:
    """The axes of a file."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--space {file}: no such file") from None
    except (tomllib.TOMLDecodeError, OSError, UnicodeError) as error:
        raise ConfigError(f"--space {file} cannot be read: {str(error).splitlines()[0]}") from None
    found: dict[Phase, dict[str, Axis]] = {}
    for name, axes in tables.items():
        if name not in _SECTIONS or not isinstance(axes, dict) or not axes:
            raise ConfigError(
                f"--space {file}: {name!r} is no table of axes; there are [base] and [recursion]"
            )
        for key, values in axes.items():
            if not isinstance(values, dict) or phase_of(key) != name:
                raise ConfigError(
                    f'--space {file}: {key!r} in [{name}] is no axis: write "KEY" = {{low = …, high = …}}'
                )
        found[name] = {key: _axis(key, values) for key, values in axes.items()}
    return found
