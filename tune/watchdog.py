"""Finds workers that hang: nothing else would end a trial whose file system or GPU is stuck."""

from __future__ import annotations

import time
from dataclasses import dataclass

QUIET = 600.0  # seconds without a report for which no worker is suspected
PATIENCE = 20  # times as long as its slowest report: a trial takes that if its machine is busy
UNKNOWN = 3600.0  # in place of QUIET before a first report: how long that takes is not known
LOOK = 5.0  # seconds between two looks


@dataclass
class _Watched:
    report_every: float  # epochs
    heard: float  # when, on the monotonic clock
    epoch: float = 0.0
    pace: float = 0.0  # seconds an epoch, of its slowest report
    silent: float = 0.0  # seconds without a report while the driver looked


class Watchdog:
    """Told of each trial's start, reports and end; `hung` names those that are silent too long.

    Times that the driver itself was stopped do not count as silence.
    """

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._looked = time.monotonic()
        self._pace = 0.0  # of the slowest report of any trial

    def started(self, number: int, report_every: float) -> None:
        self._watched[number] = _Watched(report_every, time.monotonic())

    def reported(self, number: int, epoch: float) -> None:
        watched, now = self._watched.get(number), time.monotonic()
        if watched is None:
            return
        if epoch > watched.epoch:
            watched.pace = max(watched.pace, (now - watched.heard) / (epoch - watched.epoch))
            self._pace = max(self._pace, watched.pace)
        watched.epoch, watched.heard, watched.silent = epoch, now, 0.0

    def ended(self, number: int) -> None:
        self._watched.pop(number, None)

    def hung(self) -> list[tuple[int, float]]:
        """(number, seconds of silence) of each trial that is found to hang; each is named once.

        Until any trial has made a report nobody is suspected.
        """
        now = time.monotonic()
        passed = now - self._looked
        if passed < LOOK:
            return []
        self._looked = now
        found = []
        for number, watched in list(self._watched.items()):
            watched.silent += min(passed, 2 * LOOK)
            if self._pace and watched.silent > self._limit(watched):
                found.append((number, watched.silent))
                self.ended(number)
        return found

    def _limit(self, watched: _Watched) -> float:
        least, pace = (QUIET, watched.pace) if watched.pace else (UNKNOWN, self._pace)
        return max(least, PATIENCE * pace * watched.report_every)
