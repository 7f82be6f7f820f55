"""Ray's Callback that writes what trials do into the study, and deals with their failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.tune
from optuna.trial import TrialState

from tune.cluster import kill_worker
from tune.failures import OWNER_DIED, Fate, Streak, death, judge
from tune.journal import AnotherWriter
from tune.searcher import Bridge
from tune.stop import GRACE, Stop
from tune.study import WORKED, frozen_trial, record_report
from tune.trial import DIED, DISK_FULL, FULL, NODE_LOST, OUT_OF_MEMORY, REPORT_KEYS
from tune.watchdog import Watchdog

TRACK_EVERY = 2.0  # seconds between two updates of the trackers

logger = logging.getLogger(__name__)


class StudyRecorder(ray.tune.Callback):  # type: ignore[misc]
    """Writes every report and every end of a trial to the study, then tells the listener."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._told_to_wait = False
        self._tracked = 0.0
        self._streak = Streak()
        self._watchdog = Watchdog()
        self._workers: dict[int, Any] = {}  # Ray's trials, of the numbers that have started
        self._failed_on: dict[int, list[str]] = {}  # nodes, of those that moved and are silent yet
        self._hung: dict[int, float] = {}  # seconds of silence after which a worker was killed

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as the Bridge: nobody reads Ray's snapshots

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self._bridge.slots.started(number)
        self._workers[number] = trial
        if failed_on := frozen_trial(self._bridge.study, number).user_attrs.get("failed_on"):
            self._failed_on[number] = failed_on
        self._watchdog.started(number, trial.config["train"]["report_every"])

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if result.get("note"):
            self._bridge.listener.note(f"trial {number}: {result['note']}")
        if "step" not in result:
            logger.error("trial %s: %s", number, result.get("traceback"))
            return
        self._is_well(number, result)
        report = {key: result[key] for key in REPORT_KEYS} | {WORKED: self._bridge.clock()}
        with _full_disk_ends(self._bridge.stop):
            if record_report(self._bridge.study, self._bridge.running[number], report):
                self._bridge.listener.reported(number, report)
                self._bridge.stop.saw(report["objective"])

    def _is_well(self, number: int, result: dict[str, Any]) -> None:
        """A report is a good sign for the trial, for its node and for all."""
        self._streak.reported()
        self._watchdog.reported(number, result["epoch"])
        if address := result.get("node_ip"):
            failed_on = self._failed_on.pop(number, [])
            for unfit in self._bridge.health.went_well(address, failed_on):
                self._bridge.listener.note(f"node {unfit} gets no more trials: they fail there")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._leaves(trial.config["number"])
        with _full_disk_ends(self._bridge.stop):
            self._ended(trial)

    def _ended(self, trial: Any) -> None:
        bridge, number, last = self._bridge, trial.config["number"], trial.last_result or {}
        ended = bool(last.get("step")) and last["epoch"] >= trial.config["train"]["epochs"]
        if last.get("failure"):
            self._failed(number, last["failure"], last["why"], last.get("node_ip"))
        elif ended or not last.get("step"):
            bridge.end(number, TrialState.COMPLETE, "trained to the end")
        elif not bridge.stop.reason:
            bridge.end(number, TrialState.PRUNED, f"asha at epoch {last['epoch']:g}")
        # Otherwise it was stopped from outside; what becomes of it is decided after the run.

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        # Not `trial.get_error()`: the storage that it reads has the file only later.
        number = trial.config["number"]
        silence = self._leaves(number)
        error = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        logger.error("trial %s: %s", number, error)
        if OWNER_DIED in error:
            self._bridge.stop.fail("Ray itself has died")
            # Now: its library ends this process a moment later, where it cannot go on.
            self._bridge.listener.note("Ray itself has died; go on with --resume")
            return
        kind, why = death(error), "its process ended"
        if silence is not None:
            kind, why = DIED, f"no report for {silence / 60:.0f} min"
        address = trial.last_result.get("node_ip")  # Ray has forgotten `trial.node_ip` by now
        if kind != OUT_OF_MEMORY and self._bridge.health.lost(address):
            kind, why = NODE_LOST, address or "before the trial started"
        with _full_disk_ends(self._bridge.stop):
            self._failed(number, kind, why, address)

    def _leaves(self, number: int) -> float | None:
        self._workers.pop(number, None)
        self._failed_on.pop(number, None)
        self._watchdog.ended(number)
        return self._hung.pop(number, None)

    def _failed(self, number: int, kind: str, why: str, address: str | None) -> None:
        """Try again what may go better the next time; end the rest as FAIL, or the search."""
        bridge, reason = self._bridge, f"{kind}: {why}"
        attributes = frozen_trial(bridge.study, number).user_attrs
        been = {address, *attributes.get("failed_on", [])}
        verdict = judge(kind, attributes, address, bridge.health.others(been))
        if verdict.unfit and address:
            bridge.health.condemn(address)
            bridge.listener.note(f"node {address} gets no more trials: {reason}")
        if verdict.fate == Fate.AGAIN:
            for name, value in verdict.marks.items():
                bridge.running[number].set_user_attr(name, value)
            bridge.retry(number, f"{reason}; {verdict.then}", verdict.counted)
        elif verdict.fate == Fate.FAIL:
            bridge.end(number, TrialState.FAIL, reason)
        else:
            bridge.stop.fail(reason)
        row = self._streak.failed(kind, verdict.fate, bridge.slots.room)
        if row and bridge.stop.fault is None:
            bridge.stop.fail(f"{row} failures in a row without a report; the last: {reason}")

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
        for number, silence in self._watchdog.hung():
            self._hung[number] = silence
            kill_worker(self._workers[number])
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
