"""Which sampler suggests a trial: a new one for every trial, of no configuration a second time.

What a sampler suggests depends on the study and the space's seed alone, so that a resumed search
goes on as if it had never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig
from tune.space import SearchSpace
from tune.study import frozen_trial

TRIES = 10  # points that a sampler may suggest until one of them is new; gp has but one, in seconds
PATIENCE = (
    0.1  # seconds to wait for a suggestion from the thread, as long as Ray waits for a report
)

# What a sampler cannot model: parameters that some trials lack, and some kinds.
_CONDITIONAL_ONLY = ("gp", "qmc")
_NUMBERS_ONLY = "cmaes"


class Samplers:
    """The sampler of each trial of a study, by its number; made once a sitting."""

    def __init__(
        self, space: SearchSpace, study: optuna.Study, note: Callable[[str], None]
    ) -> None:
        self._space, self._study, self._note = space, study, note
        self._tried: dict[int, TrainConfig] = {}  # by trial
        self._repeats = not any(p.endless and not p.when for p in space.parameters)
        self._over = False
        self._under_way: Future[Drawn] | None = None

    def __call__(self, number: int) -> BaseSampler | None:
        """None: there is none yet (`at_work`), or nothing is left to suggest."""
        sampler = make_sampler(self._space, number)
        if self._space.sampler.name == "grid" or self._point_known(number):
            return sampler
        if self._repeats:
            self._look()
            if self._untried == {}:
                self._say_it_is_over()
                return None
            sampler = Fresh(self._space, sampler, self._tried, self._untried, number)
        return self._in_thread(sampler) if self._space.sampler.name == "gp" else sampler

    def at_work(self) -> bool:
        """Whether a suggestion is under way; it is dropped if nobody asks for it."""
        return self._under_way is not None

    def _point_known(self, number: int) -> bool:
        """Whether the trial is in the queue with parameters: enqueued, or begun before."""
        with suppress(KeyError):
            trial = frozen_trial(self._study, number)
            return bool(trial.params or trial.system_attrs.get("fixed_params"))
        return False

    @cached_property
    def _untried(self) -> dict[TrainConfig, dict[str, Any]] | None:
        """Every configuration that no trial had yet, and its point; None: they are endless."""
        points = self._space.points()
        return None if points is None else dict(_configs(self._space, points))

    def _say_it_is_over(self) -> None:
        if not self._over:
            self._over = True
            self._note("every configuration of the space has been tried: no more trials")

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _look(self) -> None:
        """At the trials since the last look; one in the queue may have no parameters yet."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.number not in self._tried:
                for config, _ in _configs(self._space, [trial.params] if trial.params else []):
                    self._tried[trial.number] = config
                    if self._untried is not None:
                        self._untried.pop(config, None)

    def _in_thread(self, sampler: BaseSampler) -> BaseSampler | None:
        """A Gaussian process takes seconds, in which reports and the clock must not wait.

        The thread has a copy of the study: nobody but the driver's main thread writes to it.
        """
        if self._under_way is None:
            trials = self._study.get_trials(deepcopy=False)
            direction = self._study.direction
            self._under_way = self._thread.submit(_draw, self._space, direction, trials, sampler)
        wait([self._under_way], PATIENCE)
        if not self._under_way.done():
            return None
        drawn, self._under_way = self._under_way.result(), None
        return drawn


def _configs(
    space: SearchSpace, points: list[dict[str, Any]]
) -> Iterator[tuple[TrainConfig, dict[str, Any]]]:
    for point in points:
        with suppress(BadInput):  # values that do not go together, or not all are there yet
            yield space.config(point), point


def _draw(
    space: SearchSpace,
    direction: optuna.study.StudyDirection,
    trials: list[FrozenTrial],
    sampler: BaseSampler,
) -> Drawn:
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials(trials)
    trial = study.ask()
    with suppress(BadInput):  # `ask` finds out too
        space.suggest(trial)
    return Drawn(space, trial.params)


class Drawn(BaseSampler):
    """Suggests a point that is known."""

    def __init__(self, space: SearchSpace, point: Mapping[str, Any]) -> None:
        self._space, self._point = space, dict(point)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {p.name: p.distribution() for p in self._space.parameters if p.name in self._point}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._point

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise KeyError(f"{param_name}: not of the point that was drawn")


class Fresh(Drawn):
    """Suggests a configuration that no trial had: it would only train to the same bits again.

    The points are another sampler's. Where all its TRIES are known ones, a random point that is
    not (of endlessly many: may be) takes their place.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        tried: Mapping[int, TrainConfig],
        untried: Mapping[TrainConfig, dict[str, Any]] | None,
        number: int,
    ) -> None:
        super().__init__(space, {})
        self._sampler, self._seed = sampler, _seed(space, number)
        self._tried = set(tried.values())
        self._untried = None if untried is None else list(untried.values())

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self._point = self._fresh_point(study, trial)
        return super().infer_relative_search_space(study, trial)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def _fresh_point(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        for _ in range(1 if self._space.sampler.name == "gp" else TRIES):
            point = self._suggested(study, trial)
            if not any(config in self._tried for config, _ in _configs(self._space, [point])):
                return point
        draw = random.Random(self._seed)
        return draw.choice(self._untried) if self._untried else self._space.random_point(draw)

    def _suggested(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """A point as Optuna's own Trial would ask the sampler for it, parameter by parameter."""
        sampler = self._sampler
        modelled = sampler.infer_relative_search_space(study, trial)
        relative = sampler.sample_relative(study, trial, modelled)
        point: dict[str, Any] = {}
        for parameter in self._space.parameters:
            if not parameter.is_active(point):
                continue
            name, distribution = parameter.name, parameter.distribution()
            if distribution.single():
                value = _only_value(distribution)
            elif name in relative:
                value = relative[name]
            else:
                value = sampler.sample_independent(study, trial, name, distribution)
            point[name] = parameter.snap(value)
        return point


def _only_value(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return vars(distribution)["low"]


class _Sequence(optuna.samplers.QMCSampler):
    """QMC over the parameters that every trial has: one sequence, from the first trial on.

    Optuna's own has those of the first trial that ended, so that the sequence begins anew there.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(
            scramble=True,
            seed=space.seed,  # the same for all trials: their points are one sequence
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
        )
        self._spread = {p.name: p.distribution() for p in space.parameters if not p.when}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._spread)


def make_sampler(space: SearchSpace, number: int) -> BaseSampler:
    """The sampler of trial `number`, seeded by the space's seed and the number."""
    seed, startup = _seed(space, number), space.sampler.startup_trials
    match space.sampler.name:
        case "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=10 if startup is None else startup,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=seed,
            )
        case "gp":
            return optuna.samplers.GPSampler(
                n_startup_trials=10 if startup is None else startup,
                seed=seed,
                warn_independent_sampling=False,
            )
        case "cmaes":
            return optuna.samplers.CmaEsSampler(
                n_startup_trials=1 if startup is None else startup,
                seed=seed,
                warn_independent_sampling=False,
            )
        case "qmc":
            return _Sequence(space, seed)
    return optuna.samplers.RandomSampler(seed=seed)  # random, and grid, whose points are enqueued


def _seed(space: SearchSpace, number: int) -> int:
    return int(np.random.SeedSequence([space.seed, number]).generate_state(1)[0])


def drawn_at_random(space: SearchSpace) -> str | None:
    """A line that names the parameters that the space's sampler cannot model; None: all are."""
    name = space.sampler.name
    if name not in (*_CONDITIONAL_ONLY, _NUMBERS_ONLY):
        return None
    names = [
        p.name
        for p in space.parameters
        if p.when or (name == _NUMBERS_ONLY and p.kind == "categorical")
    ]
    if not names:
        return None
    are = "they are" if len(names) > 1 else "it is"
    does = "spread its points over" if name == "qmc" else "model"
    return f"{name} does not {does} {', '.join(names)}: {are} drawn at random; tpe models all"
