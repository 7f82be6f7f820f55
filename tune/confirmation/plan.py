"""How the confirmation spends its time: into how many folds, and how many candidates begin.

Planned from what the search took: a run on all but one of k folds takes its share of the seconds
that the trial took for as many epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 3  # folds of the winner; on fewer it is not confirmed
LARGE, FEWER = 100_000, 3  # rows from which there are no more folds than these
USED, START = 0.85, 10.0  # of the time, but for some seconds: what is training of networks


@dataclass(frozen=True)
class Plan:
    folds: int
    candidates: int  # the first ones


def plan(
    rows: int, seconds: Sequence[float], left: float | None, slots: float, most_folds: int
) -> Plan:
    """How many folds there are and how many candidates begin the race.

    As many folds as asked for, if two candidates get FEWEST and the best all of them within the
    time; otherwise fewer, down to FEWEST; then as many candidates as fit.

    Args:
        rows: of all folds together.
        seconds: that each candidate's training takes on all rows, the best candidate first.
        left: seconds; None: without end.
        slots: how many runs there is room for at a time.
        most_folds: what the space asks for.
    """
    folds = min(most_folds, FEWER if rows >= LARGE else rows)
    if left is None or not seconds:
        return Plan(folds, len(seconds))
    time = USED * max(0.0, left - START) * slots
    while folds > FEWEST and _takes(folds, seconds[:2]) > time:
        folds -= 1
    fitting = [n for n in range(1, len(seconds) + 1) if _takes(folds, seconds[:n]) <= time]
    return Plan(folds, max(fitting, default=1))


def least_seconds(seconds: float, slots: float) -> float:
    """What FEWEST folds of one candidate need, whose training takes `seconds` on all rows."""
    rounds = math.ceil(FEWEST / max(1.0, slots))
    return START + rounds * seconds * (FEWEST - 1) / FEWEST / USED


def _takes(folds: int, seconds: Sequence[float]) -> float:
    """Seconds of one slot: the costliest on all folds, the others on FEWEST."""
    share = (folds - 1) / folds
    dropped = sum(seconds) - max(seconds)
    return share * (folds * max(seconds) + min(FEWEST, folds) * dropped)
