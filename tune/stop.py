"""When a search ends before its trials run out: time, target, Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray.tune

from tune.space import Objective

GRACE = 10.0  # seconds that running trials get after the first Ctrl-C to make a report


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Stop(ray.tune.Stopper):  # type: ignore[misc]
    """`reason` is None until something ends the search; no trial is asked for after that.

    Time and target end it at once. The first Ctrl-C or SIGTERM lets every running trial come to
    its next report, for GRACE seconds at most; the second raises KeyboardInterrupt.
    """

    def __init__(
        self, objective: Objective, deadline: float | None = None, target: float | None = None
    ) -> None:
        self.reason: str | None = None
        self.interrupted: float | None = None  # when, on the monotonic clock
        self.fault: str | None = None  # what makes going on useless, such as a full disk
        self.deadline = deadline  # on the monotonic clock
        self._objective = objective
        self._target = target

    def saw(self, objective: float) -> None:
        """Take note of a reported objective: it may be the target."""
        target = self._target
        reached = target is not None and not self._objective.better(target, objective)
        if reached and objective == objective:  # not NaN
            self.reason = self.reason or f"target reached: {objective:g}"

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.interrupted is not None

    def stop_all(self) -> bool:
        now = time.monotonic()
        if self.interrupted is not None:
            return now > self.interrupted + GRACE
        if self.deadline is not None and now > self.deadline and not self.reason:
            self.reason = "time is up"
        return self.reason is not None

    def fail(self, fault: str) -> None:
        """End the run at once, for a fault that no trial is to blame for."""
        self.fault = self.reason = fault

    def interrupt(self) -> None:
        if self.interrupted is not None:
            raise KeyboardInterrupt
        self.interrupted = time.monotonic()
        self.reason = "interrupted"

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """While inside, SIGINT and SIGTERM come here; in a thread Python lets nobody ask."""
        if not in_main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, lambda *_: self.interrupt()) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
