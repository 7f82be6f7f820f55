"""Points of a search space: sampled ones, the whole grid, and those a file enqueues."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lstmcls.cli import BadInput, nearest
from tune.space.faults import Faults, as_mapping
from tune.space.parameters import SETTABLE, Parameter, field_value


def sample_point(
    parameters: Sequence[Parameter], rng: random.Random, *, ends: bool, given: Mapping[str, Any]
) -> dict[str, Any]:
    """A random point that keeps the `given` values; `ends`: numbers at their bounds only."""
    point: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.is_active(point):
            known = parameter.name in given
            point[parameter.name] = (
                given[parameter.name] if known else _sample(parameter, rng, ends)
            )
    return point


def _sample(parameter: Parameter, rng: random.Random, ends: bool) -> Any:
    if parameter.kind == "categorical":
        return rng.choice(parameter.choices)
    low, high = parameter.bounds()
    if ends:
        return rng.choice((low, high))
    if parameter.log:
        value = min(high, max(low, math.exp(rng.uniform(math.log(low), math.log(high)))))
    else:
        value = rng.uniform(low, high)
    return parameter.snap(round(value) if parameter.kind == "int" else value)


def grid_points(parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """Every point of the conditional grid once, the last parameter moving fastest.

    Raises:
        BadInput: a parameter has no finite list of values.
    """
    endless = [parameter.name for parameter in parameters if parameter.values() is None]
    if endless:
        raise BadInput(f"no grid: {', '.join(endless)} without steps")
    return _grid(parameters, {})


def _grid(parameters: Sequence[Parameter], point: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not parameters:
        yield point
        return
    first, rest = parameters[0], parameters[1:]
    if not first.is_active(point):
        yield from _grid(rest, point)
        return
    for value in _every_value(first):
        yield from _grid(rest, {**point, first.name: value})


def _every_value(parameter: Parameter) -> Iterable[Any]:
    values = parameter.values()
    if values is not None:
        return values
    low, high = parameter.bounds()  # of whole numbers on a logarithmic scale
    return range(int(low), int(high) + 1)


def finite_points(parameters: Sequence[Parameter], most: int) -> list[dict[str, Any]] | None:
    """Every point once, in the order of `grid_points`; None where there are more than `most`."""
    if any(parameter.endless for parameter in parameters):
        return None
    points = list(itertools.islice(_grid(parameters, {}), most + 1))
    return points if len(points) <= most else None


def read_points(
    faults: Faults,
    raw: Any,
    parameters: Sequence[Parameter],
    fixed: Mapping[str, Any],
    broken: set[str],
) -> tuple[dict[str, Any], ...]:
    """The `enqueue:` section in parameter names; `broken` parameters are passed over."""
    if not isinstance(raw, list):
        faults.add("enqueue", f"expected a list of points such as [{{lr: 0.1}}], got {raw!r}")
        return ()
    points = []
    for index, item in enumerate(raw):
        key = f"enqueue[{index}]"
        stated = as_mapping(faults, key, item, "{lr: 0.1}")
        if stated is not None:
            stated = _searched_only(faults, key, stated, parameters, fixed, broken)
            points.append(_resolve(faults, key, stated, parameters, broken))
    return tuple(points)


def _searched_only(
    faults: Faults,
    key: str,
    stated: dict[str, Any],
    parameters: Sequence[Parameter],
    fixed: Mapping[str, Any],
    broken: set[str],
) -> dict[str, Any]:
    """`stated` less what is fixed to the same value, and less what is a fault."""
    names = {name for parameter in parameters for name in (parameter.name, parameter.field)}
    kept = {}
    for name, value in stated.items():
        if name in fixed:
            _check_fixed(faults, f"{key}.{name}", name, value, fixed[name])
        elif name in names:
            kept[name] = value
        elif name in SETTABLE and not broken:
            faults.add(f"{key}.{name}", "is not searched; add it to `space` or to `fixed`")
        elif name not in broken | set(SETTABLE):
            near = nearest(name, [*sorted(names), *fixed])
            faults.add(f"{key}.{name}", f"no such parameter or setting{near}")
    return kept


def _check_fixed(faults: Faults, key: str, field: str, value: Any, fixed: Any) -> None:
    try:
        same = field_value(field, value) == fixed
    except BadInput:
        same = False
    if not same:
        faults.add(key, f"{value!r} conflicts with `fixed`, which says {fixed!r}")


def _resolve(
    faults: Faults,
    key: str,
    stated: Mapping[str, Any],
    parameters: Sequence[Parameter],
    broken: set[str],
) -> dict[str, Any]:
    """The point in parameter names: a field goes to the parameter that sets it at this point."""
    point: dict[str, Any] = {}
    used: set[str] = set()
    unsure = bool(broken)  # a parent's fault would only be repeated by its children
    for parameter in parameters:
        if not parameter.is_active(point):
            continue
        given = [
            name for name in dict.fromkeys((parameter.name, parameter.field)) if name in stated
        ]
        used.update(given)
        if len(given) == 2:
            faults.add(f"{key}.{given[1]}", f"is already given by {given[0]}")
        if given:
            try:
                point[parameter.name] = parameter.convert(stated[given[0]])
            except BadInput as fault:
                faults.add(f"{key}.{given[0]}", fault.messages[0])
                unsure = True
    for name in [] if unsure else [name for name in stated if name not in used]:
        owners = [p for p in parameters if name in (p.name, p.field)]
        needs = "; or ".join(f"{p.name} when {p.condition()}" for p in owners)
        faults.add(f"{key}.{name}", f"not used at this point, which would have to say: {needs}")
    return point
