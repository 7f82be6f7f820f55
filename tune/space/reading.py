"""The `space:` section of a file as Parameters, with every fault it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from itertools import combinations
from typing import Any

from lstmcls.cli import BadInput, nearest
from lstmcls.config import FIELDS
from tune.space.faults import Faults, as_mapping, check_keys
from tune.space.parameters import SETTABLE, Parameter, field_value, whole_number

KINDS = ("categorical", "int", "float")
OPTIONS = (*KINDS, "step", "log", "field", "when")
NOT_SEARCHED = {
    "report_every": "trials are compared at the same reports; put it under `fixed`",
    "first_report": "trials are compared at the same reports; put it under `fixed`",
}
# Below this the steps between two values stay exact.
LARGEST_STEPS = 10**9
EXAMPLE = "{float: [0.001, 0.1], log: true}"


def read_parameters(
    raw: Mapping[str, Any], faults: Faults
) -> tuple[tuple[Parameter, ...], set[str]]:
    """The parameters of a `space:` section, parents first, and the names that have faults."""
    parsed = {name: _read_parameter(faults, name, spec) for name, spec in raw.items()}
    broken = {name for name, parameter in parsed.items() if parameter is None}
    sound = {name: parameter for name, parameter in parsed.items() if parameter is not None}
    for name, parameter in sound.items():
        before = len(faults.lines)
        when = _read_when(faults, name, raw, sound)
        sound[name] = dataclasses.replace(parameter, when=when)
        if len(faults.lines) > before:
            broken.add(name)
    ordered = _parents_first(faults, sound, broken)
    _check_together(faults, ordered, broken)
    return ordered, broken


def _read_parameter(faults: Faults, name: str, raw: Any) -> Parameter | None:
    """The parameter without its conditions, which need the other parameters."""
    key = f"space.{name}"
    if not isinstance(raw, dict):
        faults.add(key, f"expected {EXAMPLE} or the like, got {raw!r}; one value is for `fixed`")
        return None
    spec = {str(option): value for option, value in raw.items()}
    before = len(faults.lines)
    unknown = check_keys(faults, f"{key}.", spec, OPTIONS)
    field = _read_field(faults, name, spec)
    kinds = [kind for kind in KINDS if kind in spec]
    if len(kinds) != 1 and not unknown:
        got = " and ".join(kinds) or "none"
        faults.add(key, f"needs exactly one of {', '.join(KINDS)}; it has {got}")
    if len(kinds) != 1 or field is None:
        return None
    read = _read_choices if kinds[0] == "categorical" else _read_range
    parameter = read(faults, key, Parameter(name, field, kinds[0]), spec)
    return parameter if len(faults.lines) == before else None


def _read_field(faults: Faults, name: str, spec: Mapping[str, Any]) -> str | None:
    key = f"space.{name}"
    field = spec.get("field", name)
    if not name.isidentifier():
        faults.add(key, "a name has letters, digits and _ only")
    elif field not in SETTABLE:
        where = f"{key}.field" if "field" in spec else key
        hint = "" if "field" in spec else "; a name of your own needs `field: NAME`"
        near = nearest(str(field), SETTABLE)
        faults.add(where, f"{field!r} is no setting of the training{near}{hint}")
    elif field in NOT_SEARCHED:
        faults.add(key, f"{field} cannot be searched: {NOT_SEARCHED[field]}")
    elif name in SETTABLE and field != name:
        faults.add(f"{key}.field", f"{name} is itself a setting, so it cannot stand for {field}")
    else:
        return str(field)
    return None


def _read_choices(
    faults: Faults, key: str, parameter: Parameter, spec: Mapping[str, Any]
) -> Parameter | None:
    raw = spec["categorical"]
    for option in ("step", "log"):
        if option in spec:
            faults.add(f"{key}.{option}", "only for int and float")
    key = f"{key}.categorical"
    if not isinstance(raw, list) or not raw:
        faults.add(key, f"expected a list of at least one choice, got {raw!r}")
        return None
    choices: list[Any] = []
    for value in raw:
        try:
            choice = field_value(parameter.field, value)
        except BadInput as fault:
            faults.add(key, fault.messages[0])
            continue
        if choice in choices:
            faults.add(key, f"{value!r} is listed twice")
        choices.append(choice)
    return dataclasses.replace(parameter, choices=tuple(choices))


def _read_range(
    faults: Faults, key: str, parameter: Parameter, spec: Mapping[str, Any]
) -> Parameter | None:
    declared = "str" if parameter.field == "variant" else str(FIELDS[parameter.field].type)
    if declared in ("str", "bool") or (declared, parameter.kind) == ("int", "float"):
        usable = "int" if declared == "int" else "categorical"
        faults.add(f"{key}.{parameter.kind}", f"{parameter.field} needs {usable}: [...]")
        return None
    bounds = _read_bounds(faults, f"{key}.{parameter.kind}", parameter, spec)
    log = spec.get("log", False)
    if not isinstance(log, bool):
        faults.add(f"{key}.log", f"expected true or false, got {log!r}")
        return None
    if log and "step" in spec:
        faults.add(f"{key}.step", "cannot go with log: true; remove one of the two")
        return None
    if bounds is None:
        return None
    low, high = bounds
    if log and low <= 0:
        faults.add(f"{key}.log", f"needs a low bound above 0, got {low}")
        return None
    default_step = 1 if parameter.kind == "int" and not log else None
    step = _read_step(faults, f"{key}.step", spec, bounds) if "step" in spec else default_step
    return dataclasses.replace(parameter, low=low, high=high, log=log, step=step)


def _read_bounds(
    faults: Faults, key: str, parameter: Parameter, spec: Mapping[str, Any]
) -> tuple[float, float] | None:
    raw = spec[parameter.kind]
    if not isinstance(raw, list) or len(raw) != 2:
        faults.add(key, f"expected two bounds, [low, high], got {raw!r}")
        return None
    bounds = []
    for value in raw:
        try:
            bound = field_value(parameter.field, value)
            bounds.append(whole_number(bound, value) if parameter.kind == "int" else float(bound))
        except BadInput as fault:
            faults.add(key, fault.messages[0])
    if len(bounds) < 2:
        return None
    if bounds[0] > bounds[1]:
        faults.add(key, f"the low bound {raw[0]} is above the high bound {raw[1]}")
        return None
    return bounds[0], bounds[1]


def _read_step(
    faults: Faults, key: str, spec: Mapping[str, Any], bounds: tuple[float, float]
) -> float | None:
    whole = "int" in spec
    try:
        step = Decimal(str(float(spec["step"]))).normalize()
        usable = step > 0 and not isinstance(spec["step"], bool) and step.is_finite()
        usable = usable and not (whole and step % 1)
    except (TypeError, ValueError, ArithmeticError):
        usable = False
    if not usable:
        wanted = "a whole number of at least 1" if whole else "a number above 0"
        faults.add(key, f"expected {wanted}, got {spec['step']!r}")
        return None
    low, high = (Decimal(str(bound)).normalize() for bound in bounds)
    if (high - low) / step > LARGEST_STEPS:
        faults.add(key, f"makes more than {LARGEST_STEPS} values; use a larger one, or none")
        return None
    if (high - low) % step:
        last = low + (high - low) // step * step
        faults.add(key, f"steps of {step:f} from {low:f} end at {last:f}, not at {high:f}")
        return None
    return int(step) if whole else float(step)


def _read_when(
    faults: Faults, name: str, raw: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> dict[str, tuple[Any, ...]]:
    if "when" not in raw[name]:
        return {}
    key = f"space.{name}.when"
    stated = as_mapping(faults, key, raw[name]["when"], "{optimizer: sgd}")
    when: dict[str, tuple[Any, ...]] = {}
    for parent, allowed in (stated or {}).items():
        if parent == name:
            faults.add(key, f"{name} cannot depend on itself")
        elif parent not in raw:
            near = nearest(parent, [other for other in raw if other != name])
            faults.add(f"{key}.{parent}", f"no such parameter{near}")
        elif parent in parameters:  # one with faults of its own is reported there
            when[parent] = _read_allowed(faults, f"{key}.{parent}", parameters[parent], allowed)
    return when


def _read_allowed(faults: Faults, key: str, parent: Parameter, raw: Any) -> tuple[Any, ...]:
    stated = raw if isinstance(raw, list) else [raw]
    if not stated:
        faults.add(key, f"expected at least one value of {parent.name}")
    if parent.kind == "float" and parent.step is None:
        faults.add(key, f"{parent.name} has no single values to name; give it a step or choices")
        return ()
    allowed: list[Any] = []
    for value in stated:
        try:
            converted = parent.convert(value)
        except BadInput as fault:
            faults.add(key, fault.messages[0])
            continue
        if converted not in allowed:
            allowed.append(converted)
    return tuple(allowed)


def _parents_first(
    faults: Faults, parameters: Mapping[str, Parameter], broken: set[str]
) -> tuple[Parameter, ...]:
    """File order as far as every parent comes before its children; cycles go to `faults`."""
    ordered: dict[str, Parameter] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = path[path.index(name) :]
            if not broken.issuperset(cycle):
                faults.add(f"space.{name}.when", f"a cycle: {' -> '.join((*cycle, name))}")
                broken.update(cycle)
        elif name not in ordered:
            for parent in parameters[name].when:
                visit(parent, (*path, name))
            ordered.setdefault(name, parameters[name])

    for name in parameters:
        visit(name, ())
    return tuple(ordered.values())


def _check_together(faults: Faults, ordered: tuple[Parameter, ...], broken: set[str]) -> None:
    """Conditions that can never hold, and two parameters that set one field at the same time."""
    needs: dict[str, dict[str, tuple[Any, ...]]] = {}
    for parameter in ordered:
        # What hangs on a fault is judged when that fault is gone.
        if parameter.name in broken or not needs.keys() >= parameter.when.keys():
            continue
        merged = _all_conditions(parameter, needs)
        impossible = [name for name, allowed in merged.items() if not allowed]
        if impossible:
            faults.add(
                f"space.{parameter.name}.when",
                f"can never hold: its conditions want different values of {impossible[0]}",
            )
            broken.add(parameter.name)
            continue
        needs[parameter.name] = merged
    for one, other in combinations([p for p in ordered if p.name in needs], 2):
        if one.field == other.field and not _exclusive(needs[one.name], needs[other.name]):
            faults.add(
                f"space.{other.name}",
                f"sets {one.field}, as {one.name} does, and both can be active at once; give "
                "each a `when` on one common parameter, with different values",
            )


def _all_conditions(
    parameter: Parameter, needs: Mapping[str, dict[str, tuple[Any, ...]]]
) -> dict[str, tuple[Any, ...]]:
    """The values every ancestor may have while `parameter` is active: its own and inherited."""
    merged: dict[str, tuple[Any, ...]] = {}
    for parent, own in parameter.when.items():
        for name, allowed in [(parent, own), *needs[parent].items()]:
            merged[name] = tuple(v for v in merged.get(name, allowed) if v in allowed)
    return merged


def _exclusive(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> bool:
    return any(not set(one[name]) & set(other[name]) for name in one.keys() & other.keys())
