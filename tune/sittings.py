"""The sittings of a run: its first start and every resume, as its search study keeps them.

What lies between two sittings is not time at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import optuna

from tune.study import reports_of

START = "sitting_"  # and its number: seconds since 1970, as `time.time`
COMMAND = "command_"  # and its number: as it was typed


def begin_sitting(search: optuna.Study, command: str) -> None:
    number = len(starts(search))
    search.set_user_attr(f"{START}{number}", time.time())
    search.set_user_attr(f"{COMMAND}{number}", command)


def starts(search: optuna.Study) -> list[float]:
    """When each sitting began, in order; seconds since 1970."""
    return sorted(_numbered(search, START))


def commands(search: optuna.Study) -> list[str]:
    """The command of each sitting, in order."""
    return _numbered(search, COMMAND)


def seconds_spent(studies: list[optuna.Study]) -> float:
    """Seconds at work: each sitting from its start to the last that it wrote to `studies`.

    The first of the studies is the search.
    """
    return sum(end - start for start, end in _spans(studies))


def work_clock(studies: list[optuna.Study]) -> Callable[[float], float]:
    """Seconds at work until a time, as `seconds_spent` counts them."""
    spans = _spans(studies)

    def worked(now: float) -> float:
        begun = [span for span in spans if span[0] <= now] or spans[:1]
        before = sum(end - start for start, end in begun[:-1])
        return before + max(0.0, now - begun[-1][0])

    return worked


def _numbered(search: optuna.Study, prefix: str) -> list[Any]:
    found = {
        k.removeprefix(prefix): v for k, v in search.user_attrs.items() if k.startswith(prefix)
    }
    return [found[number] for number in sorted(filter(str.isdecimal, found), key=int)]


def _spans(studies: list[optuna.Study]) -> list[tuple[float, float]]:
    """(start, the last that it wrote) of each sitting; one where none is recorded."""
    events = []
    for study in studies:
        for trial in study.get_trials(deepcopy=False):
            events += [report["time"] for report in reports_of(trial)]
            if trial.datetime_complete is not None:
                events.append(trial.datetime_complete.timestamp())
    began = starts(studies[0]) or sorted(events)[:1]
    return [
        (start, max((event for event in events if start <= event < following), default=start))
        for start, following in pairwise([*began, float("inf")])
    ]
