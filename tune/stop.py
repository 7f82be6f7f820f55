"""When a search ends before its trials run out: time, target, Ctrl-C, SIGTERM or SIGHUP."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray.tune

from tune.space import Objective

GRACE = 10.0  # seconds that running trials get after the first Ctrl-C to make a report


def ending_signals() -> list[signal.Signals]:
    """What, beside Ctrl-C, asks for an orderly end: SIGTERM, and SIGHUP when the terminal is lost.

    Who starts a search under `nohup`, which ignores SIGHUP, wants it to outlive the terminal.
    """
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


def interrupt_on_signals() -> None:
    """From now on `ending_signals` do what Ctrl-C does."""
    for number in ending_signals():
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Any) -> None:
    if number == signal.SIGHUP:
        _terminal_is_lost()
    raise KeyboardInterrupt


def _terminal_is_lost() -> None:
    """Ask for no second end, for SIGHUP comes from the kernel and from a shell; write on, unseen.

    A write to a terminal that is gone fails. One that is there (`kill -HUP`) stays in use.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with suppress(OSError):  # it is closed
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(nowhere, stream)
    os.close(nowhere)


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Stop(ray.tune.Stopper):  # type: ignore[misc]
    """`reason` is None until something ends the search; no trial is asked for after that.

    Time and target end it at once. The first Ctrl-C, SIGTERM or SIGHUP lets every running trial
    come to its next report, for GRACE seconds at most; the second raises KeyboardInterrupt.
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
        """While inside, Ctrl-C and its like come here; in a thread Python lets nobody ask."""
        if not in_main_thread():
            yield
            return
        signals = [signal.SIGINT, *ending_signals()]
        before = [signal.signal(number, self._on_signal) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            _terminal_is_lost()
        self.interrupt()
