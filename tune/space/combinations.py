"""Whether any of a space's suggestions breaks a rule that TrainConfig has across fields."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lstmcls.cli import BadInput
from tune.space.faults import Faults
from tune.space.points import sample_point

if TYPE_CHECKING:
    from tune.space.search_space import SearchSpace

# Sampled when a file is read, half of them with every number at a bound.
CHECKED_POINTS = 256


def check_combinations(faults: Faults, space: SearchSpace) -> None:
    """TrainConfig has rules across fields; each one a suggestion could break is a fault."""
    seen: set[str] = set()
    for point in _points_to_check(space):
        try:
            space.config(point)
        except BadInput as fault:
            for message in fault.messages:
                if message not in seen:
                    seen.add(message)
                    named = _combination(space, point, message)
                    faults.add("space", f"{named} can be suggested, but {message}")


def _points_to_check(space: SearchSpace) -> Iterator[dict[str, Any]]:
    rng = random.Random(0)
    for point in space.enqueue:
        yield sample_point(space.parameters, rng, ends=False, given=point)
    for index in range(CHECKED_POINTS):
        yield sample_point(space.parameters, rng, ends=index % 2 == 0, given={})


def _combination(space: SearchSpace, point: Mapping[str, Any], message: str) -> str:
    """The part of `point` that a rule's `message` is about."""
    values = dict(space.fixed)
    fields = {name: name for name in space.fixed}
    for parameter in space.active(point):
        values[parameter.name] = point[parameter.name]
        fields[parameter.name] = parameter.field
    words = set(re.findall(r"\w+", message))
    chosen = [name for name in values if fields[name] in words] or list(values)
    return ", ".join(f"{name}={values[name]}" for name in chosen)
