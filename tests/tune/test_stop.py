"""When a search ends before its trials run out."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest

from tune.space import Objective
from tune.stop import GRACE, Stop, ending_signals

HIGHEST, LOWEST = Objective("val_accuracy", "max"), Objective("val_loss", "min")


@pytest.mark.parametrize(
    ("objective", "seen", "reached"),
    [
        (HIGHEST, 0.89, False),
        (HIGHEST, 0.9, True),
        (HIGHEST, 0.95, True),
        (HIGHEST, math.nan, False),
        (LOWEST, 0.95, False),
        (LOWEST, 0.9, True),
        (LOWEST, 0.1, True),
        (LOWEST, math.nan, False),
    ],
)
def test_target(objective: Objective, seen: float, reached: bool) -> None:
    stop = Stop(objective, target=0.9)
    stop.saw(seen)
    assert stop.stop_all() is reached
    assert stop.reason == (f"target reached: {seen:g}" if reached else None)
    assert not stop("trial", {})  # trials are not stopped one by one


def test_the_first_reason_is_told() -> None:
    stop = Stop(HIGHEST, deadline=time.monotonic() - 1, target=0.5)
    stop.saw(0.75)
    stop.saw(0.9)
    assert stop.stop_all()
    assert stop.reason == "target reached: 0.75"


def test_without_a_limit_nothing_stops() -> None:
    stop = Stop(HIGHEST)
    stop.saw(1.0)
    assert not stop.stop_all()
    assert stop.reason is None


def test_deadline() -> None:
    assert not Stop(HIGHEST, deadline=time.monotonic() + 1000).stop_all()
    stop = Stop(HIGHEST, deadline=time.monotonic() - 0.001)
    assert stop.reason is None
    assert stop.stop_all()
    assert stop.reason == "time is up"


def test_a_fault_ends_the_run() -> None:
    stop = Stop(HIGHEST)
    stop.fail("disk full")
    assert stop.stop_all()
    assert (stop.fault, stop.reason, stop.interrupted) == ("disk full", "disk full", None)


def test_the_first_interrupt_waits_for_reports_and_the_second_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stop = Stop(HIGHEST, deadline=20.0)
    stop.interrupt()
    assert stop.reason == "interrupted"
    assert stop("trial", {})  # each at its next report
    assert not stop.stop_all()
    now[0] += GRACE
    assert not stop.stop_all()
    now[0] += 0.1
    assert stop.stop_all()
    with pytest.raises(KeyboardInterrupt):
        stop.interrupt()


def test_a_lost_terminal_is_a_signal_to_end_and_comes_twice() -> None:
    stop = Stop(HIGHEST)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.interrupted is not None
            os.kill(os.getpid(), signal.SIGHUP)  # from the shell
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_lost_terminal_is_nothing() -> None:
    stop = Stop(HIGHEST)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in ending_signals()
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.reason is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_come_here_and_go_back(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = Stop(HIGHEST)
    with pytest.raises(KeyboardInterrupt), stop.on_signals():  # noqa: PT012 - the second signal
        os.kill(os.getpid(), number)
        assert stop.interrupted is not None
        os.kill(os.getpid(), number)
        raise AssertionError("the second one was ignored")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
