"""A search space: YAML in, Optuna suggestions and TrainConfigs out.

`load_space("full")` reads a file of `search_spaces/`, `load_space("my.yaml")` one of your own.
All faults of a file are reported at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from lstmcls.cli import BadInput, nearest
from lstmcls.config import FIELDS, TrainConfig, config_from
from tune.space.combinations import check_combinations
from tune.space.faults import Faults, as_mapping, as_whole, check_keys, read_yaml
from tune.space.parameters import SETTABLE, Parameter, field_value
from tune.space.points import finite_points, grid_points, read_points, sample_point
from tune.space.reading import EXAMPLE, read_parameters
from tune.space.settings import (
    DEFAULT_GRACE,
    Asha,
    Budget,
    Confirm,
    Objective,
    Resources,
    Sampler,
    first_report,
    read_asha,
    read_budget,
    read_confirm,
    read_objective,
    read_resources,
    read_sampler,
)

SPACES = Path(__file__).resolve().parent.parent.parent / "search_spaces"
LARGEST_GRID = 10_000
LARGEST_SEED = 2**32 - 1  # NumPy's, which seeds the samplers


@dataclass(frozen=True)
class SearchSpace:
    """Everything that defines a search, apart from the data itself."""

    parameters: tuple[Parameter, ...]  # parents before their children
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    enqueue: tuple[dict[str, Any], ...] = ()  # in parameter names, perhaps partial
    objective: Objective = dataclasses.field(default_factory=Objective)
    sampler: Sampler = dataclasses.field(default_factory=Sampler)
    asha: Asha | None = None
    budget: Budget = dataclasses.field(default_factory=Budget)
    resources: Resources = dataclasses.field(default_factory=Resources)
    confirm: Confirm = dataclasses.field(default_factory=Confirm)
    seed: int = 0
    data: str | None = None

    def suggest(self, trial: optuna.trial.BaseTrial) -> TrainConfig:
        """Ask `trial` for every active parameter, parents first."""
        params: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.is_active(params):
                params[parameter.name] = parameter.snap(parameter.suggest(trial))
        return self.config(params)

    def active(self, params: Mapping[str, Any]) -> list[Parameter]:
        """The parameters whose conditions hold at `params`."""
        known: dict[str, Any] = {}
        active = []
        for parameter in self.parameters:
            if parameter.is_active(known):
                active.append(parameter)
                if parameter.name in params:
                    known[parameter.name] = parameter.snap(params[parameter.name])
        return active

    def config(self, params: Mapping[str, Any]) -> TrainConfig:
        """The TrainConfig of a stored trial's `params`; inactive ones are ignored.

        Raises:
            BadInput: an active parameter is missing, or the values do not go together.
        """
        active = self.active(params)
        missing = [parameter.name for parameter in active if parameter.name not in params]
        if missing:
            raise BadInput(*(f"{name}: missing from the point" for name in missing))
        fields = {p.field: p.snap(params[p.name]) for p in active}
        return config_from({**self.fixed, **fields})

    @property
    def max_epochs(self) -> float:
        """The most epochs a trial can train."""
        return _max_epochs(self.parameters, self.fixed)

    def grid(self) -> list[dict[str, Any]]:
        """Every point of the conditional grid once, in a fixed order.

        Raises:
            BadInput: a parameter has no finite list of values.
        """
        return list(grid_points(self.parameters))

    def points(self) -> list[dict[str, Any]] | None:
        """Every point once, in a fixed order; None where they are endless or very many."""
        return finite_points(self.parameters, LARGEST_GRID)

    def random_point(self, draw: random.Random) -> dict[str, Any]:
        return sample_point(self.parameters, draw, ends=False, given={})

    def to_dict(self) -> dict[str, Any]:
        """The space as a file would state it, everything said; `parse_space` reads it back."""
        budget = dataclasses.asdict(self.budget)
        sampler = dataclasses.asdict(self.sampler)
        return {
            "space": {parameter.name: parameter.to_dict() for parameter in self.parameters},
            "fixed": dict(self.fixed),
            "enqueue": [dict(point) for point in self.enqueue],
            "objective": dataclasses.asdict(self.objective),
            "sampler": {key: value for key, value in sampler.items() if value is not None},
            "asha": dataclasses.asdict(self.asha) if self.asha else False,
            "budget": {key: value for key, value in budget.items() if value is not None},
            "resources": dataclasses.asdict(self.resources),
            "confirm": dataclasses.asdict(self.confirm),
            "seed": self.seed,
            **({"data": self.data} if self.data is not None else {}),
        }

    def to_yaml(self) -> str:
        """`to_dict` as YAML."""
        return yaml.safe_dump(
            self.to_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
        )


SECTIONS = (
    "space", "fixed", "enqueue", "objective", "sampler", "asha", "budget", "resources",
    "confirm", "seed", "data",
)  # fmt: skip


def load_space(name_or_path: str) -> SearchSpace:
    """The space in a file, or the one of that name in `search_spaces/`.

    Raises:
        BadInput: no such file or name, or every fault of the file, one line each.
    """
    path = Path(name_or_path)
    if path.is_file():
        source = str(name_or_path)
    else:
        path = SPACES / f"{name_or_path.removesuffix('.yaml')}.yaml"
        source = path.name
        known = sorted(file.stem for file in SPACES.glob("*.yaml"))
        if path.stem not in known or path.parent != SPACES:
            near = (
                nearest(Path(name_or_path).stem, known, likeness=0.6)
                or f"; known: {', '.join(known)}"
            )
            raise BadInput(f"{name_or_path}: no such file or search space{near}")
    faults = Faults(source)
    return _parse(read_yaml(path, faults), faults)


def parse_space(mapping: Mapping[str, Any], source: str) -> SearchSpace:
    """The space in a loaded `mapping`; `source` names it in messages.

    Raises:
        BadInput: every fault, one line each.
    """
    return _parse({str(key): value for key, value in mapping.items()}, Faults(source))


def _parse(raw: dict[str, Any], faults: Faults) -> SearchSpace:
    check_keys(faults, "", raw, SECTIONS)
    stated = {key: value for key, value in raw.items() if value is not None}
    before = len(faults.lines)
    parameters, broken = _read_space(faults, raw.get("space"))
    fixed = _read_fixed(faults, stated.get("fixed", {}), parameters, broken)
    sound = len(faults.lines) == before
    objective = read_objective(faults, stated.get("objective", {}))
    sampler = read_sampler(faults, stated.get("sampler", {}))
    _check_seeds(faults, parameters, sampler)
    points = _grid_size(faults, parameters) if sampler.name == "grid" and sound else None
    space = SearchSpace(
        parameters=parameters,
        fixed=fixed,
        enqueue=read_points(faults, stated.get("enqueue", []), parameters, fixed, broken),
        objective=objective,
        sampler=sampler,
        asha=_read_asha(faults, raw, parameters, fixed, sound),
        budget=read_budget(faults, stated.get("budget", {}), objective, points),
        resources=read_resources(faults, stated.get("resources", {})),
        confirm=read_confirm(faults, raw.get("confirm", {})),
        seed=as_whole(faults, "seed", stated.get("seed", 0), 0, LARGEST_SEED) or 0,
        data=_read_data(faults, raw.get("data")),
    )
    if sound:
        check_combinations(faults, space)
    faults.raise_any()
    return space


def _read_space(faults: Faults, raw: Any) -> tuple[tuple[Parameter, ...], set[str]]:
    if raw is None or raw == {}:
        faults.add("space", f"needs at least one parameter, such as lr: {EXAMPLE}")
        return (), set()
    section = as_mapping(faults, "space", raw, f"lr: {EXAMPLE}")
    return ((), {"space"}) if section is None else read_parameters(section, faults)


def _check_seeds(faults: Faults, parameters: Sequence[Parameter], sampler: Sampler) -> None:
    for parameter in parameters:
        if parameter.field == "seed" and sampler.name != "grid":
            faults.add(
                f"space.{parameter.name}",
                "the best seed is only the luckiest; seeds go with `sampler: grid`, which trains "
                "every setting on each of them",
            )


def _read_fixed(
    faults: Faults, raw: Any, parameters: Sequence[Parameter], broken: set[str]
) -> dict[str, Any]:
    fixed: dict[str, Any] = {}
    setters = {parameter.field: parameter.name for parameter in parameters}
    for field, value in (as_mapping(faults, "fixed", raw, "{batch_size: 64}") or {}).items():
        key = f"fixed.{field}"
        if field not in SETTABLE:
            faults.add(key, f"no such setting{nearest(field, SETTABLE)}")
        elif field in setters or field in broken:
            faults.add(key, f"is also searched, by space.{setters.get(field, field)}; keep one")
        else:
            try:
                fixed[field] = field_value(field, value)
            except BadInput as fault:
                faults.add(key, fault.messages[0])
    return fixed


def _read_asha(
    faults: Faults,
    raw: Mapping[str, Any],
    parameters: Sequence[Parameter],
    fixed: Mapping[str, Any],
    sound: bool,
) -> Asha | None:
    first = first_report(fixed)
    # With a fault among the parameters the largest number of epochs is not known.
    max_epochs = _max_epochs(parameters, fixed) if sound else math.inf
    if "asha" not in raw and max(first, DEFAULT_GRACE) > max_epochs:
        return None
    return read_asha(faults, raw.get("asha", {}), first=first, max_epochs=max_epochs)


def _max_epochs(parameters: Sequence[Parameter], fixed: Mapping[str, Any]) -> float:
    setters = [parameter for parameter in parameters if parameter.field == "epochs"]
    largest = [max(p.choices) if p.kind == "categorical" else p.bounds()[1] for p in setters]
    # Conditional ones may leave a trial with the default.
    if all(parameter.when for parameter in setters):
        largest.append(fixed.get("epochs", FIELDS["epochs"].default))
    return float(max(largest))


def _read_data(faults: Faults, raw: Any) -> str | None:
    if raw is not None and (not isinstance(raw, str) or not raw.strip()):
        faults.add("data", f"expected a name, a file or a folder, got {raw!r}")
        return None
    return raw


def _grid_size(faults: Faults, parameters: Sequence[Parameter]) -> int | None:
    endless = [parameter for parameter in parameters if parameter.values() is None]
    for parameter in endless:
        faults.add(
            f"space.{parameter.name}",
            f"the sampler grid needs steps or choices, not {parameter.kind}: "
            f"{list(parameter.bounds())} without a step",
        )
    if endless:
        return None
    size = sum(1 for _ in itertools.islice(grid_points(parameters), LARGEST_GRID + 1))
    if size > LARGEST_GRID:
        faults.add("sampler.name", f"the grid has more than {LARGEST_GRID} points; use another")
    return size
