"""The confirmation of one session: planned, run by the session, and judged."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.special import softmax

from lstmcls.dataset import Prepared, TokenDataset, load_prepared
from lstmcls.ensemble import Ensemble
from lstmcls.folds import Folds
from lstmcls.linear import LinearModel
from lstmcls.metrics import classification_metrics
from tune.confirmation.bag import (
    Bag,
    Tested,
    linear_offsets,
    make_bag,
    networks_alone,
    with_networks,
)
from tune.confirmation.candidates import (
    Candidate,
    candidate_of,
    choose_candidates,
    confirmation_points,
    drop_outdated,
    enqueue_points,
    folds_of,
    former_winner,
    outdated,
    suggest_run,
    with_runs,
)
from tune.confirmation.linear_folds import LinearFolds, PendingLinear
from tune.confirmation.out_of_fold import OutOfFold, common_folds, in_the_race, rank, summary
from tune.confirmation.plan import USED, least_seconds, plan
from tune.confirmation.racing import Race
from tune.data import confirmation_folds
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.space import SearchSpace
from tune.study import Suggest, best_report

logger = logging.getLogger(__name__)


@dataclass
class Confirmation:
    """Candidates on the folds of all rows."""

    run: RunFolder
    space: SearchSpace
    prepared: Prepared
    rows: Folds  # the search's, of which all rows are divided anew
    search: optuna.Study
    study: optuna.Study
    share: Share
    note: Callable[[str], None]
    candidates: list[Candidate] = field(default_factory=list)
    unconfirmed: list[int] = field(default_factory=list)  # chosen trials of which no run ended
    summaries: list[dict[str, Any]] = field(default_factory=list)  # for metrics.json, best first
    baseline: Ensemble | None = None  # its networks alone, where it is not the winner alone
    linear: tuple[LinearFolds, LinearModel] | None = None
    _linear: PendingLinear | None = None

    def begin(self, seconds: float | None, *, over: bool) -> bool:
        """Choose the candidates and the folds; False where there is nothing to confirm.

        Args:
            seconds: that are left; None: without end.
            over: the time is: what earlier sessions ran is judged, and no more.
        """
        self._former = former_winner(self.study)
        chosen = choose_candidates(self.space, self.search, self._former)
        if not chosen:
            return False
        chosen = self._quick_enough_first(chosen, seconds)
        planned = plan(
            all_rows(self.rows, self.prepared),
            [self._seconds(candidate) for candidate in chosen],
            seconds,
            self.share.concurrency,
            self.space.confirm.folds,
        )
        self.count = folds_of(self.study, planned)
        self.candidates = chosen
        if not over and planned.candidates < len(chosen):
            self.candidates = chosen[: planned.candidates]
            self.note(
                f"confirmation: {planned.candidates} of {len(chosen)} candidates begin, on "
                f"{self.count} folds: the minutes suffice for no more"
            )
        pool = self.rows.rows.between(0, self.rows.size)
        self.folds = confirmation_folds(pool, self.prepared, self.test, self.count, self.space.seed)
        # A former winner and its rivals have their runs already.
        ran = {t.params.get("candidate") for t in self.study.get_trials(deepcopy=False)}
        self.candidates += [c for c in chosen if c.trial in ran and c not in self.candidates]
        self.points = confirmation_points(self.space, self.candidates, self.count)
        self.found = OutOfFold(self.folds, self.run.checkpoints, self.space.objective)
        drop_outdated(self.study, self.points)
        return True

    @cached_property
    def test(self) -> TokenDataset:
        """The rows of the test split."""
        return load_prepared(self.prepared.folder, ("test",)).splits["test"]

    @property
    def suggest(self) -> Suggest:
        return functools.partial(suggest_run, self.candidates)

    def enqueue(self) -> set[int]:
        """Enqueue what has not run; the numbers of the runs that do not count."""
        past = outdated(self.study, self.points)
        enqueue_points(self.study, self.points)
        return past

    def race(self, deadline: float | None) -> Race:
        """`deadline`: on the monotonic clock; None: without end."""
        slots = self.share.concurrency

        def seconds() -> float:
            left = math.inf if deadline is None else deadline - time.monotonic()
            return USED * slots * left

        return Race(self.study, self.candidates, self.points, self.found, self.note, seconds)

    def begin_linear(self, seconds: float | None) -> None:
        """Train the linear model before the networks and beside them; `seconds` are left.

        Where runs have finished it takes what it needs: without it a winner that had it would be
        worse. Where it fails there is none, which must not cost the winner.
        """
        if len(np.unique(self.folds.rows.labels)) < 2:
            return
        self.note("a linear model is trained on the same folds; Ctrl-C leaves it out")
        share, classes = self.share, len(self.prepared.labels)
        if self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            seconds = None
        with self._left_out():
            pending = PendingLinear(
                self.folds, self.count, classes, share.cpu, share.concurrency, seconds
            )
            if pending.enough:
                self._linear = pending
            else:
                self.note("the linear model is left out: it would take too much of the minutes")

    @contextmanager
    def _left_out(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.note("the linear model is left out: interrupted")
        except Exception as error:
            logger.exception("the linear model")
            self.note(f"the linear model is left out: {type(error).__name__}: {error}")

    def finish(self) -> Bag | None:
        """The winner's networks and who makes them better; None where too few runs have ended."""
        ran = with_runs(self.candidates, self.study, self.points)
        ran = self.found.read_all(ran, self.note)
        ran, networks = with_networks(self.run, self.prepared, ran, self.note)
        ranked = rank(ran, self.found)
        self.unconfirmed = [
            c.trial for c in self.candidates if c.trial not in {r.trial for r in ranked}
        ]
        finalists = [c for c in ranked if c in in_the_race(ranked)]
        if len(common_folds(finalists)) < 2:
            most = max((len(c.runs) for c in finalists), default=0)
            finalists = [c for c in finalists if len(c.runs) == most]
        if len(common_folds(finalists)) < 2 or self._only_a_beaten_baseline(ranked):
            return None
        if self._linear is not None:
            with self._left_out():
                self.linear = self._linear.result()
        bag = make_bag(finalists, networks, self.found, self.linear, self.prepared)
        self.summaries = [summary(c, self.found, self.count) for c in ranked]
        baseline = next((c for c in ranked if c.baseline), None)
        if (
            baseline is not None
            and len(bag.figures["members"]) == 1
            and bag.trial == baseline.trial
        ):
            baseline = None  # it is what is exported
        if baseline is not None:
            mine = networks[baseline.trial]
            self.baseline = networks_alone(mine, self.prepared.max_length)
        if bag.tested is not None:
            bag = dataclasses.replace(bag, tested=self._beside(bag.tested, baseline, bag))
        return bag

    def _beside(self, tested: Tested, baseline: Candidate | None, bag: Bag) -> Tested:
        """`tested` with what the baseline says of the same rows, where it has their folds."""
        folds = [f for f in bag.folds if baseline is not None and f in baseline.runs]
        if baseline is None or not folds:
            return tested
        sizes = [len(self.folds.origin[fold]) for fold in bag.folds]
        of_baseline = np.repeat(np.isin(bag.folds, folds), sizes)
        theirs = np.exp(self.found.test_logs(baseline, folds))
        return dataclasses.replace(tested, baseline=theirs, of_baseline=of_baseline)

    def on_all_test_rows(self, bag: Bag) -> Tested:
        """What the exported ensemble and the others say of a test set that is no one's training."""
        linear = baseline = None
        if self.linear is not None:
            offsets = linear_offsets(self.found, self.linear[0])
            linear = softmax(self.linear[1].logits(self.test) + offsets, axis=1)
        if self.baseline is not None:
            baseline = self.baseline.row_probabilities(self.test)
        rows = np.arange(len(self.test))
        ours = bag.ensemble.row_probabilities(self.test)
        everyone = np.ones(len(rows), bool)
        return Tested(rows, self.test.labels, ours, linear, baseline, everyone)

    def linear_figures(self) -> dict[str, Any]:
        """What the linear model reaches out of fold: the METRICS, `rows`, `strength`."""
        if self.linear is None:
            return {}
        folds = list(range(len(self.linear[0].held_out)))
        logs, labels = self.linear[0].logs(folds), self.found.labels(folds)
        found = classification_metrics(np.exp(logs), labels)
        return {**found, "rows": len(labels), "strength": self.linear[0].strength}

    def _only_a_beaten_baseline(self, ranked: list[Candidate]) -> bool:
        """A baseline may have runs of an earlier session, where no later favourite has any."""
        if self._former is not None or self.candidates[0].baseline:
            return False
        return all(candidate.baseline for candidate in ranked)

    def _quick_enough_first(
        self, chosen: list[Candidate], seconds: float | None
    ) -> list[Candidate]:
        """Those first that can be trained on enough folds in time, best first."""
        if seconds is None:
            return chosen
        slots = self.share.concurrency
        late = [c for c in chosen if least_seconds(self._seconds(c), slots) > seconds]
        if len(late) == len(chosen):
            return chosen
        for candidate in late:
            self.note(f"trial {candidate.trial} takes too long to be confirmed in the minutes left")
        return [c for c in chosen if c not in late] + late

    def _seconds(self, candidate: Candidate) -> float:
        trial = self.search.get_trials(deepcopy=False)[candidate.trial]
        return seconds_on_all_rows(self.space, trial, self.rows, self.prepared)

    def tokens_only(self) -> Folds:
        """The folds for those who train networks."""
        return dataclasses.replace(self.folds, rows=self.folds.rows.tokens_only())


def seconds_on_all_rows(
    space: SearchSpace, trial: FrozenTrial, rows: Folds, prepared: Prepared
) -> float:
    """That a candidate's training takes on all rows, by what its trial took in the search.

    Args:
        rows: those of the search, without test rows.
    """
    report = best_report(trial, space.objective)
    if report is None or not report["epoch"]:
        return 0.0
    share = all_rows(rows, prepared) / max(1, len(rows.train(0)))
    return float(report["seconds"] / report["epoch"] * candidate_of(space, trial).epochs * share)


def all_rows(rows: Folds, prepared: Prepared) -> int:
    """How many there are with those of the test split."""
    return rows.size + int(prepared.info["rows"]["test"])
