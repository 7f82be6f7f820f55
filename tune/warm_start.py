"""`--warm-start RUN`: the best configurations of another run, where this space can express them."""

from __future__ import annotations

from typing import Any

from lstmcls.config import VARIANTS, TrainConfig
from tune.run_folder import RunFolder
from tune.space import SearchSpace, load_space
from tune.study import SEARCH, ranked, read_study

TAKEN = 5  # configurations, the best first


def warm_start_points(space: SearchSpace, run: RunFolder) -> tuple[list[dict[str, Any]], list[str]]:
    """(points of `space` to enqueue, a line for each configuration that was left out and why).

    Only configurations that `space` gives back exactly fit; the seed does not count.
    """
    other = load_space(str(run.space))
    study = read_study(run.journal, SEARCH)  # its own driver may be writing it
    if study is None:
        return [], []
    points: list[dict[str, Any]] = []
    left_out = []
    for trial, _ in ranked(study, other.objective)[:TAKEN]:
        point, misfits = point_of(space, other.config(trial.params))
        if misfits:
            left_out.append(f"trial {trial.number} does not fit: {'; '.join(misfits)}")
        elif point not in points:
            points.append(point)
    return points, left_out


def point_of(space: SearchSpace, config: TrainConfig) -> tuple[dict[str, Any], list[str]]:
    """The point at which `space` suggests `config`, and what keeps it from doing so."""
    first = _point_of(space, config, config.variant)
    if not first[1]:
        return first
    # Beside a parameter that sets a switch, another variant may come to the same network.
    others = (_point_of(space, config, variant) for variant in VARIANTS)
    return next((other for other in others if not other[1]), first)


def _point_of(
    space: SearchSpace, config: TrainConfig, variant: str
) -> tuple[dict[str, Any], list[str]]:
    point: dict[str, Any] = {}
    misfits = []
    for parameter in space.parameters:
        if not parameter.is_active(point):
            continue
        value = variant if parameter.field == "variant" else getattr(config, parameter.field)
        if parameter.contains(value):
            point[parameter.name] = parameter.snap(value)
        else:
            misfits.append(f"{parameter.name} {value!r} is outside the space")
    if misfits:
        return point, misfits
    mine, theirs = space.config(point).to_dict(), config.to_dict()
    return point, [
        f"{name} is {mine[name]!r} here, {theirs[name]!r} there"
        for name in mine
        if mine[name] != theirs[name] and name != "seed"
    ]
