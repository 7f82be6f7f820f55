"""What is asked for, what becomes of every way in which a trial ends, whose weights are kept."""

from __future__ import annotations

import errno
import math
import os
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import EPOCHS, Driver, Nodes, RayTrial, in_memory, small_space
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher
from stores import new_store

from tune.failures import MAX_FAILURES, MAX_LOSSES, STREAK
from tune.follow import LOOK, FollowNodes
from tune.health import STRIKES
from tune.journal import Journal
from tune.loop import _settle
from tune.mirror import LOCK, Mirror
from tune.queue import cut_short, driver_deaths
from tune.run_folder import RunFolder
from tune.study import SEARCH, finish
from tune.trial import DIED, DISK_FULL, DIVERGED, OUT_OF_MEMORY, RAISED, REPORT_KEYS

folder = pytest.fixture(in_memory)
POINT = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}


@pytest.fixture
def driver(folder: Path) -> Driver:
    return Driver(folder, small_space(), trials=4)


# What is asked for.


def test_an_order_is_a_number_and_a_configuration(folder: Path) -> None:
    driver = Driver(folder, small_space(enqueue=[POINT]), trials=1)
    trial = driver.start()
    config = driver.space.config(POINT).to_dict()
    order = {"number": 0, "train": config, "fold": 0, "recorded": 0, "best": None}
    order |= {"share": 1, "bundle": 1, "apart": []}
    assert trial.config == order
    assert driver.heard.events == [("started", 0)]


def test_the_searcher_ends_when_all_trials_have(driver: Driver) -> None:
    for trial in [driver.start() for _ in range(4)]:
        driver.train(trial, 0.5, 0.5, 0.5)
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    assert [trial.state for trial in driver.study.get_trials()] == [TrialState.COMPLETE] * 4


def test_the_searcher_waits_while_a_trial_could_still_come_back(folder: Path) -> None:
    """Ray asks no more once it has been told FINISHED, and a worker may yet die."""
    driver = Driver(folder, small_space(), trials=1)
    trial = driver.start()
    assert driver.searcher.suggest("x") is None
    driver.die(trial)
    again = driver.start()
    assert again.config["number"] == 0
    assert driver.searcher.suggest("x") is None
    driver.train(again, 0.5, 0.5, 0.5)
    assert driver.searcher.suggest("x") == Searcher.FINISHED


def test_nothing_is_asked_for_after_a_stop(driver: Driver) -> None:
    driver.start()
    driver.stop.interrupt()
    assert driver.searcher.suggest("x") == Searcher.FINISHED


def test_ray_may_pickle_its_side_which_holds_nothing(driver: Driver) -> None:
    driver.start()
    for side in (driver.searcher, driver.recorder):
        assert len(pickle.dumps(side)) < 500


# Room.


def test_no_more_are_asked_for_than_there_is_room(driver: Driver) -> None:
    assert driver.searcher.set_max_concurrency(2)  # Ray leaves it to the searcher
    first = driver.start()
    driver.start()
    assert driver.searcher.suggest("x") is None
    driver.train(first, 0.5, 0.5, 0.5)
    assert driver.start().config["number"] == 2


def test_a_doubled_trial_waits_for_two_shares_and_nobody_overtakes_it(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=9)
    driver.searcher.set_max_concurrency(3)
    starved, second, third = driver.start(), driver.start(), driver.start()
    driver.fail(starved, OUT_OF_MEMORY)
    assert driver.searcher.suggest("x") is None  # one share is free, and is kept for it
    driver.train(second, 0.5, 0.5, 0.5)
    again = driver.start()
    assert (again.config["number"], again.config["share"]) == (0, 2)
    assert again.config["bundle"] == 1  # so that a worker that is there can run it
    driver.train(third, 0.5, 0.5, 0.5)
    assert driver.start().config["number"] == 3  # beside it: two shares and one
    assert driver.searcher.suggest("x") is None
    driver.train(again, 0.5, 0.5, 0.5)
    assert [driver.start().config["number"] for _ in range(2)] == [4, 5]


def test_on_several_nodes_it_must_have_its_place_first(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=9, nodes=Nodes(2, cpus=2))
    driver.searcher.set_max_concurrency(4)
    driver.fail(driver.start(), OUT_OF_MEMORY)
    order = driver.searcher.suggest("x")
    assert isinstance(order, dict)
    assert (order["number"], order["share"], order["bundle"]) == (0, 2, 2)
    assert driver.searcher.suggest("x") is None  # Ray has no place for it yet
    driver.begin(order)
    assert driver.start().config["number"] == 1


def test_a_doubled_trial_runs_where_there_is_room_for_one_alone(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=2, nodes=Nodes(cpus=1))
    driver.searcher.set_max_concurrency(1)
    driver.fail(driver.start(), OUT_OF_MEMORY)
    again = driver.start()
    assert again.config["number"] == 0
    driver.fail(again, OUT_OF_MEMORY)
    assert driver.frozen(0).state == TrialState.FAIL


def test_the_time_ends_a_search_in_which_a_doubled_trial_waits(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=9)
    driver.searcher.set_max_concurrency(2)
    starved, _ = driver.start(), driver.start()
    driver.fail(starved, OUT_OF_MEMORY)
    driver.stop.reason = "time is up"
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    _settle(driver.bridge)
    assert [cut_short(trial) for trial in driver.study.get_trials()] == [True, True]
    later = Driver(folder, small_space(), trials=9)
    later.searcher.set_max_concurrency(2)
    assert (later.start().config["number"], later.searcher.suggest("x")) == (0, None)


def test_room_follows_the_nodes_and_a_lost_place_is_given_up(folder: Path) -> None:
    nodes = Nodes(cpus=1)
    wide = nodes.join(cpus=2)
    driver = Driver(folder, small_space(), trials=2, nodes=nodes, largest=2)
    follow = FollowNodes(driver.bridge)
    _look(follow)
    assert driver.bridge.slots.room == 3
    driver.fail(driver.start(), OUT_OF_MEMORY)
    order = driver.searcher.suggest("x")
    assert isinstance(order, dict)
    assert order["share"] == 2
    nodes.forget(wide)
    assert driver.searcher.suggest("x") is None  # kept back for a place that is gone
    _look(follow)
    assert driver.bridge.slots.room == 1
    other = driver.start()
    _look(follow)
    driver.train(other, 0.5, 0.5, 0.5)
    for _ in range(2):
        assert driver.stop.reason is None
        _look(follow)
    assert driver.stop.reason == "no node is left for the last trials"
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    _settle(driver.bridge)
    assert cut_short(driver.frozen(0))


def _look(follow: FollowNodes) -> None:
    follow._looked -= LOOK
    follow.on_step_begin(0, [])


# A trial that kills its driver.


def _dies_with(folder: Path, number: int, **more: Any) -> None:
    """A sitting that reports nothing, and whose driver dies while trial `number` runs."""
    driver = Driver(folder, small_space(), **more)
    while driver.start().config["number"] != number:
        pass


def test_a_trial_that_kills_its_driver_comes_last_and_alone_and_then_fails(folder: Path) -> None:
    for _ in range(2):
        _dies_with(folder, 0, trials=3)
    driver = Driver(folder, small_space(), trials=3)
    first, second = driver.start(), driver.start()
    assert [first.config["number"], second.config["number"]] == [1, 2]
    assert driver.searcher.suggest("x") is None  # others run
    driver.train(first, 0.5, 0.5, 0.5)
    driver.train(second, 0.5, 0.5, 0.5)
    assert driver.start().config["number"] == 0
    assert driver.searcher.suggest("x") is None  # it runs alone

    driver = Driver(folder, small_space(), trials=3)
    assert driver.frozen(0).state == TrialState.FAIL
    why = "driver died: 3 times in a row with this trial, without a report"
    assert driver.frozen(0).user_attrs["stopped"] == why
    assert driver.searcher.suggest("x") == Searcher.FINISHED


def test_nobody_runs_beside_a_trial_that_may_kill_the_driver(folder: Path) -> None:
    for _ in range(2):
        _dies_with(folder, 1, trials=2)  # with both
    driver = Driver(folder, small_space(), trials=3)
    driver.train(driver.start(), 0.5, 0.5, 0.5)  # a new one
    for number in (0, 1):
        trial = driver.start()
        assert trial.config["number"] == number
        assert driver.searcher.suggest("x") is None
        driver.train(trial, 0.5, 0.5, 0.5)


def test_orderly_ends_and_progress_do_not_count(folder: Path) -> None:
    for sitting in range(4):
        driver = Driver(folder, small_space(), trials=2)
        trial = driver.start()
        assert trial.config["number"] == 0
        if sitting % 2:
            driver.stop.interrupt()
            _settle(driver.bridge)
        else:
            driver.report(trial, 0.5)
    assert driver_deaths(Driver(folder, small_space(), trials=2).frozen(0)) == 1


# What the end of a search cuts short.


def test_what_the_time_cuts_goes_on_with_more_time(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=2)
    driver.train(driver.start(), 0.5, 0.25, 0.25)
    trial = driver.start()
    driver.report(trial, 0.75)
    driver.stop.reason = "time is up"
    _settle(driver.bridge)
    found = driver.frozen(1)
    assert (found.state, found.user_attrs["stopped"]) == (TrialState.WAITING, "time is up")
    assert driver.heard.events[-1] == ("finished", 1, "PRUNED", "time is up")
    assert driver.left(1) == {"000001.pt", "best-000001.safetensors"}
    assert driver.kept() == {0, 1}

    driver = Driver(folder, small_space(), trials=2)
    trial = driver.start()
    assert (trial.config["number"], trial.config["recorded"]) == (1, 1)
    assert not driver.frozen(1).user_attrs["stopped"]
    driver.stop.interrupt()
    _settle(driver.bridge)
    assert not cut_short(driver.frozen(1))  # the user means to go on

    driver = Driver(folder, small_space(), trials=2)
    driver.train(driver.start(), 0.75, 0.5)
    assert driver.frozen(1).state == TrialState.COMPLETE
    assert driver.kept() == {1}
    assert driver.searcher.suggest("x") == Searcher.FINISHED


# Failures without end.


@pytest.mark.parametrize("kind", [RAISED, DIVERGED, DIED])
def test_failures_in_a_row_end_the_search(folder: Path, kind: str) -> None:
    driver = Driver(folder, small_space(), trials=400)
    driver.searcher.set_max_concurrency(1)
    for failure in range(1, STREAK + 1):
        assert driver.stop.fault is None
        trial = driver.start()
        if kind == DIED:
            driver.die(trial)
        else:
            driver.fail(trial, kind, f"failure {failure}")
    why = "its process ended" if kind == DIED else "failure 10"
    assert driver.stop.fault == f"10 failures in a row without a report; the last: {kind}: {why}"
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    assert Driver(folder, driver.space, trials=400).stop.fault is None  # a resume tries again


def test_a_trial_that_is_too_large_counts_once(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=400)
    driver.searcher.set_max_concurrency(1)
    for attempt in range(2 * STREAK):
        assert driver.stop.fault is None, attempt
        driver.fail(driver.start(), OUT_OF_MEMORY)
    assert str(driver.stop.fault).startswith("10 failures in a row")


def test_a_report_of_anyone_begins_the_row_anew(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=400)
    driver.searcher.set_max_concurrency(2)
    good = driver.start()
    for failure in range(5 * STREAK):
        if failure % (STREAK - 1) == 0:
            driver.report(good, 0.5)
        driver.fail(driver.start(), RAISED)
    assert driver.stop.fault is None


def test_many_at_once_may_fail_before_the_first_report(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=400)
    driver.searcher.set_max_concurrency(64)
    for _ in range(127):
        driver.fail(driver.start(), DIVERGED)
    assert driver.stop.fault is None
    driver.fail(driver.start(), DIVERGED)
    assert str(driver.stop.fault).startswith("128 failures in a row")


# Nodes.

ONE, TWO, THREE = (f"127.0.0.{number}" for number in (1, 2, 3))


def test_an_error_is_tried_again_on_another_node(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=2, nodes=Nodes(2))
    driver.fail(driver.start(ONE), RAISED)
    assert driver.heard.events[-1] == (
        "retried", 0, "error: so it is; tried again on another node",
    )  # fmt: skip
    order = driver.searcher.suggest("x")
    assert isinstance(order, dict)
    assert (order["number"], order["apart"]) == (0, [f"id-of-{ONE}"])
    assert driver.searcher.suggest("x") is None  # its place must not be taken by the next
    driver.fail(driver.begin(order, TWO), RAISED)
    assert driver.frozen(0).state == TrialState.FAIL
    assert driver.start(ONE).config["apart"] == []  # the trial was to blame, not the node


def test_an_error_on_the_only_node_is_final(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=2, nodes=Nodes(1))
    driver.fail(driver.start(ONE), RAISED)
    assert driver.frozen(0).state == TrialState.FAIL


def test_a_dead_worker_is_tried_again_elsewhere_too(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=1, nodes=Nodes(2))
    driver.die(driver.start(ONE))
    assert driver.start(TWO).config["apart"] == [f"id-of-{ONE}"]


def test_a_node_where_trials_fail_that_go_well_elsewhere_gets_no_more(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=9, nodes=Nodes(3))
    for _ in range(STRIKES):
        driver.fail(driver.start(ONE), RAISED)
        driver.train(driver.start(TWO), 0.5, 0.5, 0.5)
    assert ("note", f"node {ONE} gets no more trials: they fail there") in driver.heard.events
    order = driver.searcher.suggest("x")
    assert isinstance(order, dict)
    assert order["apart"] == [f"id-of-{ONE}"]
    assert isinstance(driver.searcher.suggest("x"), dict)  # that is the place of all now
    assert driver.bridge.health.room() == 8


def test_a_full_disk_of_one_node_is_not_the_end(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=3, nodes=Nodes(2))
    driver.fail(driver.start(ONE), DISK_FULL, "No space left on device")
    assert driver.stop.fault is None
    assert "attempts" not in driver.frozen(0).user_attrs
    again = driver.start(TWO)
    assert (again.config["number"], again.config["apart"]) == (0, [f"id-of-{ONE}"])
    driver.fail(again, DISK_FULL, "No space left on device")
    assert driver.stop.fault == "disk full: No space left on device"


def test_a_lost_node_is_not_held_against_its_trials(folder: Path) -> None:
    """Not before a first report either."""
    nodes = Nodes(1)
    driver = Driver(folder, small_space(), trials=4, nodes=nodes)
    for loss in range(MAX_LOSSES + 1):
        address = nodes.join()
        trial = driver.start(address)
        assert trial.config["number"] == 0
        nodes.lose(address)
        driver.die(trial, "ActorUnavailableError: Socket closed")
        if loss < MAX_LOSSES:
            said = ("retried", 0, f"node lost: {address}; goes on elsewhere")
            assert driver.heard.events[-1] == said
            assert driver.frozen(0).user_attrs["losses"] == loss + 1
            assert "attempts" not in driver.frozen(0).user_attrs
    assert driver.frozen(0).state == TrialState.FAIL  # so many nodes are not lost by chance
    assert driver.stop.fault is None


def test_a_trial_whose_node_is_lost_as_it_starts(folder: Path) -> None:
    nodes = Nodes(2)
    driver = Driver(folder, small_space(), trials=1, nodes=nodes)
    order = driver.searcher.suggest("x")
    assert isinstance(order, dict)
    nodes.lose(TWO)
    driver.die(RayTrial(order))  # nothing is known of where it was
    assert driver.heard.events[-1] == (
        "retried", 0, "node lost: before the trial started; goes on elsewhere",
    )  # fmt: skip


# Reports and ends.


def _failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(journal: Journal, logs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Journal, "append_logs", fail)


@pytest.mark.parametrize("event", ["report", "end", "death"])
def test_a_full_disk_under_the_study_stops_the_search(
    event: str, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    _failing(monkeypatch, errno.ENOSPC)
    if event == "report":
        driver.report(trial, 0.6)
    elif event == "end":
        driver.complete(trial)
    else:
        driver.die(trial)
    assert driver.stop.fault == "disk full: [Errno 28] No space left on device"


@pytest.mark.parametrize("event", ["report", "end", "death"])
def test_a_second_driver_stops_the_search(event: str, folder: Path, driver: Driver) -> None:
    """Where locks do not reach from node to node: it has put the first one's trials back."""
    trial = driver.start()
    driver.report(trial, 0.5)
    backend = JournalFileBackend(str(folder / "study.journal"))
    theirs = optuna.load_study(study_name=SEARCH, storage=JournalStorage(backend))
    theirs._storage.set_trial_state_values(theirs.get_trials()[0]._trial_id, TrialState.WAITING)
    if event == "report":
        driver.report(trial, 0.6)
    elif event == "end":
        driver.complete(trial)
    else:
        driver.die(trial)
    assert driver.stop.fault is not None
    assert "another search or program writes here too" in driver.stop.fault


def test_another_fault_of_the_disk_is_raised(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = driver.start()
    _failing(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        driver.report(trial, 0.5)
    assert driver.stop.fault is None


def test_a_report_is_recorded_without_what_ray_adds(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    recorded = driver.frozen(0).user_attrs["report_1"]
    assert set(recorded) == {*REPORT_KEYS, "time", "order", "worked"}
    assert driver.heard.events[-1] == ("reported", 0, 1)


def test_a_report_that_comes_again_is_not_told_twice(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    before = list(driver.heard.events)
    driver.report(trial, 0.5, step=1)
    assert driver.heard.events == before
    assert list(driver.frozen(0).intermediate_values) == [1]


def test_a_workers_note_is_passed_on(driver: Driver) -> None:
    trial = driver.start()
    driver.recorder.on_trial_result(
        0, [], trial, {"failure": RAISED, "why": "x", "note": "goes on from epoch 1"}
    )
    assert ("note", "trial 0: goes on from epoch 1") in driver.heard.events


def test_a_step_of_ray_draws_the_table(driver: Driver) -> None:
    driver.recorder.on_step_end(0, [])
    assert driver.heard.events == [("tick",)]


def test_trained_to_the_end(driver: Driver) -> None:
    driver.train(driver.start(), 0.25, 0.75, 0.5)
    found = driver.frozen(0)
    assert (found.state, found.value) == (TrialState.COMPLETE, 0.75)  # its best, not its last
    assert driver.heard.events[-1] == ("finished", 0, "COMPLETE", "trained to the end")
    assert driver.bridge.running == {}


def test_stopped_by_asha(driver: Driver) -> None:
    driver.train(driver.start(), 0.25)
    found = driver.frozen(0)
    assert (found.state, found.user_attrs["stopped"]) == (TrialState.PRUNED, "asha at epoch 1")


def test_a_trial_that_had_nothing_left_to_train_is_complete(driver: Driver) -> None:
    """Its driver died between the last report and the end."""
    trial = driver.start()
    for _ in range(EPOCHS):
        driver.report(trial, 0.5)
    driver.bridge.retry(0, "x")
    driver.complete(driver.start())
    assert (driver.frozen(0).state, driver.frozen(0).value) == (TrialState.COMPLETE, 0.5)


def test_an_objective_that_never_was_a_number_is_a_failure(driver: Driver) -> None:
    driver.train(driver.start(), math.nan, math.nan, math.nan)
    found = driver.frozen(0)
    assert (found.state, found.user_attrs["stopped"]) == (
        TrialState.FAIL,
        "val_accuracy was never a number",
    )


@pytest.mark.parametrize("kind", [DIVERGED, RAISED])
def test_what_would_only_fail_again_has_failed(driver: Driver, kind: str) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    driver.fail(trial, kind)
    found = driver.frozen(0)
    assert (found.state, found.user_attrs["stopped"]) == (TrialState.FAIL, f"{kind}: so it is")
    assert driver.start().config["number"] == 1
    assert driver.kept() == set()


def test_out_of_memory_is_tried_once_more_with_twice_the_share(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    driver.fail(trial, OUT_OF_MEMORY)
    assert driver.heard.events[-1] == (
        "retried", 0, "out of memory: so it is; tried again with twice the resources",
    )  # fmt: skip
    again = driver.start()
    assert again.config == {**trial.config, "share": 2, "recorded": 1, "best": [1, 0.5]}
    driver.fail(again, OUT_OF_MEMORY)
    assert driver.frozen(0).state == TrialState.FAIL
    assert driver.frozen(0).user_attrs["attempts"] == 2
    assert driver.start().config["number"] == 1


@pytest.mark.parametrize(
    "error", ["OutOfMemoryError: killed", "Task was killed due to the node running low on memory"]
)
def test_killed_by_ray_for_memory_is_out_of_memory(driver: Driver, error: str) -> None:
    driver.die(driver.start(), error)
    assert driver.start().config["share"] == 2


def test_a_full_disk_ends_the_run_and_leaves_the_trial_to_the_next_one(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    driver.fail(trial, DISK_FULL, "No space left on device")
    assert driver.stop.fault == driver.stop.reason == "disk full: No space left on device"
    assert driver.stop.stop_all()
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    again = Driver(driver.checkpoints.parent, driver.space).start()
    assert again.config == {**trial.config, "recorded": 1, "best": [1, 0.5]}


def test_a_dead_worker_is_tried_again_a_few_times(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    for attempt in range(MAX_FAILURES):
        driver.die(trial)
        assert driver.heard.events[-1] == (
            "retried", 0, "worker died: its process ended; tried again",
        )  # fmt: skip
        trial = driver.start()
        assert trial.config["number"] == 0
        assert trial.config["recorded"] == 1
        assert driver.frozen(0).user_attrs["attempts"] == attempt + 2
    driver.die(trial)
    found = driver.frozen(0)
    assert found.state == TrialState.FAIL
    assert found.user_attrs["stopped"] == "worker died: its process ended"
    assert driver.start().config["number"] == 1


def test_no_trial_is_blamed_for_the_death_of_ray(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    driver.die(trial, "The actor is dead because its owner has died. Owner Id: 01000000ffff")
    assert driver.stop.fault == "Ray itself has died"
    assert "go on with --resume" in str(driver.heard.events[-1])
    assert "attempts" not in driver.frozen(0).user_attrs
    again = Driver(driver.checkpoints.parent, driver.space).start()
    assert again.config == {**trial.config, "recorded": 1, "best": [1, 0.5]}


def test_a_death_that_ray_cannot_explain_is_not_taken_for_memory(driver: Driver) -> None:
    error = "Common causes include: (1) killed by the OOM killer due to high memory usage, (2) ..."
    driver.die(driver.start(), error)
    assert driver.start().config["share"] == 1


def test_deaths_are_counted_over_sittings(folder: Path) -> None:
    for _ in range(MAX_FAILURES):
        driver = Driver(folder, small_space(), trials=1)
        driver.die(driver.start())
    driver = Driver(folder, small_space(), trials=1)
    driver.die(driver.start())
    assert driver.frozen(0).state == TrialState.FAIL


def test_the_end_of_an_interrupted_trial_is_left_open(driver: Driver) -> None:
    one, two = driver.start(), driver.start()
    driver.stop.interrupt()
    driver.train(one, 0.5)
    assert driver.frozen(0).state == TrialState.RUNNING  # and goes on another day
    driver.train(two, 0.5, 0.5, 0.5)
    assert driver.frozen(1).state == TrialState.COMPLETE


def test_the_target_is_seen(folder: Path) -> None:
    driver = Driver(folder, small_space(), target=0.75)
    trial = driver.start()
    driver.report(trial, 0.5)
    assert driver.stop.reason is None
    driver.report(trial, 0.75)
    assert driver.stop.reason == "target reached: 0.75"


# Weights.


def test_the_weights_of_the_best_alone_are_kept(driver: Driver) -> None:
    driver.train(driver.start(), 0.5, 0.25, 0.25)
    assert driver.kept() == {0}
    assert driver.left(0) == {"best-000001.safetensors"}
    driver.train(driver.start(), 0.25)
    assert driver.kept() == {0}
    driver.train(driver.start(), 0.75)  # a pruned one
    assert driver.kept() == {2}
    assert not driver.left(0)
    driver.fail(driver.start(), DIVERGED)
    assert driver.kept() == {2}


@pytest.fixture
def mirrored(folder: Path, prepared_folder: Path) -> tuple[Driver, RunFolder, Mirror]:
    """A driver whose run lies in an object store."""
    driver, run = Driver(folder, small_space(), trials=4), RunFolder(folder)
    run.set_origin(new_store(folder, "file").place)
    driver.bridge.mirror = Mirror(run, prepared_folder, print)
    return driver, run, driver.bridge.mirror


def test_in_a_store_weights_stay_until_the_journal_has_arrived(
    mirrored: tuple[Driver, RunFolder, Mirror],
) -> None:
    driver, run, mirror = mirrored
    driver.train(driver.start(), 0.25)
    driver.train(driver.start(), 0.5)
    assert driver.left(0) == driver.left(1) == {"000001.pt", "best-000001.safetensors"}
    assert mirror.close() is None
    assert not driver.left(0)
    assert driver.left(1) == {"best-000001.safetensors"}
    assert run.store.read("study.journal") == run.journal.read_bytes()


def test_a_run_that_another_driver_took_over_is_left_to_it(
    mirrored: tuple[Driver, RunFolder, Mirror],
) -> None:
    driver, run, mirror = mirrored
    driver.start()
    run.store.write(LOCK, b"another's 1 node")
    mirror._mirror()
    driver.recorder.on_step_end(0, [])
    assert driver.stop.fault == f"{run.store}: another search has taken over"
    mirror.close()


def test_of_equals_the_first_is_kept_whichever_ended_first(driver: Driver) -> None:
    """As `ranked` has it: its weights are the ones that are exported."""
    first, second = driver.start(), driver.start()
    driver.train(second, 0.5)
    driver.train(first, 0.5)
    assert driver.kept() == {0}
    driver.train(driver.start(), 0.5)
    assert driver.kept() == {0}


def test_a_lowest_objective(folder: Path) -> None:
    driver = Driver(folder, small_space(objective="val_loss"), trials=3)
    for objective in (0.5, 0.75, 0.25):
        driver.train(driver.start(), objective)
    assert driver.kept() == {2}


def test_running_trials_keep_theirs(driver: Driver) -> None:
    one, two = driver.start(), driver.start()
    driver.report(one, 0.5)
    driver.train(two, 0.75)
    assert driver.kept() == {0, 1}
    assert "000001.pt" in driver.left(0)


def test_the_confirmation_keeps_all(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=3, keep_all_weights=True)
    for objective in (0.5, 0.25, 0.75):
        driver.train(driver.start(), objective)
    assert driver.kept() == {0, 1, 2}
    assert not list(driver.checkpoints.rglob("*.pt"))


def test_the_next_sitting_knows_the_best(folder: Path) -> None:
    driver = Driver(folder, small_space(), trials=3)
    driver.train(driver.start(), 0.5)
    driver = Driver(folder, small_space(), trials=3)
    driver.train(driver.start(), 0.25)
    assert driver.kept() == {0}
    driver.train(driver.start(), 0.75)
    assert driver.kept() == {2}


def test_a_better_trial_that_is_not_finished_does_not_hide_the_best_finished_one(
    folder: Path,
) -> None:
    driver = Driver(folder, small_space(), trials=4)
    driver.train(driver.start(), 0.5)
    driver.report(driver.start(), 0.75)

    driver = Driver(folder, small_space(), trials=4)
    better = driver.start()
    driver.train(driver.start(), 0.25)
    assert driver.kept() == {0, 1}
    driver.fail(better, DIVERGED)
    assert driver.kept() == {0}
    driver.train(driver.start(), 0.9)
    assert driver.kept() == {3}


def test_what_a_death_left_behind_is_swept_up(folder: Path) -> None:
    """The driver died after the end was written and before the files were deleted."""
    driver = Driver(folder, small_space(), trials=4)
    driver.train(driver.start(), 0.5)
    for objective in (0.25, 0.75):
        trial = driver.start()
        driver.report(trial, objective)
        finish(driver.study, trial.config["number"], TrialState.PRUNED, "asha at epoch 1")
    assert driver.kept() == {0, 1, 2}
    Driver(folder, small_space(), trials=4)
    assert driver.kept() == {2}
    assert not list(driver.checkpoints.rglob("*.pt"))


def test_a_failure_keeps_the_reports_before_it(driver: Driver) -> None:
    trial = driver.start()
    driver.report(trial, 0.5)
    driver.report(trial, 0.75)
    driver.fail(trial, DIVERGED)
    assert list(driver.frozen(0).intermediate_values.values()) == [0.5, 0.75]
