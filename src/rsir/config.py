"""The whole configuration: sections beside their owners, composed, read from files and overrides."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator

from rsir.acquire import AcquisitionConfig
from rsir.data.read import ReadConfig
from rsir.data.simulation import SimulationConfig
from rsir.data.splits import SplitConfig
from rsir.errors import ConfigError, MissingExtraError
from rsir.evaluate import EvaluationConfig
from rsir.generate import GenerationConfig
from rsir.models import DROPOUT_SHARE, MODELS, Backbone, ModelConfig, SASRecConfig
from rsir.settings import Settings
from rsir.train import TrainingConfig

_BACKBONE = "sasrec"
"""The backbone where none is named."""


ControlArm = Literal["updates", "plain", "duplicates", "unverified", "augmented"]
"""What a round is held against: the same updates with nothing added, or with sequences of another making."""


class RecursionConfig(Settings):
    """How rounds follow each other."""

    rounds: int = Field(1, ge=0, description="K: rounds of self-improvement; 0 trains and evaluates the base")
    start: Literal["auto", "warm", "cold"] = Field(
        "auto",
        description="a successor begins with its predecessor's weights, or afresh; auto: afresh where the "
        "backbone had better (hstu without times), else warm",
    )
    warm_learning_rate: float = Field(1e-3, gt=0, description="learning rate of warm-started rounds")
    warm_share: float | None = Field(
        1 / 3,
        gt=0,
        description="most updates of a warm-started round, as a share of the base's; none = no limit",
    )
    teachers: tuple[str, ...] = Field(
        (), description="runs whose chosen models generate, judge and teach; none given: this run's own"
    )
    bases: int = Field(
        3, ge=1, description="base models of different seeds; the further ones generate and teach beside"
    )
    writers: Literal["bases", "newest"] = Field(
        "bases",
        description="who generates and judges: all bases in every round, or the model of the round before "
        "in the first one's place",
    )
    newcomers: int = Field(
        1,
        ge=0,
        description="bases of further seeds trained for each round after the first, which then write too",
    )
    synthetic: Literal["newest", "all"] = Field(
        "newest", description="rounds whose admitted sequences a round learns from beside the observed data"
    )
    earlier_items: int = Field(
        0,
        ge=0,
        description="items that a model of reversed sequences puts before the first one of short histories; "
        "0 trains none",
    )
    earlier_longest: int = Field(8, ge=1, description="most events of a history that gets earlier items")
    dropout_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="dropout of what learns from more data or from teachers, as a share of the base's; "
        "none = as suits the backbone (0.6, hstu 1)",
    )
    dim: int | None = Field(
        None, ge=1, description="width of successors, which then begin afresh; none = the base's"
    )
    soft_observed: float = Field(
        0.0, ge=0, le=1, description="share of the teacher's distribution in targets of observed sequences"
    )
    soft_synthetic: float = Field(
        0.0, ge=0, le=1, description="share of the teacher's distribution in targets of synthetic sequences"
    )
    synthetic_weight: float = Field(
        1.0, gt=0, description="λ: weight of a synthetic sequence in the loss; observed ones have 1"
    )
    control: tuple[ControlArm, ...] = Field(
        ("updates",),
        description="arms trained beside, with the same start and updates: updates (nothing added), "
        "duplicates, unverified, augmented (as many sequences of another making); false for none",
    )
    patience: int | None = Field(
        2, ge=1, description="rounds without a better validation figure before stopping; none = never"
    )
    collapse: float | None = Field(
        0.2, gt=0, lt=1, description="stop when validation falls this share below the base; none = never"
    )

    def bases_of(self, k: int) -> int:
        """Bases that write in round k ≥ 1, the first one included.

        >>> [RecursionConfig(bases=3, newcomers=1).bases_of(k) for k in (1, 2, 3)]
        [3, 4, 5]
        """
        return self.bases + self.newcomers * (k - 1)

    @field_validator("control", mode="before")
    @classmethod
    def _arms(cls, given: object) -> object:
        """True is the matched control, False none; a text is a list with commas."""
        if given is None or isinstance(given, bool):
            return ("updates",) if given else ()
        return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else given

    @field_validator("control")
    @classmethod
    def _each_once(cls, arms: tuple[ControlArm, ...]) -> tuple[ControlArm, ...]:
        if len(set(arms)) < len(arms):
            raise ValueError("each arm can be named once")
        return arms


class Config(Settings):
    """Everything that decides the numbers of a run."""

    seed: int = Field(0, ge=0, lt=2**63, description="fixes everything random")
    monitor: str = Field("ndcg@10", description="validation metric that selects updates and rounds")
    simulation: SimulationConfig = Field(
        SimulationConfig(), description="users to simulate if no log is given"
    )
    data: ReadConfig = Field(ReadConfig(), description="how a log is read")
    split: SplitConfig = Field(SplitConfig(), description="how a log is cut")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="what is measured")
    model: ModelConfig = Field(SASRecConfig(), description="the backbone")
    training: TrainingConfig = Field(TrainingConfig(), description="how the backbone is fitted")
    generation: GenerationConfig = Field(GenerationConfig(), description="how rollouts are made and judged")
    acquisition: AcquisitionConfig = Field(AcquisitionConfig(), description="which rollouts are admitted")
    recursion: RecursionConfig = Field(RecursionConfig(), description="how rounds follow each other")

    @property
    def successor_start(self) -> Literal["warm", "cold"]:
        """How a successor begins: as told, afresh if it has its own width, else as suits the backbone."""
        if self.recursion.start != "auto":
            return self.recursion.start
        if self.recursion.dim is not None:
            return "cold"
        return "warm" if self._suited is None else self._suited.start

    @property
    def successor_dropout_share(self) -> float:
        """Dropout of a successor as a share of the base's: as told, else as suits the backbone."""
        if self.recursion.dropout_share is not None:
            return self.recursion.dropout_share
        return DROPOUT_SHARE if self._suited is None else self._suited.dropout_share

    @property
    def _suited(self) -> Backbone | None:
        """The backbone that says how its successors had better be; none where times are read.

        Synthetic sequences have no times, so that what reads them should go on from what it knows.
        """
        return None if getattr(self.model, "time_bias", False) is True else MODELS.get(self.model.name)

    def successor_model(self, dropout_share: float | None = None) -> ModelConfig:
        """The network of a successor.

        Args:
            dropout_share: of the base's dropout; default what learns from more data, or from teachers, has.

        Raises:
            ConfigError: if the backbone cannot have `recursion.dim`, or is to begin with narrower weights.
        """
        share = self.successor_dropout_share if dropout_share is None else dropout_share
        changes: dict[str, float] = {"dropout": share * self.model.dropout}
        if self.recursion.dim is not None:
            changes["dim"] = self.recursion.dim
            if self.successor_start == "warm":
                raise ConfigError(
                    f"recursion.dim = {self.recursion.dim} is for successors that begin afresh, and "
                    "recursion.start is 'warm': set it to 'cold' or 'auto'"
                )
        try:
            return type(self.model).model_validate({**self.model.model_dump(), **changes})
        except ValidationError as wrong:
            told = "; ".join(str(error["msg"]).removeprefix("Value error, ") for error in wrong.errors())
            raise ConfigError(f"recursion.dim = {self.recursion.dim}, but {told}") from None

    @field_validator("model", mode="before")
    @classmethod
    def _named(cls, model: Any) -> Any:
        """Settings of a backbone without its name are the default one's."""
        return {"name": _BACKBONE, **model} if isinstance(model, Mapping) else model


def load_config(
    file: str | Path | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Compose a configuration: defaults, then `base`, then a file, then `section.key=value` overrides.

    Where one of these names another backbone (`model.name`) than those before, it begins with the
    defaults of that backbone: settings of one mean nothing, or something else, to another.

    Args:
        file: TOML, JSON or (with the extra "yaml") YAML.
        overrides: such as `"generation.max_rank=10"`; values are written as in TOML, bare words are
            strings, `none` switches off.
        base: values that go before the file.

    Raises:
        ConfigError: for an unknown key (names the nearest), an impossible value, an unreadable file.

    >>> load_config(overrides=["generation.max_rank=none"]).generation.max_rank is None
    True
    """
    given: dict[str, Any] = {}
    for override in overrides:
        given = _merge(given, _parse(override))
    layers = [base or {}, _read(Path(file)) if file is not None else {}, given]
    return parse_config(reduce(_layer, layers, {}))


def parse_config(values: Mapping[str, Any]) -> Config:
    """Validate nested values; see `load_config`."""
    try:
        config = Config.model_validate(_nones(values))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None
    known = [f"{name}@{k}" for name in ("ndcg", "recall", "mrr") for k in config.evaluation.cutoffs]
    if config.monitor not in known:
        raise ConfigError(
            f"monitor = {config.monitor!r} is not measured: choose one of {', '.join(known)}, "
            "or add its cutoff to evaluation.cutoffs"
        )
    return config


def to_toml(config: Config) -> str:
    """The configuration as TOML that `load_config` reads back; `"none"` for what is off."""
    values = config.model_dump(mode="json")
    plain = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for section, fields in values.items():
        if isinstance(fields, dict):
            plain += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]
    return "\n".join(plain) + "\n"


def describe_config(config: Config) -> Iterator[tuple[str, object, object, str]]:
    """Every setting as (dotted name, value, default, meaning); a backbone's defaults are its own."""
    default = Config()
    for key, field in Config.model_fields.items():
        value, standard = getattr(config, key), getattr(default, key)
        if not isinstance(value, BaseModel):
            yield key, value, standard, field.description or ""
            continue
        own = standard if type(value) is type(standard) else type(value)()
        for name, inner in type(value).model_fields.items():
            usual = getattr(standard if name == "name" else own, name)
            yield f"{key}.{name}", getattr(value, name), usual, inner.description or ""


def _read(path: Path) -> dict[str, Any]:
    """A config file as nested values."""
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    try:
        if path.suffix in (".yaml", ".yml"):
            values = _yaml(path)
        elif path.suffix == ".json":
            values = json.loads(path.read_text())
        else:
            values = tomllib.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ConfigError(f"config file {path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} holds no table of settings")
    return values


def _yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("YAML config files need: pip install 'rsir[yaml]'") from None
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _parse(override: str) -> dict[str, Any]:
    """`a.b=value` as nested values."""
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {override!r} has no '=': write section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return dict(value)


def _layer(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `under`, without the settings of a backbone that is no longer the one."""
    models = (layer.get("model") for layer in (under, over))
    before, now = (model.get("name") if isinstance(model, Mapping) else None for model in models)
    if now not in (None, before or _BACKBONE):
        under = {key: value for key, value in under.items() if key != "model"}
    return _merge(under, over)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, `over` winning."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _nones(values: Any) -> Any:
    """`"none"` means None wherever it stands."""
    if isinstance(values, Mapping):
        return {key: _nones(value) for key, value in values.items()}
    return None if isinstance(values, str) and values.lower() == "none" else values


def _toml(value: object) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are written alike


def _explain(error: ValidationError) -> str:
    """The first problem in one line: the key, what was given, the rule."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    backbone = place.pop(1) if place[0] == "model" and len(place) > 1 else _BACKBONE
    name = ".".join(place)
    if first["type"] == "union_tag_invalid":
        asked = str(first["input"]["name"])
        near = difflib.get_close_matches(asked.lower(), [*MODELS, "own"], n=1, cutoff=0.0)[0]
        return f"unknown backbone model.name = {asked!r}: did you mean {near!r}? See `rsir models`"
    if first["type"] == "extra_forbidden":
        if isinstance(first["input"], dict):
            name = ".".join([name, *list(first["input"])[:1]])
        near = _nearest(name, backbone)
        return f"unknown setting {name!r}: did you mean {near!r}? See `rsir config show`"
    if first["type"] in ("model_type", "model_attributes_type"):
        return (
            f"{name} = {first['input']!r} is a section: set one of its keys, as in {_nearest(name + '.')}=…"
        )
    rule = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
    return f"impossible value {name}{given}: {rule[0].lower() + rule[1:]}"


def _nearest(name: str, backbone: str = _BACKBONE) -> str:
    """The known setting most like `name`."""
    known = [key for key, *_ in describe_config(parse_config({"model": {"name": backbone}}))]
    same_key = [key for key in known if key.split(".")[-1] == name.split(".")[-1]]
    section, _, _ = name.rpartition(".")
    in_section = [key for key in known if section and key.startswith(section + ".")]
    for pool in (same_key, in_section, known):
        if close := difflib.get_close_matches(name, pool, n=1, cutoff=0.0 if pool is same_key else 0.4):
            return close[0]
    return known[0]


def choices(section: type[Settings], key: str) -> tuple[str, ...]:
    """The values a setting of few names can take."""
    return get_args(section.model_fields[key].annotation)
