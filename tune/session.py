"""One sitting of a search: the trials, the confirmation, the winner; resumable at any moment."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from lstmcls.artifact import add_metrics
from lstmcls.cli import RunFailed
from lstmcls.dataset import Prepared
from lstmcls.folds import Folds
from tune import winner
from tune.budget import left, used_up
from tune.confirmation.bag import Bag
from tune.confirmation.candidates import announcement
from tune.confirmation.confirmation import Confirmation, seconds_on_all_rows
from tune.confirmation.plan import least_seconds
from tune.data import data_digest, search_folds
from tune.health import Health
from tune.intervals import LEVEL
from tune.linear_baseline import linear_baseline
from tune.live import Display
from tune.loop import run_trials
from tune.mirror import Mirror
from tune.queue import driver_deaths, suspect, unfinished
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.samplers import Samplers, drawn_at_random
from tune.scheduler import StudyASHA, replay
from tune.searcher import Bridge, Tracker
from tune.sittings import Clock, begin_sitting
from tune.space import SearchSpace
from tune.stop import Stop
from tune.store import StoreFault
from tune.study import (
    CONFIRMATION,
    SEARCH,
    Suggest,
    end_waiting,
    enqueue,
    frozen_trial,
    open_study,
    ranked,
    requeue_unfinished,
)
from tune.tables import write_tables
from tune.trial import DISK_FULL, FULL, Order

LEAST_SEARCH = 0.3  # of the time, however long the confirmation takes


@dataclass(frozen=True)
class Outcome:
    """What a sitting came to."""

    run: RunFolder
    space: SearchSpace
    prepared: Prepared
    search: optuna.Study
    winner: winner.Winner | Bag | None
    interrupted: bool
    test: dict[str, Any] | None = None  # of a Bag, as the next one
    candidates: list[dict[str, Any]] = field(default_factory=list)  # `out_of_fold.summary` of each
    unconfirmed: list[int] = field(default_factory=list)  # chosen trials of which no run ended
    linear: dict[str, Any] = field(default_factory=dict)  # what a linear model reaches


class Session:
    """A run folder with its two studies open; made once by the driver."""

    def __init__(
        self,
        run: RunFolder,
        space: SearchSpace,
        prepared: Prepared,
        share: Share,
        display: Display,
        trackers: Sequence[Tracker],
        more_points: Sequence[Mapping[str, Any]] = (),
        command: str = "",
        mirror: Mirror | None = None,
    ) -> None:
        self.run, self.space = run, space
        self.folds = search_folds(prepared, space.seed)
        splits = {"train": self.folds.train(0), "val": self.folds.held_out(0)}
        self._divided_anew = len(splits["val"]) != len(prepared.splits["val"])
        self.prepared = dataclasses.replace(prepared, splits=splits)
        self.share, self.display, self.trackers, self.mirror = share, display, trackers, mirror
        self.search = open_study(run.journal, SEARCH, space.objective)
        self.confirmation = open_study(run.journal, CONFIRMATION, space.objective)
        if "data" not in self.search.user_attrs:
            self.search.set_user_attr("data", data_digest(prepared.folder))
        points = space.grid() if space.sampler.name == "grid" else space.enqueue
        # The first is the baseline; what another run found good comes before all the rest.
        enqueue(self.search, [*points[:1], *more_points, *points[1:]])
        # Only now: a grid of thousands takes its time.
        self._started = time.monotonic()
        self._left = left(space, self.search, self.confirmation)  # of the budget, at this start
        self._interrupted = False
        begin_sitting(self.search, command)
        for study in (self.search, self.confirmation):
            requeue_unfinished(study)

    def conduct(self) -> Outcome:
        """Search, confirm, export. The tables and the winner are written whatever happens."""
        try:
            outcome = self._conduct()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise self._fault(f"{DISK_FULL}: {error}") from None
        except StoreFault as fault:
            raise self._fault(f"object store: {fault}") from None
        for tracker in self.trackers:
            tracker.close(winner.in_best(self.run).get("trial"))
        return outcome

    def _conduct(self) -> Outcome:
        came_to = functools.partial(Outcome, self.run, self.space, self.prepared, self.search)
        confirmation, bag = None, None
        try:
            self._search()
            if self.space.confirm.top and not self._interrupted:
                confirmation = self._confirmation()
                bag = self._confirm(confirmation)
        finally:
            self.display.close()
            with suppress(OSError):  # a full disk; the study itself is safe
                write_tables(self.run, [self.search, self.confirmation], self.space.objective)
        if confirmation is not None and bag is not None and not self._interrupted:
            return self._confirmed(confirmation, bag)
        winners = winner.of_search(self.run, self.space, self.search)
        found = next(winners, None)
        if found is None:
            return came_to(None, self._interrupted)
        if self._interrupted and "confirmation" in winner.in_best(self.run):
            self.display.note("best/ keeps the winner that was confirmed before")
            return came_to(found, self._interrupted)
        self.display.note("the winner is written")
        found = winner.with_weights([found, *winners], self.display.note) or found
        extra: dict[str, Any] = {"objective": self.space.objective.metric, "level": LEVEL}
        if self._divided_anew:
            extra["divided_anew"] = True  # the val split is no longer what judged the winner
        winner.write_best_config(self.run, found, extra)
        winner.export(self.run, found, self.prepared, self.share, extra)
        linear: dict[str, Any] = {}
        if not self._interrupted:  # after the winner is written, which it must not cost
            linear = linear_baseline(self.prepared, self.space.objective, self.display.note)
        if linear:
            winner.write_best_config(self.run, found, extra | {"linear": linear})
            add_metrics(self.run.best, {"linear": linear}, title=self.run.name)
        return came_to(found, self._interrupted, linear=linear)

    def _confirmed(self, confirmation: Confirmation, bag: Bag) -> Outcome:
        """Judge the winner of the confirmation on the test rows, and write it."""
        self.display.note("the winner is judged on the test rows and written")
        objective, share = self.space.objective, self.share
        looks = winner.count_looks(self.confirmation, bag)
        torch.set_num_threads(share.threads)
        # The head of a cluster often has no GPU.
        device = torch.device("cuda" if share.gpu and torch.cuda.is_available() else "cpu")
        bag.ensemble.to(device)
        tested = bag.tested or confirmation.on_all_test_rows(bag)
        rate = winner.texts_per_second(bag.ensemble, confirmation.test)
        test = winner.look_at_test(tested, objective) | {"looks": looks, "texts_per_second": rate}
        linear = confirmation.linear_figures()
        if tested.linear is not None:
            linear["test"] = winner.look_at_linear(tested, objective)
        extra: dict[str, Any] = {
            "objective": objective.metric,
            "level": LEVEL,
            "test": test,
            "confirmation": confirmation.summaries,
            "linear": linear,
        }
        winner.write_best_config(self.run, bag, extra)
        winner.export_bag(self.run, bag, self.prepared, share, extra)
        return Outcome(
            self.run,
            self.space,
            self.prepared,
            self.search,
            bag,
            interrupted=False,
            test=test,
            candidates=confirmation.summaries,
            unconfirmed=confirmation.unconfirmed,
            linear=linear,
        )

    def _search(self) -> None:
        space = self.space
        scheduler = None
        if space.asha is not None:
            scheduler = StudyASHA(space.asha, space.objective, space.max_epochs)
            for number, epoch in replay(scheduler, self.search, space).items():
                end_waiting(self.search, number, TrialState.PRUNED, f"asha at epoch {epoch:g}")
        stop = self._stop(self._left.search, space.budget.target)
        for _, report in ranked(self.search, space.objective)[:1]:
            stop.saw(report["objective"])
        clock = Clock([self.search], self._started)
        bridge = self._bridge(self.search, stop, space.suggest, space.budget.trials, clock)
        if space.confirm.top and stop.deadline is not None:
            bridge.before_ask = functools.partial(self._keep_enough, bridge)
        if why := used_up(space.budget, self.search, self._left):
            self.display.note(f"search: {why}")
            self._track(self.search)
            return
        if at_random := drawn_at_random(space):
            self.display.note(at_random)
        self._tell_unfinished(self.search)
        then = announcement(space, self._left.kept)
        self.display.phase(self.search, space.budget.trials, stop.deadline, then)
        tokens = dataclasses.replace(self.folds, rows=self.folds.rows.tokens_only())
        self._run(bridge, scheduler, tokens)

    def _keep_enough(self, bridge: Bridge) -> None:
        """End the search earlier where too little time would be left to confirm its best trial."""
        stop = bridge.stop
        if bridge.best is None or self._left.all is None or stop.deadline is None:
            return
        trial = frozen_trial(self.search, bridge.best[0])
        needed = seconds_on_all_rows(self.space, trial, self.folds, self.prepared)
        latest = self._left.all - least_seconds(needed, self.share.concurrency)
        earliest = LEAST_SEARCH * self._left.all
        stop.deadline = min(stop.deadline, self._started + max(latest, earliest))

    def _confirmation(self) -> Confirmation:
        return Confirmation(
            self.run,
            self.space,
            self.prepared,
            self.folds,
            self.search,
            self.confirmation,
            self.share,
            self.display.note,
        )

    def _confirm(self, confirmation: Confirmation) -> Bag | None:
        began, stop, study = time.monotonic(), self._stop(self._left.all, None), self.confirmation
        seconds = None if stop.deadline is None else stop.deadline - began
        over = seconds is not None and seconds <= 0
        if not confirmation.begin(seconds, over=over):
            return None
        confirmation.begin_linear(None if over else seconds)
        if over:
            self.display.note("confirmation: the minutes are over; more --minutes resume it")
            self._track(study)
            return confirmation.finish()
        past = confirmation.enqueue()
        self._tell_unfinished(study)
        then = "the test data, read a single time, and the winner is written"
        self.display.phase(study, len(confirmation.points), stop.deadline, then, past)
        clock = Clock([self.search, study], began)
        bridge = self._bridge(study, stop, confirmation.suggest, len(study.get_trials()), clock)
        bridge.before_ask = confirmation.race(stop.deadline).update
        self._run(bridge, None, confirmation.tokens_only())
        return None if self._interrupted else confirmation.finish()

    def _tell_unfinished(self, study: optuna.Study) -> None:
        found = list(filter(unfinished, study.get_trials(deepcopy=False)))
        if found:
            self.display.note(f"{study.study_name}: {len(found)} unfinished trials go on")
        for trial in filter(suspect, found):
            self.display.note(
                f"trial {trial.number} comes last, alone: its driver died with it "
                f"{driver_deaths(trial)} times in a row"
            )

    def _bridge(
        self, study: optuna.Study, stop: Stop, suggest: Suggest, trials: int | None, clock: Clock
    ) -> Bridge:
        samplers = Samplers(self.space, study, self.display.note)
        return Bridge(
            study=study,
            objective=self.space.objective,
            suggest=suggest,
            sampler=samplers,
            trials=trials,
            listener=self.display,
            stop=stop,
            checkpoints=self.run.checkpoints,
            clock=clock,
            health=Health(self.share),
            mirror=self.mirror,
            trackers=self.trackers,
            keep_all_weights=study is self.confirmation,
            at_work=samplers.at_work,
        )

    def _track(self, study: optuna.Study) -> None:
        for tracker in self.trackers:
            tracker.update(study)

    def _run(self, bridge: Bridge, scheduler: StudyASHA | None, folds: Folds) -> None:
        self.run.checkpoints.make()
        order = Order(
            study=bridge.study.study_name,
            checkpoints=self.run.checkpoints,
            objective=self.space.objective,
            threads=self.share.threads,
            gpus=self.share.gpu,
            gpu_context=self.share.gpu_context,
            vocab_size=self.prepared.vocab_size,
            classes=len(self.prepared.labels),
            max_length=self.prepared.max_length,
            by_last=bridge.study is self.confirmation,
        )
        run_trials(bridge, order, folds, self.share, scheduler)
        self._track(bridge.study)
        self._interrupted = self._interrupted or bridge.stop.interrupted is not None
        if bridge.stop.fault:
            raise self._fault(bridge.stop.fault)
        self.display.phase_ends(bridge.stop.reason)

    def _fault(self, fault: str) -> RunFailed:
        return RunFailed(
            f"{fault}; all that was reported is kept: mend that, then go on with "
            f"`python -m tune.search --resume {shlex.quote(self.run.named)}`"
        )

    def _stop(self, seconds: float | None, target: float | None) -> Stop:
        """`seconds` from the start of this sitting."""
        deadline = None if seconds is None else self._started + seconds
        return Stop(self.space.objective, deadline, target)
