"""Ray's Searcher over the study, and the bridge that it shares with the recorder.

The study is the only state: saving and restoring Ray's side is left to nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from lstmcls.config import TrainConfig
from tune.checkpoints import drop_all, drop_states, trial_folder
from tune.health import Health
from tune.mirror import Mirror
from tune.queue import Place, Slots, share, suspect
from tune.sittings import Clock, record_cut
from tune.space import Objective
from tune.stop import Stop
from tune.store import Store
from tune.study import (
    Suggest,
    ask,
    best_report,
    cut,
    finish,
    frozen_trial,
    is_fold_run,
    ranked,
    requeue,
)


class Listener(Protocol):
    """Who is told what happens, such as the table in the terminal."""

    def started(self, number: int, config: TrainConfig) -> None: ...
    def reported(self, number: int, report: dict[str, Any]) -> None: ...
    def finished(self, number: int, state: TrialState, why: str) -> None: ...
    def retried(self, number: int, why: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self) -> None: ...


class Tracker(Protocol):
    """Who keeps a copy of the study for another tool, such as TensorBoard or MLflow."""

    def update(self, study: optuna.Study) -> None:
        """Write what the study holds and is not written yet."""

    def close(self, winner: int | None) -> None:
        """The sitting ends; the model of trial `winner` of the search is in best/."""


@dataclass
class Bridge:
    """One study on its way through Ray: what is asked, and where reports go."""

    study: optuna.Study
    objective: Objective
    suggest: Suggest
    sampler: Callable[[int], optuna.samplers.BaseSampler | None]
    trials: int | None  # stop asking at this many
    listener: Listener
    stop: Stop
    checkpoints: Store
    clock: Clock
    health: Health
    mirror: Mirror | None = None  # where the checkpoints are in an object store
    trackers: Sequence[Tracker] = ()
    keep_all_weights: bool = False  # otherwise those of the best trial alone
    at_work: Callable[[], bool] = lambda: False  # whether `sampler` will have something soon
    before_ask: Callable[[], None] = lambda: None
    running: dict[int, optuna.Trial] = field(default_factory=dict)
    slots: Slots = field(default_factory=Slots)
    best: tuple[int, float] | None = None  # trial and value

    def __post_init__(self) -> None:
        for trial, report in ranked(self.study, self.objective):
            if trial.state.is_finished():
                self.best = (trial.number, report["objective"])
                break
        # What an earlier driver left that died between the end of a trial and its clearing up.
        left = set(self.checkpoints.names())
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() and self.folder(trial.number).name in left:
                self._clear(trial.number)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its searcher and callbacks into a snapshot that nobody reads.
        return {}

    def folder(self, number: int) -> Store:
        return trial_folder(self.checkpoints, self.study.study_name, number)

    def end(self, number: int, state: TrialState, why: str) -> None:
        """Write the end of a trial to the study, and delete what its worker left and no one needs.

        A trial that trained to its end without an objective that is a number has failed.
        """
        report = best_report(frozen_trial(self.study, number), self.objective)
        value = report["objective"] if report else None
        if state == TrialState.COMPLETE and value is None:
            state, why = TrialState.FAIL, f"{self.objective.metric} was never a number"
        told = value if state == TrialState.COMPLETE else None
        finish(self.study, number, state, why, told, self.clock())
        self._leaves(number)
        self._keep(number, None if state == TrialState.FAIL else value)
        self.listener.finished(number, state, why)

    def retry(self, number: int, why: str, counted: str | None = "attempts") -> None:
        """Put a running trial back in the queue; it goes on from its checkpoint.

        `counted`: the attribute that counts its attempts, or its losses.
        """
        trial = self._leaves(number)
        if trial is not None and counted is not None:
            first = 1 if counted == "attempts" else 0
            before = frozen_trial(self.study, number).user_attrs.get(counted, first)
            trial.set_user_attr(counted, before + 1)
        requeue(self.study, number)
        self.listener.retried(number, why)

    def cut(self, why: str) -> None:
        """The search has ended: what it cut short stays in the queue, with its checkpoints."""
        record_cut(self.study, self.clock())
        for number in cut(self.study, why):
            self._leaves(number)
            self.listener.finished(number, TrialState.PRUNED, why)

    def _leaves(self, number: int) -> optuna.Trial | None:
        self.slots.end(number)
        return self.running.pop(number, None)

    def _keep(self, number: int, value: float | None) -> None:
        """Clear up after a trial that ended, and after the best one if this one is better.

        Of equals the first is the better one, as in `ranked`.
        """
        before = self.best
        if value is not None and (
            before is None
            or self.objective.better(value, before[1])
            or (value == before[1] and number < before[0])
        ):
            self.best = (number, value)
            if before is not None:
                self._clear(before[0])
        self._clear(number)

    def _clear(self, number: int) -> None:
        keeps_weights = self.keep_all_weights or (self.best and number == self.best[0])
        drop = functools.partial(drop_states if keeps_weights else drop_all, self.folder(number))
        if self.mirror is not None:
            self.mirror.afterwards(drop)
        else:
            drop()


class StudySearcher(Searcher):  # type: ignore[misc]
    """Suggests what the study asks for next; a trial's order is its number and TrainConfig."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(metric="objective", mode=bridge.objective.mode)
        self._bridge = bridge

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Ray leaves it to a searcher that answers True to suggest no more than have room."""
        self._bridge.slots.room = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        bridge = self._bridge
        asked = self._ask()
        # With nothing running Ray would only sleep until it asks again.
        while asked is None and bridge.at_work() and not (bridge.running or bridge.stop.stop_all()):
            bridge.listener.tick()
            asked = self._ask()
        if asked is None:
            if (bridge.running or bridge.at_work()) and not bridge.stop.reason:
                return None  # a trial may yet come: that of a worker that dies, or a new one
            finished: str = Searcher.FINISHED
            return finished
        trial, config = asked
        bridge.running[trial.number] = trial
        frozen = frozen_trial(bridge.study, trial.number)
        place = self._place(frozen)
        best = best_report(frozen, bridge.objective)
        bridge.listener.started(trial.number, config)
        return {
            "number": trial.number,
            "train": config.to_dict(),
            "fold": frozen.params["fold"] if is_fold_run(frozen) else 0,
            "recorded": len(frozen.intermediate_values),
            "best": best and [best["step"], best["objective"]],
            "share": place.shares,  # times the usual resources
            "bundle": place.bundle,
            "apart": list(place.apart),  # ids of nodes
        }

    def _ask(self) -> tuple[optuna.Trial, TrainConfig] | None:
        bridge = self._bridge
        room = bridge.slots.free()
        if bridge.stop.reason or room is None:
            return None
        bridge.before_ask()
        return ask(bridge.study, bridge.suggest, bridge.sampler, bridge.trials, room)

    def _place(self, trial: FrozenTrial) -> Place:
        usual = place = self._bridge.health.place()
        failed_on = trial.user_attrs.get("failed_on", [])
        if failed_on or share(trial) > 1:
            place = self._bridge.health.place(share(trial), failed_on)
        first = (place.bundle, place.apart) != (usual.bundle, usual.apart)
        self._bridge.slots.begin(trial.number, place, first=first, alone=suspect(trial))
        return place

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """StudyRecorder writes the end of a trial: it also sees why."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is written as things happen."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
