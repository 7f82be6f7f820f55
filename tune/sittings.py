"""The sittings of a run: its first start and every resume, as its search study keeps them.

What lies between two sittings is not time at work, nor is what a machine sleeps through in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import optuna

from tune.study import WORKED, reports_of

START = "sitting_"  # and its number: seconds since 1970, as `time.time`
COMMAND = "command_"  # and its number: as it was typed


def begin_sitting(search: optuna.Study, command: str) -> None:
    number = len(starts(search))
    search.set_user_attr(f"{START}{number}", time.time())
    search.set_user_attr(f"{COMMAND}{number}", command)


def record_cut(study: optuna.Study, worked: float) -> None:
    """That the trials of `study` are cut short after `worked` seconds, as of its `Clock`."""
    study.set_user_attr(WORKED, worked)


def starts(search: optuna.Study) -> list[float]:
    """When each sitting began, in order; seconds since 1970."""
    return sorted(_numbered(search, START))


def commands(search: optuna.Study) -> list[str]:
    """The command of each sitting, in order."""
    return _numbered(search, COMMAND)


class Clock:
    """Seconds at work on a study, over all sittings, for its events to be stamped with.

    The monotonic clock counts them: it stands still while the machine sleeps, and nobody sets it.
    """

    def __init__(self, studies: list[optuna.Study], began: float) -> None:
        """
        Args:
            studies: the search and, for its clock, the confirmation.
            began: when the work on the last of them did, on the monotonic clock.
        """
        self._before, self._began = _seconds_on_last(studies), began

    def __call__(self) -> float:
        return round(self._before + time.monotonic() - self._began, 3)


def seconds_spent(studies: list[optuna.Study]) -> float:
    """Seconds at work on `studies`, each to the last that was written to it.

    The first of the studies is the search.
    """
    return sum(_seconds_on_last(studies[:count]) for count in range(1, len(studies) + 1))


def worked_until(search: optuna.Study) -> Callable[[Mapping[str, Any]], float]:
    """Seconds at work on the search until a report of it came."""
    spans = _spans([search])

    def seconds(report: Mapping[str, Any]) -> float:
        if WORKED in report:
            return float(report[WORKED])
        begun = [span for span in spans if span[0] <= report["time"]] or spans[:1]
        before = sum(end - start for start, end in begun[:-1])
        return before + max(0.0, float(report["time"]) - begun[-1][0])

    return seconds


def _seconds_on_last(studies: list[optuna.Study]) -> float:
    """Seconds at work on the last of `studies`.

    What an earlier version wrote has the wall clock alone; later stamps have counted it in.
    """
    trials = studies[-1].get_trials(deepcopy=False)
    stamped = [event for trial in trials for event in (trial.user_attrs, *reports_of(trial))]
    stamped.append(studies[-1].user_attrs)
    if worked := [event[WORKED] for event in stamped if WORKED in event]:
        return float(max(worked))
    return _by_wall_clock(studies) - _by_wall_clock(studies[:-1])


def _by_wall_clock(studies: list[optuna.Study]) -> float:
    return sum(end - start for start, end in _spans(studies))


def _numbered(search: optuna.Study, prefix: str) -> list[Any]:
    found = {
        k.removeprefix(prefix): v for k, v in search.user_attrs.items() if k.startswith(prefix)
    }
    return [found[number] for number in sorted(filter(str.isdecimal, found), key=int)]


def _spans(studies: list[optuna.Study]) -> list[tuple[float, float]]:
    """(start, the last unstamped thing that it wrote) of each sitting; one where none is known."""
    events = []
    for study in studies:
        for trial in study.get_trials(deepcopy=False):
            events += [r["time"] for r in reports_of(trial) if WORKED not in r]
            if trial.datetime_complete is not None and WORKED not in trial.user_attrs:
                events.append(trial.datetime_complete.timestamp())
    began = (starts(studies[0]) if studies else []) or sorted(events)[:1]
    return [
        (start, max((event for event in events if start <= event < following), default=start))
        for start, following in pairwise([*began, float("inf")])
    ]
