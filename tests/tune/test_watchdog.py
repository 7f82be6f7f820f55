"""Silent workers, by a clock that the test sets."""

from __future__ import annotations

import time

import pytest

from tune.watchdog import LOOK, PATIENCE, QUIET, UNKNOWN, Watchdog


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.dog = Watchdog()

    def passes(self, seconds: float) -> list[int]:
        """The driver looks all the while; who is found to hang."""
        found = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + LOOK)
            found += [number for number, _ in self.dog.hung()]
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_quick_trial_that_falls_silent(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    clock.passes(5)
    clock.dog.reported(0, 1.0)
    assert clock.passes(QUIET) == []
    assert clock.passes(LOOK) == [0]
    assert clock.passes(10 * QUIET) == []  # it is named once


def test_a_slow_trial_has_many_times_its_slowest_report(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    clock.passes(30)
    clock.dog.reported(0, 0.25)  # two minutes an epoch
    clock.passes(60)
    clock.dog.reported(0, 1.25)
    assert clock.passes(PATIENCE * 120) == []
    assert clock.passes(LOOK) == [0]


def test_a_trial_that_ended_is_not_watched(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    clock.passes(5)
    clock.dog.reported(0, 1.0)
    clock.dog.ended(0)
    assert clock.passes(10 * QUIET) == []


def test_before_the_first_report_of_all_nobody_is_suspected(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    clock.dog.started(1, report_every=1.0)
    assert clock.passes(10 * UNKNOWN) == []
    clock.dog.reported(1, 100.0)
    assert clock.passes(LOOK) == [0]  # its fellow took a hundredth of that


def test_before_its_own_first_report_a_trial_has_an_hour(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    clock.passes(5)
    clock.dog.reported(0, 1.0)
    clock.dog.ended(0)
    clock.dog.started(1, report_every=1.0)
    assert clock.passes(UNKNOWN) == []
    assert clock.passes(LOOK) == [1]


def test_a_report_that_comes_again_says_nothing_of_the_pace(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    for epoch in (2.0, 1.0, 2.0):  # it goes on from an older checkpoint
        clock.passes(10)
        clock.dog.reported(0, epoch)
    assert clock.passes(QUIET) == []
    assert clock.passes(LOOK) == [0]


def test_while_the_driver_is_stopped_nobody_is_silent(clock: Clock) -> None:
    clock.dog.started(0, report_every=1.0)
    clock.passes(5)
    clock.dog.reported(0, 1.0)
    clock.now += 10 * QUIET
    assert clock.dog.hung() == []
    assert clock.passes(QUIET - 2 * LOOK) == []
    assert clock.passes(LOOK) == [0]
