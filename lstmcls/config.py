"""TrainConfig: every hyperparameter, its unit and its limits.

A frozen, flat value, and the only shape that travels: a suggestion of the search, a worker's
order, a checkpoint and `best.yaml` hold the same fields.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lstmcls.cli import BadInput, nearest

# What PyYAML raises, besides its own errors, for values that do not fit their tag (`!!bool maybe`).
YAML_FAULTS = (ValueError, LookupError, AttributeError, RecursionError)

# The six networks of the notebook, as settings of four switches (dropout: a rate, 0 is off).
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"bidirectional": False, "dropout": 0.0, "zero_state": False, "max_pooling": False},
    "bidirectional": {
        "bidirectional": True, "dropout": 0.0, "zero_state": False, "max_pooling": False,
    },
    "dropout": {"bidirectional": False, "dropout": 0.5, "zero_state": False, "max_pooling": False},
    "zero_state": {
        "bidirectional": False, "dropout": 0.0, "zero_state": True, "max_pooling": False,
    },
    "max_pooling": {
        "bidirectional": False, "dropout": 0.0, "zero_state": False, "max_pooling": True,
    },
    "improved": {"bidirectional": True, "dropout": 0.5, "zero_state": True, "max_pooling": True},
}  # fmt: skip


def _within(
    default: Any,
    low: float,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> Any:
    limits = {"low": low, "high": high, "low_open": low_open, "high_open": high_open}
    return field(default=default, metadata=limits)


def _one_of(default: str, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines one training run, apart from the data.

    Raises:
        BadInput: a field has the wrong type or lies outside its limits; all faults at once.
    """

    # The network: four switches (`variant` in a file sets all four), sizes in units.
    bidirectional: bool = True
    dropout: float = _within(0.5, 0, 1, high_open=True)  # share of features dropped; 0 is off
    zero_state: bool = True  # h0, c0 are zeros; otherwise N(0, 1) at every forward pass
    max_pooling: bool = True  # maximum over time; otherwise the last time step
    padding: str = _one_of("masked", "masked", "counted")  # counted: the notebook's arithmetic
    embedding_dim: int = _within(128, 1, 8192)
    hidden_size: int = _within(128, 1, 8192)  # per direction
    layers: int = _within(1, 1, 8)
    mean_pooling: bool = False  # the mean over time beside the maximum or the last step
    attention_pooling: bool = False  # a mean over time whose weights are learned, likewise
    ngrams: int = _within(0, 0, 5)  # longest n-gram of tokens whose evidence is added; 0: none
    token_dropout: float = _within(0.0, 0, 1, high_open=True)  # share of tokens left out
    max_length: int = _within(0, 0)  # tokens read of a text, from its start; 0: all there are

    # The optimization.
    epochs: float = _within(3, 0, 10_000, low_open=True)  # passes over the training split
    batch_size: int = _within(64, 1, 65_536)  # rows
    optimizer: str = _one_of("adam", "sgd", "adam", "adamw", "rmsprop", "adagrad")
    lr: float = _within(2e-3, 0, 1000, low_open=True)
    momentum: float = _within(0.0, 0, 1, high_open=True)  # sgd and rmsprop
    nesterov: bool = False  # sgd with momentum
    weight_decay: float = _within(0.0, 0, 10)
    clip_norm: float = _within(1.0, 0)  # largest norm of the whole gradient; 0 is off
    schedule: str = _one_of("constant", "constant", "cosine", "one_cycle")
    warmup: float = _within(0.0, 0, 1, high_open=True)  # share of all steps
    label_smoothing: float = _within(0.0, 0, 1, high_open=True)  # Szegedy et al. 2016, section 7
    averaging: float = _within(0.0, 0, 1, high_open=True)  # decay of the weights' mean; 0 is off
    mixed_precision: bool = True  # on a CUDA GPU that has bf16: bf16, and float16 in the LSTM

    # The reports and the randomness.
    report_every: float = _within(1.0, 0, low_open=True)  # epochs between two validations
    first_report: float = _within(0.25, 0, low_open=True)  # epochs; where below report_every
    seed: int = _within(0, 0, 2**63 - 1)

    def __post_init__(self) -> None:
        faults: list[str] = []
        for spec in dataclasses.fields(self):
            try:
                value = coerce(spec.name, getattr(self, spec.name))
            except BadInput as fault:
                faults += fault.messages
            else:
                object.__setattr__(self, spec.name, value)
        if not faults and self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            faults.append("nesterov: needs optimizer sgd and momentum above 0")
        if faults:
            raise BadInput(*faults)

    @property
    def variant(self) -> str:
        """The notebook's name for the four switches, or `custom`."""
        mine = {**self.switches(), "dropout": self.dropout > 0}
        for name, switches in VARIANTS.items():
            if mine == {**switches, "dropout": switches["dropout"] > 0}:
                return name
        return "custom"

    def longest(self, max_length: int) -> int:
        """Tokens read of a text at most, where the data were cut at `max_length`."""
        return min(self.max_length or max_length, max_length)

    def pad_to(self, max_length: int) -> int | None:
        """The length of every padded row, in tokens; None: as long as the batch's longest row."""
        return self.longest(max_length) if self.padding == "counted" else None

    def switches(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in VARIANTS["plain"]}

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def variant_title(variant: str) -> str:
    """`TrainConfig.variant` for people who have not read what `custom` means."""
    return "custom, none of the six named networks" if variant == "custom" else variant


FIELDS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(TrainConfig)}


def coerce(name: str, value: Any) -> Any:
    """`value` as the declared type of field `name` (PyYAML reads 1e-4 as a string), in limits.

    Raises:
        BadInput: no such field, wrong type, or outside the limits.
    """
    if name not in FIELDS:
        raise BadInput(f"{name}: no such setting{nearest(name, [*FIELDS, 'variant'])}")
    spec = FIELDS[name]
    choices = spec.metadata.get("choices")
    if choices:
        if value not in choices:
            raise BadInput(
                f"{name}: expected one of {', '.join(choices)}, got {value!r}"
                f"{nearest(str(value), choices)}"
            )
        return value
    converted = _CONVERT[str(spec.type)](name, value)
    if spec.metadata:
        _check_limits(name, converted, spec.metadata)
    return converted


def _check_limits(name: str, value: float, limits: Mapping[str, Any]) -> None:
    low, high = limits["low"], limits["high"]
    above = value > low if limits["low_open"] else value >= low
    below = value < high if limits["high_open"] else value <= high
    if not (above and below and math.isfinite(value)):
        left = "above" if limits["low_open"] else "at least"
        right = f" and {'below' if limits['high_open'] else 'at most'} {high:g}" * math.isfinite(
            high
        )
        raise BadInput(f"{name}: expected {left} {low:g}{right}, got {value!r}")


def _to_bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
    if str(value).lower() in words:
        return words[str(value).lower()]
    raise BadInput(f"{name}: expected true or false, got {value!r}")


def _to_float(name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{name}: expected a number, got {value!r}") from None


def _to_int(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if isinstance(value, str):
            return int(value)  # as a float, a large seed would lose its last digits
    except ValueError:
        pass
    try:
        number = _to_float(name, value)
    except BadInput:
        number = math.nan
    if not number.is_integer():
        raise BadInput(f"{name}: expected a whole number, got {value!r}")
    return int(number)


_CONVERT = {"bool": _to_bool, "float": _to_float, "int": _to_int}


def config_from(mapping: Mapping[str, Any]) -> TrainConfig:
    """A TrainConfig from the fields of a file or a suggestion.

    `variant` stands for its four switches; a switch named beside it overrides the variant's.

    Raises:
        BadInput: every unknown field, wrong type and value outside its limits, one line each.
    """
    fields = dict(mapping)
    faults = [
        f"{name}: no such setting{nearest(name, [*FIELDS, 'variant'])}"
        for name in fields
        if name not in FIELDS and name != "variant"
    ]
    variant = fields.pop("variant", None)
    if variant is not None:
        if isinstance(variant, str) and variant in VARIANTS:
            fields = {**VARIANTS[variant], **fields}
        else:
            faults.append(
                f"variant: expected one of {', '.join(VARIANTS)}, got {variant!r}"
                f"{nearest(str(variant), VARIANTS)}"
            )
    try:
        config = TrainConfig(**{name: fields[name] for name in fields if name in FIELDS})
    except BadInput as fault:
        raise BadInput(*faults, *fault.messages) from None
    if faults:
        raise BadInput(*faults)
    return config


def load_config(path: Path | None, settings: Iterable[str] = ()) -> TrainConfig:
    """A TrainConfig from a YAML file (none: the defaults) and `key=value` settings over it.

    Raises:
        BadInput: the file cannot be read as a mapping, or a field is unknown or wrong.
    """
    mapping: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
        except yaml.YAMLError as error:
            raise BadInput(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
        except YAML_FAULTS as error:
            raise BadInput(f"{path}: not valid YAML ({error})") from None
        if not isinstance(loaded, dict):
            raise BadInput(f"{path}: expected lines of `setting: value`")
        mapping = {str(key): value for key, value in loaded.items()}
    try:
        return config_from(overridden(mapping, parse_settings(settings)))
    except BadInput as fault:
        source = path if path is not None else "--set"
        raise BadInput(*(f"{source}: {message}" for message in fault.messages)) from None


def overridden(mapping: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` with `settings` over it, where `variant` takes its four switches' place."""
    given = VARIANTS["plain"] if "variant" in settings else {}
    return {k: v for k, v in mapping.items() if k not in given} | dict(settings)


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """`["lr=0.1"]` as `{"lr": "0.1"}`; values stay text until a field's type is known."""
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadInput(f"--set {setting}: expected key=value")
        parsed[key.strip()] = value.strip()
    return parsed
