"""Who is asked for next, and when nobody may begin."""

from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.queue import (
    Place,
    Room,
    Slots,
    begun,
    cut_short,
    driver_deaths,
    next_number,
    state_name,
    suspect,
)

BUSY, FULL = Room(1, idle=False), Room(0, idle=False)
DONE, RUNNING, WAITING = TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING


def trial(state: TrialState = WAITING, *, params: bool = True, **attributes: Any) -> FrozenTrial:
    made = create_trial(
        state=state,
        value=0.5 if state == DONE else None,
        params={"lr": 0.5} if params else {},
        distributions={"lr": FloatDistribution(0, 1)} if params else {},
        user_attrs=attributes,
        intermediate_values={1: 0.5},
    )
    return made


def chosen(*trials: FrozenTrial, most: int | None = None, room: Room = BUSY) -> int | None:
    for number, found in enumerate(trials):
        found.number = number
    return next_number(trials, most, room)


POINT = {"params": False}
SUSPECT = {"driver_deaths": [2, 1]}


def test_the_unfinished_come_first_then_points_then_new_ones() -> None:
    assert chosen() == 0
    assert chosen(trial(DONE), trial(**POINT), trial()) == 2
    assert chosen(trial(DONE), trial(**POINT), trial(RUNNING)) == 1
    assert chosen(trial(DONE), trial(RUNNING)) == 2


def test_the_budget_counts_what_has_begun() -> None:
    assert chosen(trial(DONE), trial(**POINT), most=1) is None
    assert chosen(trial(DONE), trial(), most=2) == 1  # it counts already
    assert chosen(trial(DONE), trial(**SUSPECT), most=2) is None
    assert chosen(trial(DONE), trial(**SUSPECT), most=3) == 2
    assert [begun(t) for t in (trial(), trial(**POINT), trial(RUNNING, **POINT))] == [
        True, False, True,
    ]  # fmt: skip


def test_a_doubled_one_keeps_the_rest_back_until_it_fits() -> None:
    doubled = trial(share=2)
    assert chosen(trial(), doubled) == 0  # its turn has not come
    assert chosen(doubled, trial()) is None
    assert chosen(doubled, trial(), room=Room(2, idle=False)) == 0
    assert chosen(doubled, trial(), room=Room(1, idle=True)) == 0  # there will never be more


def test_a_suspect_comes_last_and_alone() -> None:
    assert suspect(trial(**SUSPECT))
    assert chosen(trial(**SUSPECT), trial()) == 1
    assert chosen(trial(**SUSPECT)) == 1
    assert chosen(trial(**SUSPECT), most=1) is None
    assert chosen(trial(**SUSPECT), trial(**SUSPECT), most=2, room=Room(9)) == 0


@pytest.mark.parametrize(("recorded", "deaths"), [([2, 1], 2), ([2, 0], 0), ([1, 1], 1)])
def test_deaths_count_without_a_report_in_between(recorded: list[int], deaths: int) -> None:
    assert driver_deaths(trial(driver_deaths=recorded)) == deaths
    assert driver_deaths(trial()) == 0


def test_what_was_cut_short_passes_for_pruned() -> None:
    assert cut_short(trial(stopped="time is up"))
    assert state_name(trial(stopped="time is up")) == "PRUNED"
    assert state_name(trial(stopped="")) == "WAITING"
    assert state_name(trial(RUNNING, stopped="time is up")) == "RUNNING"
    assert not cut_short(trial(DONE, stopped="trained to the end"))


def test_slots() -> None:
    slots = Slots()
    assert slots.free() == Room(math.inf, idle=True)
    slots.room = 3
    slots.begin(0, Place(), first=False, alone=False)
    assert slots.free() == Room(2, idle=False)
    slots.begin(1, Place(2), first=True, alone=False)
    assert slots.free() is None
    slots.end(0)
    assert slots.free() is None  # the second has not started
    slots.started(1)
    assert slots.free() == Room(1, idle=False)
    slots.begin(2, Place(), first=False, alone=True)
    slots.end(1)
    slots.started(2)
    assert slots.free() is None
    slots.end(2)
    assert slots.free() == Room(3, idle=True)
    slots.begin(3, Place(2, 2, ("gone",)), first=True, alone=False)
    slots.give_up(3)
    assert slots.free() == Room(3, idle=True)
    slots.room = 1
    slots.begin(4, Place(2), first=False, alone=False)  # the nodes became fewer
    assert slots.free() is None
