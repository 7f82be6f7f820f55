"""One sitting of a search: the trials, the confirmation, the winner; resumable at any moment."""

from __future__ import annotations

import functools
import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from lstmcls.artifact import add_metrics
from lstmcls.cli import RunFailed
from lstmcls.dataset import Prepared
from lstmcls.linear import chosen_linear
from tune import confirm, winner
from tune.budget import left, used_up
from tune.data import data_digest
from tune.health import Health
from tune.intervals import LEVEL
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
from tune.space import Objective, SearchSpace
from tune.stop import Stop
from tune.store import StoreFault
from tune.study import (
    CONFIRMATION,
    SEARCH,
    Suggest,
    end_waiting,
    enqueue,
    open_study,
    ranked,
    requeue_unfinished,
)
from tune.tables import write_tables
from tune.trial import DISK_FULL, FULL, Order

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a sitting came to."""

    run: RunFolder
    space: SearchSpace
    prepared: Prepared
    search: optuna.Study
    winner: winner.Winner | None
    candidates: list[confirm.Candidate]  # confirmed, best mean first
    test: dict[str, Any] | None
    interrupted: bool
    unconfirmed: list[int] = field(default_factory=list)  # chosen trials of which no run ended
    linear: dict[str, Any] = field(default_factory=dict)  # of `linear_baseline`


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
        self.run, self.space, self.prepared = run, space, prepared
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
        self._unconfirmed: list[int] = []
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
        candidates: list[confirm.Candidate] = []
        found: winner.Winner | None = None
        test: dict[str, Any] | None = None
        look: winner.TestLook | None = None
        try:
            self._search()
            if self.space.confirm.top and not self._interrupted:
                candidates = self._confirm()
        finally:
            self.display.close()
            with suppress(OSError):  # a full disk; the study itself is safe
                write_tables(self.run, [self.search, self.confirmation], self.space.objective)
        winners = winner.of_search(self.run, self.space, self.search)
        found = next(winners, None)
        if found is None:
            return came_to(None, [], None, self._interrupted)
        if self._interrupted and "confirmation" in winner.in_best(self.run):
            self.display.note("best/ keeps the winner that was confirmed before")
            return came_to(found, [], None, self._interrupted)
        self.display.note("the winner is judged and written")
        judged = None if self._interrupted else self._first_with_weights(candidates)
        if judged is None:
            candidates = []
            found = winner.with_weights([found, *winners], self.display.note) or found
        else:
            found, candidates = judged
            baseline = next((c for c in candidates[1:] if c.baseline), None)
            other = self._confirmed(baseline) if baseline else None
            looks = winner.count_looks(self.confirmation, found)
            look = winner.look_at_test(found, other, self.prepared, self.share)
            test = look.figures | {"looks": looks}
        extra: dict[str, Any] = {"objective": self.space.objective.metric}
        if test is not None:
            confirmation = [candidate.summary() for candidate in candidates]
            extra |= {"test": test, "confirmation": confirmation, "level": LEVEL}
        winner.write_best_config(self.run, found, extra)
        winner.export(self.run, found, self.prepared, self.share, extra)
        linear: dict[str, Any] = {}
        if not self._interrupted:  # after the winner is written, which it must not cost
            objective, note = self.space.objective, self.display.note
            linear = linear_baseline(self.prepared, objective, note, look)
        if linear:
            winner.write_best_config(self.run, found, extra | {"linear": linear})
            add_metrics(self.run.best, {"linear": linear}, title=self.run.name)
        return came_to(found, candidates, test, self._interrupted, self._unconfirmed, linear)

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
        if why := used_up(space.budget, self.search, self._left):
            self.display.note(f"search: {why}")
            self._track(self.search)
            return
        if at_random := drawn_at_random(space):
            self.display.note(at_random)
        self._tell_unfinished(self.search)
        then = confirm.announcement(space, self._left.kept)
        self.display.phase(self.search, space.budget.trials, stop.deadline, then)
        self._run(bridge, scheduler)

    def _confirm(self) -> list[confirm.Candidate]:
        space, study = self.space, self.confirmation
        former = confirm.former_winner(study)
        candidates = confirm.choose_candidates(space, self.search, former)
        if not candidates:
            return []
        confirm.drop_outdated(study, candidates)
        points = confirm.confirmation_points(space, candidates)
        past = confirm.outdated(study, points)
        stop = self._stop(self._left.all, None)
        if stop.deadline is not None and stop.deadline <= time.monotonic():
            self.display.note("confirmation: the minutes are over; more --minutes go on with it")
            self._track(study)
        else:
            confirm.enqueue_points(study, points)
            suggest = functools.partial(confirm.suggest_run, candidates)
            self._tell_unfinished(study)
            then = "one look at the test data, and the winner is written"
            self.display.phase(study, len(points), stop.deadline, then, past)
            clock = Clock([self.search, study], time.monotonic())
            self._run(self._bridge(study, stop, suggest, len(study.get_trials()), clock), None)
        found = confirm.rank_candidates(candidates, study, space.objective)
        if former is None and not confirm.any_of_the_search(candidates, found):
            return []
        self._unconfirmed = [c.trial for c in candidates if c.trial not in {f.trial for f in found}]
        return found

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

    def _run(self, bridge: Bridge, scheduler: StudyASHA | None) -> None:
        self.run.checkpoints.make()
        order = Order(
            study=bridge.study.study_name,
            checkpoints=self.run.checkpoints,
            objective=self.space.objective,
            threads=self.share.threads,
            gpus=self.share.gpu,
            gpu_context=self.share.gpu_context,
        )
        run_trials(bridge, order, self.prepared, self.share, scheduler)
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

    def _first_with_weights(
        self, candidates: list[confirm.Candidate]
    ) -> tuple[winner.Winner, list[confirm.Candidate]] | None:
        """The best candidate whose weights are there, and all candidates, that one first."""
        for candidate in candidates:
            if found := self._confirmed(candidate):
                return found, [candidate, *(c for c in candidates if c is not candidate)]
        return None

    def _confirmed(self, candidate: confirm.Candidate) -> winner.Winner | None:
        runs = winner.of_candidate(self.run, self.space, candidate, self.confirmation)
        return winner.with_weights(runs, self.display.note)


def linear_baseline(
    prepared: Prepared,
    objective: Objective,
    note: Callable[[str], None],
    look: winner.TestLook | None = None,
) -> dict[str, Any]:
    """A linear model on the same rows, for the end of a search, which it must not cost.

    What it reaches on the validation rows (`chosen_linear`) and, where the winner was judged on
    the test rows, `test`: its accuracy there, and the winner's minus it. A fault is a `note`, and
    the answer is empty, as it is where all training rows are of one class.
    """
    note("a linear model is trained, to compare with; Ctrl-C leaves it out")
    train, val = prepared.splits["train"], prepared.splits["val"]
    try:
        if len(np.unique(train.labels)) < 2:
            return {}
        model, found = chosen_linear(
            train, val, len(prepared.labels), objective.metric, objective.mode
        )
        if look is None:
            return dict(found)
        log_probabilities = model.logits(look.rows)
        right = log_probabilities.argmax(axis=1) == look.rows.labels
        difference = winner.difference_of_accuracies(look, log_probabilities)
        return found | {"test": {"accuracy": float(right.mean()), **difference}}
    except KeyboardInterrupt:
        note("the linear model is left out: interrupted")
    except Exception as error:
        logger.exception("the linear model")
        note(f"the linear model is left out: {type(error).__name__}: {error}")
    return {}
