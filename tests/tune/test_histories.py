"""Histories of a search, drawn at random: nothing is lost, nothing happens twice.

Asks, reports, ends, failures, dead workers, dead drivers (at any byte of what they wrote),
interrupts and longer budgets, over a real study; only Ray is played.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
from fakes import EPOCHS, Driver, RayTrial, small_space
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from optuna.trial import FrozenTrial, TrialState

from tune.journal import repair_journal
from tune.loop import _settle
from tune.queue import MOST_DEATHS, cut_short, driver_deaths, share, suspect
from tune.study import DRIVER_DIED, ranked, reports_of
from tune.trial import DISK_FULL, DIVERGED, OUT_OF_MEMORY

POINTS = [
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16},
    {"optimizer": "adam", "hidden_size": 32},
]
OBJECTIVES = st.sampled_from([0.25, 0.5, 0.75, math.nan])
SHARED = Path("/dev/shm")
MOST_RUNNING = 3


def outline(trial: FrozenTrial) -> tuple[Any, ...]:
    """What may never change once it is written; NaN as text, so that it equals itself."""
    return trial.state, trial.value, trial.user_attrs.get("stopped"), trial.datetime_complete


class Search(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        root = SHARED if SHARED.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(dir=root))
        self.running: dict[int, RayTrial] = {}
        self.params: dict[int, dict[str, Any]] = {}
        self.reports: dict[int, list[str]] = {}
        self.ended: dict[int, Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.finish_the_search()
        shutil.rmtree(self.folder)

    @initialize(
        trials=st.integers(1, 5),
        points=st.integers(0, 2),
        sampler=st.sampled_from(["random", "tpe", "qmc"]),
    )
    def begin(self, trials: int, points: int, sampler: str) -> None:
        self.trials = trials
        self.space = small_space(enqueue=POINTS[:points], sampler=sampler)
        self.open()

    def open(self) -> None:
        """A sitting begins."""
        self.running = {}
        self.happened = 0  # in this sitting; short ones show little
        if (journal := self.folder / "study.journal").exists():
            repair_journal(journal)
        self.driver = Driver(self.folder, self.space, trials=self.trials)
        self.driver.searcher.set_max_concurrency(MOST_RUNNING)
        self.check_no_zombies()

    def check_no_zombies(self) -> None:
        assert not self.driver.study.get_trials(states=(TrialState.RUNNING,))

    # What happens. Each returns nothing and may be cut short by the death of the driver.

    def ask(self) -> None:
        order = self.driver.searcher.suggest("x")
        if not isinstance(order, dict):
            # Nobody waits for what never comes: Ray asks no more, or something runs.
            assert isinstance(order, str) or self.running
            return
        number = order["number"]
        self.check_room(number)
        assert number not in self.running
        assert number not in self.ended
        assert order["recorded"] == len(self.reports.get(number, []))
        params = self.driver.frozen(number).params
        known = self.params.setdefault(number, params)
        assert params == known
        assert order["train"] == self.space.config(params).to_dict()
        self.running[number] = self.driver.begin(order)

    def check_room(self, number: int) -> None:
        """It fits beside those that run, or it runs alone; and it is nobody else's turn."""
        asked = [self.driver.frozen(n) for n in (number, *self.running)]
        assert len(asked) == 1 or sum(map(share, asked)) <= MOST_RUNNING
        assert len(asked) == 1 or not any(map(suspect, asked))
        waiting = self.driver.study.get_trials(states=(TrialState.WAITING,))
        assert all(number < t.number for t in waiting if t.params and not suspect(t))

    def report(self, trial: RayTrial, objective: float) -> None:
        if trial.last_result.get("step", trial.config["recorded"]) < EPOCHS:
            self.driver.report(trial, objective)

    def stop_trial(self, trial: RayTrial) -> None:
        """By ASHA at a report, or at its end."""
        if trial.last_result or trial.config["recorded"] == EPOCHS:
            self.driver.complete(trial)
            self.running.pop(trial.config["number"])

    def break_trial(self, trial: RayTrial, kind: str) -> None:
        self.running.pop(trial.config["number"])
        if kind == "died":
            self.driver.die(trial)
        else:
            self.driver.fail(trial, kind)
        if self.driver.stop.fault:  # of the disk, or the last of many failures in a row
            _settle(self.driver.bridge)
            self.look()
            self.check_no_zombies()
            self.open()

    # When it happens.

    @rule()
    def ask_for_all_that_fit(self) -> None:
        for _ in range(MOST_RUNNING - len(self.running)):
            self.ask()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), objective=OBJECTIVES)
    def report_one(self, data: st.DataObject, objective: float) -> None:
        self.report(self.one(data), objective)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def report_again(self, data: st.DataObject) -> None:
        """A worker that goes on from an older checkpoint."""
        trial = self.one(data)
        if trial.config["recorded"]:
            self.driver.report(trial, 0.5, step=1)
            trial.last_result = {}

    @precondition(lambda self: self.running)
    @rule(data=st.data(), objective=OBJECTIVES)
    def train_one_to_the_end(self, data: st.DataObject, objective: float) -> None:
        trial = self.one(data)
        while trial.last_result.get("step", trial.config["recorded"]) < EPOCHS:
            self.report(trial, objective)
        self.stop_trial(trial)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def stop_one(self, data: st.DataObject) -> None:
        self.stop_trial(self.one(data))

    @precondition(lambda self: self.running and self.happened > 1)
    @rule(data=st.data(), kind=st.sampled_from([DIVERGED, OUT_OF_MEMORY, "died", DISK_FULL]))
    def break_one(self, data: st.DataObject, kind: str) -> None:
        self.break_trial(self.one(data), kind)

    @precondition(lambda self: self.happened > 1)
    @rule(data=st.data())
    def the_driver_dies_in_the_middle(self, data: st.DataObject) -> None:
        """Of whatever it does: the journal ends at any byte that it wrote in doing so."""
        journal, checkpoints = self.folder / "study.journal", self.folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        shutil.copytree(checkpoints, self.folder / "before")
        size, before = journal.stat().st_size, self.outlines()
        did = data.draw(st.sampled_from(["ask", "report", "stop", DIVERGED, "died", "nothing"]))
        if did == "ask" and len(self.running) < MOST_RUNNING:
            self.driver.searcher.suggest("x")
        elif self.running and did not in ("ask", "nothing"):
            trial = self.one(data)
            if did == "report":
                self.report(trial, 0.5)
            elif did == "stop":
                self.stop_trial(trial)
            else:
                self.break_trial(trial, did)
        after = self.outlines()
        written = journal.stat().st_size
        lines = journal.read_bytes()[size:].splitlines(keepends=True)
        whole = data.draw(st.integers(0, len(lines)))
        cut = size + sum(map(len, lines[:whole]))
        if whole < len(lines):
            cut += round(data.draw(st.floats(0, 1)) * (len(lines[whole]) - 1))
        with open(journal, "r+b") as file:
            file.truncate(cut)
        if cut < written:  # files are deleted only after the end is written
            shutil.copytree(self.folder / "before", checkpoints, dirs_exist_ok=True)
        shutil.rmtree(self.folder / "before")
        self.open()
        self.accept(before, after)

    def outlines(self) -> dict[int, tuple[Any, ...]]:
        return {
            trial.number: (outline(trial), repr(list(trial.intermediate_values.values())))
            for trial in self.driver.study.get_trials()
        }

    def accept(self, before: dict[int, Any], after: dict[int, Any]) -> None:
        """After a death, every trial is as it was before what was cut short, or after it."""
        found = self.outlines()
        assert before.keys() <= found.keys() <= after.keys() | before.keys()
        for number, (end, reports) in found.items():
            allowed = [known[number] for known in (before, after) if number in known]
            assert reports in [known[1] for known in allowed]
            if end[0].is_finished():
                died = str(end[2]).startswith(DRIVER_DIED)  # for the third time, in this death
                assert end in [known[0] for known in allowed] or died
            else:
                assert any(not known[0][0].is_finished() for known in allowed)

    @rule()
    def the_driver_dies_without_a_report(self) -> None:
        """Perhaps of one of its trials: nobody is lost for it, but who does it again and again."""
        running = set(self.running)
        before = {n: driver_deaths(self.driver.frozen(n)) for n in running}
        self.open()
        for number in running:
            trial = self.driver.frozen(number)
            failed = trial.state == TrialState.FAIL
            assert failed == (before[number] + 1 >= MOST_DEATHS)
            assert failed or driver_deaths(trial) == before[number] + 1

    @precondition(lambda self: self.happened > 3)
    @rule(why=st.sampled_from(["interrupted", "time is up", "more trials"]))
    def the_sitting_ends(self, why: str) -> None:
        """By the user or by its time; the next one may have a larger budget."""
        if why == "time is up":
            self.driver.stop.reason = why
        else:
            self.driver.stop.interrupt()
        for trial in list(self.running.values()):
            if why == "interrupted":
                self.report(trial, 0.5)
            if trial.last_result:
                self.stop_trial(trial)
        left = list(self.driver.bridge.running)
        _settle(self.driver.bridge)
        self.look()
        self.check_no_zombies()
        deaths = [driver_deaths(self.driver.frozen(number)) for number in left]
        for trial in self.driver.study.get_trials(states=(TrialState.WAITING,)):
            assert cut_short(trial) == (bool(trial.params) and why == "time is up")
        if why == "more trials" and self.trials < 7:
            self.trials += 2
        self.open()
        assert [driver_deaths(self.driver.frozen(number)) for number in left] == deaths

    def one(self, data: st.DataObject) -> RayTrial:
        self.happened += 1
        return self.running[data.draw(st.sampled_from(sorted(self.running)))]

    # What always holds.

    @invariant()
    def look(self) -> None:
        if not hasattr(self, "driver"):
            return
        trials = self.driver.study.get_trials()
        assert [trial.number for trial in trials] == list(range(len(trials)))
        started = [trial for trial in trials if trial.params or trial.state != TrialState.WAITING]
        assert len(started) <= self.trials
        assert len(trials) <= max(self.trials, len(self.space.enqueue))
        assert self.reports.keys() | self.ended.keys() <= {trial.number for trial in trials}
        for trial in trials:
            values = [repr(report["objective"]) for report in reports_of(trial)]
            assert sorted(trial.intermediate_values) == list(range(1, len(values) + 1))
            known = self.reports.get(trial.number, [])
            assert values[: len(known)] == known
            self.reports[trial.number] = values
            if trial.number in self.params:
                assert {**self.params[trial.number], **trial.params} == self.params[trial.number]
            if trial.state.is_finished():
                assert self.ended.setdefault(trial.number, outline(trial)) == outline(trial)
            else:
                assert trial.number not in self.ended

    @invariant()
    def the_running_trials_run(self) -> None:
        if hasattr(self, "driver"):
            running = self.driver.study.get_trials(states=(TrialState.RUNNING,))
            assert {trial.number for trial in running} == self.running.keys()
            assert self.driver.bridge.running.keys() == self.running.keys()

    @invariant()
    def the_best_weights_are_there(self) -> None:
        if not hasattr(self, "driver"):
            return
        for trial, _ in ranked(self.driver.study, self.space.objective)[:1]:
            assert trial.number in self.driver.kept()

    def finish_the_search(self) -> None:
        while not isinstance(order := self.driver.searcher.suggest("x"), str):
            if order is not None:
                self.running[order["number"]] = self.driver.begin(order)
                assert order["number"] not in self.ended
                continue
            assert self.running
            for number, trial in list(self.running.items()):
                while trial.last_result.get("step", trial.config["recorded"]) < EPOCHS:
                    self.report(trial, 0.5)
                self.driver.complete(trial)
                del self.running[number]
        self.look()
        trials = self.driver.study.get_trials()
        ended = [trial for trial in trials if trial.state.is_finished()]
        assert len(ended) == self.trials
        assert not any(map(cut_short, trials))
        best = [t.number for t, _ in ranked(self.driver.study, self.space.objective)[:1]]
        assert self.driver.kept() == set(best)
        assert not list((self.folder / "checkpoints").rglob("*.pt"))


Search.TestCase.settings = hypothesis.settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Shrinking a history takes minutes; add Phase.shrink to study a failure.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
TestHistories = Search.TestCase
