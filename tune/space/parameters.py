"""Parameters of a search space: their values, their conditions, and both as Optuna knows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import optuna

from lstmcls.cli import BadInput, nearest
from lstmcls.config import FIELDS, VARIANTS, coerce

# Every field a parameter may set; `variant` stands for four switches.
SETTABLE = ("variant", *FIELDS)


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search; `when` holds the values its parents must have, all of them."""

    name: str
    field: str  # of TrainConfig, or `variant`
    kind: str  # categorical, int or float
    choices: tuple[Any, ...] = ()
    low: float | None = None  # whole numbers where kind is int
    high: float | None = None
    step: float | None = None
    log: bool = False
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    @property
    def endless(self) -> bool:
        """Whether it has more values than can be tried."""
        return self.kind == "float" and self.step is None

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The values as Optuna knows them."""
        if self.kind == "categorical":
            return optuna.distributions.CategoricalDistribution(self.choices)
        low, high = self.bounds()
        if self.kind == "int":
            step = int(self.step or 1)
            return optuna.distributions.IntDistribution(int(low), int(high), self.log, step)
        return optuna.distributions.FloatDistribution(low, high, self.log, self.step)

    def suggest(self, trial: optuna.trial.BaseTrial) -> Any:
        """Optuna's value for this parameter in `trial`."""
        if self.kind == "categorical":
            return trial.suggest_categorical(self.name, self.choices)
        low, high = self.bounds()
        if self.kind == "int":
            step = int(self.step or 1)
            return trial.suggest_int(self.name, int(low), int(high), step=step, log=self.log)
        return trial.suggest_float(self.name, low, high, step=self.step, log=self.log)

    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value of a number."""
        if self.low is None or self.high is None:
            raise TypeError(f"{self.name} is not a number")
        return self.low, self.high

    def values(self) -> Iterable[Any] | None:
        """Every value in order, or None for a range without steps (a float, or log: true)."""
        if self.kind == "categorical":
            return self.choices
        if self.step is None:
            return None
        low, high = self.bounds()
        count = round((high - low) / self.step) + 1
        return (self._at_step(k) for k in range(count))

    def snap(self, value: Any) -> Any:
        """`value` on the exact step: Optuna answers 0.30000000000000004 for steps of 0.1."""
        if self.kind == "categorical" or self.step is None:
            return value
        return self._at_step(round((value - self.bounds()[0]) / self.step))

    def _at_step(self, k: int) -> float:
        exact = Decimal(str(self.low)) + k * Decimal(str(self.step))
        return int(exact) if self.kind == "int" else float(exact)

    def contains(self, value: Any) -> bool:
        """Whether the search could suggest `value`."""
        if self.kind == "categorical":
            return value in self.choices
        low, high = self.bounds()
        if not low <= value <= high or (self.kind == "int" and value != int(value)):
            return False
        return self.step is None or abs(self.snap(value) - value) < 1e-8 * self.step

    def convert(self, value: Any) -> Any:
        """`value`, as a file states it, in this parameter's type.

        Raises:
            BadInput: the type is wrong, or the value lies outside the parameter's range.
        """
        converted = field_value(self.field, value)
        if self.kind == "int":
            converted = whole_number(converted, value)
        if not self.contains(converted):
            raise BadInput(f"{value!r} is outside the search: {self.describe()}")
        return self.snap(converted)

    def describe(self) -> str:
        """The values in words."""
        if self.kind == "categorical":
            return "one of " + ", ".join(map(_word, self.choices))
        return f"{self.low} to {self.high}" + (f" in steps of {self.step}" if self.step else "")

    def condition(self) -> str:
        """`when` in words."""
        return " and ".join(
            f"{parent} is {' or '.join(map(_word, allowed))}"
            for parent, allowed in self.when.items()
        )

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Whether every parent is among the (active) `values` and has an allowed value."""
        return all(name in values and values[name] in self.when[name] for name in self.when)

    def to_dict(self) -> dict[str, Any]:
        """The parameter as a file states it."""
        if self.kind == "categorical":
            spec: dict[str, Any] = {self.kind: list(self.choices)}
        else:
            spec = {self.kind: [self.low, self.high]}
            spec |= {"log": True} if self.log else {}
            spec |= {"step": self.step} if self.step is not None else {}
        if self.field != self.name:
            spec["field"] = self.field
        if self.when:
            spec["when"] = {parent: list(allowed) for parent, allowed in self.when.items()}
        return spec


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def whole_number(number: Any, stated: Any) -> int:
    """`number` as an int; a fraction is refused as `stated`."""
    if number != int(number):
        raise BadInput(f"expected a whole number, got {stated!r}")
    return int(number)


def field_value(field: str, value: Any) -> Any:
    """`value` as TrainConfig's (or `variant`'s) type, in the field's own limits.

    Raises:
        BadInput: one line, which does not name the field (the caller knows its key).
    """
    if field == "variant":
        if isinstance(value, str) and value in VARIANTS:
            return value
        raise BadInput(
            f"expected one of {', '.join(VARIANTS)}, got {value!r}{nearest(str(value), VARIANTS)}"
        )
    try:
        return coerce(field, value)
    except BadInput as fault:
        raise BadInput(fault.messages[0].removeprefix(f"{field}: ")) from None
