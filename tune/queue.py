"""Who is asked for next: the unfinished first, each where there is room for it.

A trial in the queue is one that has begun (it has parameters and goes on from its checkpoint) or
a point that never began. All that is needed to choose is in the study, so a resumed search
chooses as the one before it would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

SUSPECT = 2  # times in a row that a trial's driver died with it: from then on it runs last, alone
MOST_DEATHS = 3  # the same: it has failed


class Room(NamedTuple):
    """What is free for the next trial."""

    shares: float = math.inf
    idle: bool = True  # no trial runs


def begun(trial: FrozenTrial) -> bool:
    """Whether the trial counts as one of the budget's."""
    return bool(trial.params) or trial.state != TrialState.WAITING


def unfinished(trial: FrozenTrial) -> bool:
    """Whether the trial is in the queue and has begun."""
    return bool(trial.params) and trial.state == TrialState.WAITING


def cut_short(trial: FrozenTrial) -> bool:
    """Whether the end of a search stopped the trial: a larger budget resumes it.

    Until then it counts as pruned.
    """
    return unfinished(trial) and bool(trial.user_attrs.get("stopped"))


def state_name(trial: FrozenTrial) -> str:
    """The trial's state for people and tables: PRUNED for one that was cut short."""
    return TrialState.PRUNED.name if cut_short(trial) else trial.state.name


def share(trial: FrozenTrial) -> int:
    """Times the usual resources that the trial gets: 2 after it ran out of memory."""
    return int(trial.user_attrs.get("share", 1))


def driver_deaths(trial: FrozenTrial) -> int:
    """Times in a row that its driver died while the trial ran, without a report in between."""
    times, reports = trial.user_attrs.get("driver_deaths", (0, 0))
    return int(times) if reports == len(trial.intermediate_values) else 0


def suspect(trial: FrozenTrial) -> bool:
    """Whether the trial may be what kills its driver."""
    return driver_deaths(trial) >= SUSPECT


def next_number(trials: Sequence[FrozenTrial], most: int | None, room: Room) -> int | None:
    """The trial to ask for next, `len(trials)` for a new one; None: none, while others run.

    A trial that wants more than one share keeps those behind it back until it fits: if they went
    first, they would take each share that comes free, and it would wait for ever. One that is
    suspected of killing its driver comes last, and alone, so that nobody else is suspected for it.

    Args:
        trials: all of the study, by number.
        most: how many may begin.
    """
    waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
    for trial in waiting:
        if trial.params and not suspect(trial):
            fits = room.idle or share(trial) <= room.shares
            return trial.number if fits else None
    if most is None or sum(map(begun, trials)) < most:
        return next((t.number for t in waiting if not t.params), len(trials))
    suspects = [trial.number for trial in waiting if trial.params]
    return suspects[0] if suspects and room.idle else None


class Place(NamedTuple):
    """Where a trial may run, and with how much."""

    shares: int = 1  # times the usual resources that it may use
    bundle: int = 1  # shares that Ray must find for it on one node
    apart: tuple[str, ...] = ()  # the ids of nodes that it keeps away from


@dataclass
class Slots:
    """Who runs now, and whether another may begin beside them."""

    room: float = math.inf  # shares of the resources that the nodes have for trials
    shares: dict[int, int] = field(default_factory=dict)  # of the trials that were asked for
    places: dict[int, Place] = field(default_factory=dict)  # of those that have not started
    first: set[int] = field(default_factory=set)  # until they have started nobody may begin
    alone: set[int] = field(default_factory=set)  # until they have ended nobody may begin

    def begin(self, number: int, place: Place, *, first: bool, alone: bool) -> None:
        """`first`: it wants another place than the rest.

        The next trial would take what comes free. And while one waits for a place of another
        kind, Ray lets every worker go whose trial ends, instead of giving it the next trial.
        """
        self.shares[number], self.places[number] = place.shares, place
        if first:
            self.first.add(number)
        if alone:
            self.alone.add(number)

    def started(self, number: int) -> None:
        self.places.pop(number, None)
        self.first.discard(number)

    def give_up(self, number: int) -> None:
        """Its place is gone for good: it takes up no room and holds nobody back."""
        self.first.discard(number)
        self.shares[number] = 0

    def end(self, number: int) -> None:
        self.started(number)
        self.shares.pop(number, None)
        self.alone.discard(number)

    def free(self) -> Room | None:
        """What there is for another trial; None: nobody may begin now."""
        taken = sum(self.shares.values())
        if self.first or self.alone or 0 < taken >= self.room:
            return None
        return Room(self.room - taken, idle=not taken)
