"""A search space with a setting that it searched fixed to one value, as `--set` asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tune.space.parameters import Parameter


def fix(parameters: Sequence[Parameter], field: str, value: Any) -> tuple[Parameter, ...]:
    """`parameters` (parents first) less those that set `field`, and less what `value` rules out.

    A child of one that goes is no longer conditional on it, where `value` lets it be active; it
    keeps the conditions that the parent had.
    """
    kept = tuple(parameters)
    for parameter in parameters:
        if parameter.field == field:
            kept = _without(kept, parameter, value)
    return kept


def _without(parameters: Sequence[Parameter], gone: Parameter, value: Any) -> tuple[Parameter, ...]:
    kept = []
    dropped: set[str] = set()
    for parameter in parameters:
        allowed = parameter.when.get(gone.name, (value,))
        if parameter.name == gone.name:
            continue
        if value not in allowed or dropped & set(parameter.when):
            dropped.add(parameter.name)
            continue
        if gone.name in parameter.when:
            when = {name: of for name, of in parameter.when.items() if name != gone.name}
            for name, of in gone.when.items():
                when[name] = tuple(v for v in when.get(name, of) if v in of)
            parameter = dataclasses.replace(parameter, when=when)
        kept.append(parameter)
    return tuple(kept)


def points_of(
    points: Sequence[Mapping[str, Any]],
    before: Sequence[Parameter],
    parameters: Sequence[Parameter],
) -> list[dict[str, Any]]:
    """Enqueued `points` in those of `before` that are left as `parameters`, each once.

    Left out is a point that would say less than it did: with another optimizer, say, the learning
    rate that it names has no place, and one at random would make it another point.
    """
    names = {parameter.name for parameter in parameters}
    found: list[dict[str, Any]] = []
    for point in points:
        left = {name: value for name, value in point.items() if name in names}
        if left not in found and _unsaid(left, parameters) <= _unsaid(point, before):
            found.append(left)
    return found


def _unsaid(point: Mapping[str, Any], parameters: Sequence[Parameter]) -> set[str]:
    """The parameters that are sampled at `point`, since it does not name them."""
    return {p.name for p in parameters if p.is_active(point) and p.name not in point}
