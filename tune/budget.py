"""What a run's budget leaves, over all its sittings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import optuna

from lstmcls.cli import BadInput
from tune import queue
from tune.sittings import seconds_spent
from tune.space import Budget, SearchSpace

KEPT = 0.5  # of budget.minutes, for the confirmation


@dataclass(frozen=True)
class Left:
    """Seconds from now on; None: without end."""

    search: float | None  # until the search itself ends
    all: float | None  # until the confirmation ends too

    @property
    def kept(self) -> float | None:
        """Seconds that are kept back for the confirmation."""
        return None if self.search is None or self.all is None else self.all - self.search


def left(space: SearchSpace, search: optuna.Study, confirmation: optuna.Study) -> Left:
    """What `space.budget.minutes` leave.

    The time of an earlier confirmation counts, but not against the search's share: a run of
    30 minutes that is resumed for 60 searches for 15 minutes more.
    """
    if space.budget.minutes is None:
        return Left(None, None)
    seconds = 60 * space.budget.minutes
    everything = seconds - seconds_spent([search, confirmation])
    share = 1 - KEPT if space.confirm.top else 1.0
    of_search = seconds * share - seconds_spent([search])
    return Left(min(share * everything, of_search), everything)


def begun(search: optuna.Study) -> int:
    """The trials that count against `budget.trials`: all but the points that never began."""
    return sum(map(queue.begun, search.get_trials(deepcopy=False)))


def used_up(budget: Budget, search: optuna.Study, left: Left) -> str | None:
    """Why the search itself cannot go on and what lets it, in words; None where it can."""
    left_over = any(map(queue.unfinished, search.get_trials(deepcopy=False)))
    if budget.trials is not None and begun(search) >= budget.trials and not left_over:
        return f"all of its {budget.trials} trials have run; a larger --trials goes on with it"
    if left.search is not None and left.search <= 0:
        return f"its part of the {budget.minutes:g} minutes is over; more --minutes go on with it"
    return None


def require_no_less(budget: Budget, before: Budget, studies: list[optuna.Study]) -> None:
    """A budget on resuming counts what has been; refuse one that is already exceeded.

    Args:
        studies: the search, and the confirmation where there is one.

    Raises:
        BadInput: fewer trials than have begun, or fewer minutes than were spent.
    """
    been, trials, minutes = begun(studies[0]), budget.trials, budget.minutes
    if trials is not None and trials != before.trials and trials < been:
        raise BadInput(
            f"--trials {trials}: counts all trials of the run, and {been} have begun; "
            f"--trials {been + trials} is {trials} more"
        )
    spent = math.ceil(seconds_spent(studies) / 6) / 10
    if minutes is not None and minutes != before.minutes and minutes < spent:
        raise BadInput(
            f"--minutes {minutes:g}: counts all time of the run, and {spent:g} have been spent; "
            f"--minutes {spent + minutes:g} is {minutes:g} more"
        )
