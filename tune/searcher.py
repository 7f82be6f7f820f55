"""Ray's Searcher over the study, and the Callback that writes what trials do into it.

The study is the only state: saving and restoring Ray's side is left to nobody.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna
import ray.tune
from optuna.trial import TrialState
from ray.tune.search import Searcher

from lstmcls.config import TrainConfig
from tune.checkpoints import drop_all, drop_states, trial_folder
from tune.cluster import node_lost
from tune.journal import AnotherWriter
from tune.mirror import Mirror
from tune.sittings import Clock
from tune.space import Objective
from tune.stop import GRACE, Stop
from tune.store import Store
from tune.study import (
    WORKED,
    Suggest,
    ask,
    best_report,
    finish,
    frozen_trial,
    ranked,
    record_report,
    requeue,
)
from tune.trial import (
    DIED,
    DISK_FULL,
    FULL,
    NODE_LOST,
    NOT_SHARED,
    OUT_OF_MEMORY,
    REPORT_KEYS,
    STORE_FAILS,
)

TRACK_EVERY = 2.0  # seconds between two updates of the trackers
MAX_FAILURES = 2  # times that a trial whose worker died is tried again
MAX_LOSSES = 10  # the same where its whole node was lost: seldom the trial's doing

logger = logging.getLogger(__name__)


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
    mirror: Mirror | None = None  # where the checkpoints are in an object store
    trackers: Sequence[Tracker] = ()
    keep_all_weights: bool = False  # otherwise those of the best trial alone
    at_work: Callable[[], bool] = lambda: False  # whether `sampler` will have something soon
    running: dict[int, optuna.Trial] = field(default_factory=dict)
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
        self.running.pop(number, None)
        self._keep(number, None if state == TrialState.FAIL else value)
        self.listener.finished(number, state, why)

    def retry(self, number: int, why: str, blamed: bool = True) -> None:
        """Put a running trial back in the queue; it goes on from its checkpoint."""
        trial = self.running.pop(number)
        name, first = ("attempts", 1) if blamed else ("losses", 0)
        before = frozen_trial(self.study, number).user_attrs.get(name, first)
        trial.set_user_attr(name, before + 1)
        requeue(self.study, number)
        self.listener.retried(number, why)

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
        best = best_report(frozen, bridge.objective)
        bridge.listener.started(trial.number, config)
        return {
            "number": trial.number,
            "train": config.to_dict(),
            "recorded": len(frozen.intermediate_values),
            "best": best and [best["step"], best["objective"]],
            "share": frozen.user_attrs.get("share", 1),  # times the usual resources
        }

    def _ask(self) -> tuple[optuna.Trial, TrainConfig] | None:
        bridge = self._bridge
        if bridge.stop.reason:
            return None
        return ask(bridge.study, bridge.suggest, bridge.sampler, bridge.trials)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """StudyRecorder writes the end of a trial: it also sees why."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is written as things happen."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class StudyRecorder(ray.tune.Callback):  # type: ignore[misc]
    """Writes every report and every end of a trial to the study, then tells the listener."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._told_to_wait = False
        self._tracked = 0.0

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if result.get("note"):
            self._bridge.listener.note(f"trial {number}: {result['note']}")
        if "step" not in result:
            logger.error("trial %s: %s", number, result.get("traceback"))
            return
        report = {key: result[key] for key in REPORT_KEYS} | {WORKED: self._bridge.clock()}
        with _full_disk_ends(self._bridge.stop):
            if record_report(self._bridge.study, self._bridge.running[number], report):
                self._bridge.listener.reported(number, report)
                self._bridge.stop.saw(report["objective"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        with _full_disk_ends(self._bridge.stop):
            self._ended(trial)

    def _ended(self, trial: Any) -> None:
        bridge, number, last = self._bridge, trial.config["number"], trial.last_result or {}
        ended = bool(last.get("step")) and last["epoch"] >= trial.config["train"]["epochs"]
        if last.get("failure"):
            self._failed(number, last["failure"], last["why"])
        elif ended or not last.get("step"):
            bridge.end(number, TrialState.COMPLETE, "trained to the end")
        elif not bridge.stop.reason:
            bridge.end(number, TrialState.PRUNED, f"asha at epoch {last['epoch']:g}")
        # Otherwise it was stopped from outside; what becomes of it is decided after the run.

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        # Not `trial.get_error()`: the storage that it reads has the file only later.
        error = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        logger.error("trial %s: %s", trial.config["number"], error)
        if "owner has died" in error:  # the driver's own node: no trial is to blame
            self._bridge.stop.fail("Ray itself has died")
            # Now: its library ends this process a moment later, where it cannot go on.
            self._bridge.listener.note("Ray itself has died; go on with --resume")
            return
        killed_for_memory = "OutOfMemory" in error or "running low on memory" in error
        address = trial.last_result.get("node_ip")  # Ray has forgotten `trial.node_ip` by now
        lost = not killed_for_memory and node_lost(address)
        kind = OUT_OF_MEMORY if killed_for_memory else NODE_LOST if lost else DIED
        with _full_disk_ends(self._bridge.stop):
            why = address if lost else "its process ended"
            self._failed(trial.config["number"], kind, why)

    def _failed(self, number: int, kind: str, why: str) -> None:
        """Try again what may go better the next time; end the rest as FAIL."""
        bridge = self._bridge
        attributes = frozen_trial(bridge.study, number).user_attrs
        reason = f"{kind}: {why}"
        if kind in (DISK_FULL, NOT_SHARED, STORE_FAILS):
            bridge.stop.fail(reason)
        elif kind == OUT_OF_MEMORY and attributes.get("share", 1) == 1:
            bridge.running[number].set_user_attr("share", 2)
            bridge.retry(number, f"{reason}; tried again with twice the resources")
        elif kind == DIED and attributes.get("attempts", 1) <= MAX_FAILURES:
            bridge.retry(number, f"{reason}; tried again")
        elif kind == NODE_LOST and attributes.get("losses", 0) < MAX_LOSSES:
            bridge.retry(number, f"{reason}; goes on elsewhere", blamed=False)
        else:
            bridge.end(number, TrialState.FAIL, reason)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        bridge = self._bridge
        if bridge.stop.interrupted is not None and not self._told_to_wait:
            self._told_to_wait = True
            bridge.listener.note(
                f"interrupted: running trials come to their next report, {GRACE:g} s at most; "
                "once more stops at once"
            )
        if bridge.mirror is not None and bridge.mirror.lost:
            bridge.stop.fail(bridge.mirror.lost)
        bridge.listener.tick()
        if time.monotonic() > self._tracked + TRACK_EVERY:
            for tracker in bridge.trackers:
                tracker.update(bridge.study)
            self._tracked = time.monotonic()


@contextmanager
def _full_disk_ends(stop: Stop) -> Iterator[None]:
    """What Ray calls for a result must not raise: it would wrap the error in one of its own."""
    try:
        yield
    except AnotherWriter as error:
        stop.fail(str(error))
    except OSError as error:
        if error.errno not in FULL:
            raise
        stop.fail(f"{DISK_FULL}: {error}")
