"""The candidates of a confirmation and the points of its study: the best configurations again.

The best of many trials is partly the luckiest: its value is an optimistic estimate. Here the top k
train again on folds of all rows, each fold with a seed that the search never used, and all on the
same folds. How long is fixed beforehand. They race (see racing.py): who is clearly behind leaves,
and its time goes to the others. Test rows train networks too, unless the test set is official, but
choose nothing: in the end they say a single time what to expect, each by networks that were not
trained on it. It is a second study in the run's journal, so it is resumed like the search.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstmcls.config import FIELDS, TrainConfig
from tune.confirmation.plan import Plan
from tune.space import Objective, SearchSpace
from tune.study import best_report, end_waiting, is_fold_run, ranked, reports_of

LARGEST = 2**53  # of the numbers in the confirmation's points, which are stored as floats
LOOKED = "looked_at_test"  # [trial, networks] of each winner that was judged on test data
LAST = "last_winner"  # the one of them in best/: an earlier winner may return
FOLDS = "folds"  # into how many the rows are divided
OVERTAKEN = "overtaken by a longer search"
# Why a candidate left the race: for good, or until there are more minutes.
BEHIND, UNSTABLE = "clearly behind", "another fold failed"
NO_TIME = "behind, and the minutes suffice for fewer candidates"

Point = dict[str, int | float]


@dataclass(frozen=True)
class FoldRun:
    """A finished run on one fold."""

    number: int  # of its trial in the confirmation
    seed: int
    report: dict[str, Any]  # the last


@dataclass(frozen=True)
class Candidate:
    """A configuration of the search and its finished runs on folds."""

    trial: int  # its number in the search
    config: TrainConfig
    baseline: bool
    epochs: float  # that it is trained for
    runs: Mapping[int, FoldRun] = field(default_factory=dict)  # by fold
    left: str = ""  # why it left the race

    @property
    def final(self) -> TrainConfig:
        """What is trained on each fold, but for the seed."""
        return dataclasses.replace(self.config, epochs=self.epochs)


def announcement(space: SearchSpace, kept: float | None) -> str:
    """What follows the search, for the user; `kept`: seconds, None without end."""
    top, folds = space.confirm.top, space.confirm.folds
    if not top:
        return "the best trial is written, without a confirmation"
    who = "the best trial" if top == 1 else f"the top {top}"
    text = f"confirmation of {who} by cross-validation, up to {folds} folds"
    if kept is None:
        return text
    return f"{text}, about {f'{kept / 60:.2g} min' if kept >= 60 else f'{kept:.2g} s'} kept back"


def former_winner(confirmation: optuna.Study) -> int | None:
    """The number in the search of the winner that an earlier session confirmed."""
    attributes = confirmation.user_attrs
    looked = attributes.get(LOOKED)  # without LAST, of an earlier version
    last = attributes.get(LAST) or (looked[-1] if looked else None)
    return int(last[0]) if last else None


def choose_candidates(
    space: SearchSpace, search: optuna.Study, former: int | None = None
) -> list[Candidate]:
    """The top configurations of the search, each once, the `former` winner and the baseline.

    One that trained on several seeds is one configuration. The baseline is the first enqueued
    point, if that trial began and did not fail. The former winner has its runs already: it gives
    way only to what is better out of fold.
    """
    chosen: list[Candidate] = []
    for trial, _ in ranked(search, space.objective):
        config = space.config(trial.params)
        known = any(dataclasses.replace(config, seed=c.config.seed) == c.config for c in chosen)
        if len(chosen) < space.confirm.top and not known:
            chosen.append(candidate_of(space, trial))
    if former is not None and former not in {c.trial for c in chosen}:
        chosen.append(candidate_of(space, search.get_trials(deepcopy=False)[former]))
    first = search.get_trials(deepcopy=False)[:1]
    enqueued = space.enqueue and space.sampler.name != "grid"
    if enqueued and first[0].params and first[0].state != TrialState.FAIL:
        baseline = dataclasses.replace(candidate_of(space, first[0]), baseline=True)
        found = [c for c in chosen if c.config == baseline.config]
        if found:
            chosen[chosen.index(found[0])] = dataclasses.replace(found[0], baseline=True)
        else:
            chosen.append(baseline)
    return chosen


def candidate_of(space: SearchSpace, trial: FrozenTrial) -> Candidate:
    """A trial of the search as a candidate that is not the baseline."""
    config = space.config(trial.params)
    return Candidate(trial.number, config, False, _epochs(config, trial, space.objective))


def _epochs(config: TrainConfig, trial: FrozenTrial, objective: Objective) -> float:
    """For how long a candidate is trained, decided by the search alone.

    Until its best report there. To its end where the learning rate follows a schedule, which ends
    with it, and where the trial was stopped while it still became better.
    """
    best = best_report(trial, objective)
    if best is None or config.schedule != "constant":
        return config.epochs
    if trial.state != TrialState.COMPLETE and best["step"] == reports_of(trial)[-1]["step"]:
        return config.epochs
    return float(best["epoch"])


def confirmation_points(
    space: SearchSpace, candidates: Sequence[Candidate], folds: int
) -> list[Point]:
    """One point for each run: every candidate on the first fold, then on the second, ..."""
    searched = {space.fixed.get("seed", FIELDS["seed"].default)}
    for parameter in space.parameters:
        if parameter.field == "seed":
            searched |= set(parameter.values() or ())
    fresh = (seed for seed in itertools.count(1000 * (space.seed + 1)) if seed not in searched)
    return [
        {"candidate": c.trial, "epochs": float(c.epochs), "fold": fold, "seed": seed}
        for fold, seed in zip(range(folds), fresh, strict=False)
        for c in candidates
    ]


def suggest_run(candidates: Sequence[Candidate], trial: optuna.Trial) -> TrainConfig:
    """The TrainConfig of a fold's run: its candidate's, under the run's seed."""
    number = trial.suggest_int("candidate", 0, LARGEST)
    epochs = trial.suggest_float("epochs", 0, LARGEST)
    trial.suggest_int("fold", 0, LARGEST)
    seed = trial.suggest_int("seed", 0, LARGEST)
    config = next(c.config for c in candidates if c.trial == number)
    return dataclasses.replace(config, epochs=epochs, seed=seed)


def drop_outdated(study: optuna.Study, points: Sequence[Point]) -> None:
    """Fail the queued runs that are none of `points`: a longer search has overtaken them since.

    Where there are new favourites, also what is queued of the others and never began: it is
    enqueued again behind them.
    """
    known = {point(trial)["candidate"] for trial in study.get_trials(deepcopy=False)}
    new = not {each["candidate"] for each in points} <= known
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if point(trial) not in points or (new and not trial.params):
            end_waiting(study, trial.number, TrialState.FAIL, OVERTAKEN)


def point(trial: FrozenTrial) -> Mapping[str, Any]:
    """What a run of the confirmation is of, also before it began."""
    return trial.params or trial.system_attrs["fixed_params"]


def outdated(study: optuna.Study, points: list[Point]) -> set[int]:
    """The runs that ended and are none of `points`, or that the time cut short: they run again."""
    return {
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and not (_counts(trial) and point(trial) in points)
    }


def _counts(trial: FrozenTrial) -> bool:
    """Whether the run has ended for good: neither cut short by the time nor overtaken."""
    why = str(trial.user_attrs.get("stopped", ""))
    if trial.state == TrialState.PRUNED:
        return why.startswith(BEHIND)
    return trial.state.is_finished() and why != OVERTAKEN


def enqueue_points(study: optuna.Study, points: list[Point]) -> None:
    """Enqueue the points that are not there yet.

    One that was overtaken in the queue may return, and one whose run was cut short by the time.
    """
    known = [
        trial.system_attrs.get("fixed_params")
        for trial in study.get_trials(deepcopy=False)
        if not trial.state.is_finished() or _counts(trial)
    ]
    for new in points:
        if new not in known:
            study.enqueue_trial(new)


def folds_of(study: optuna.Study, plan: Plan) -> int:
    """Into how many folds the rows are divided: as planned when the first run began."""
    if not any(map(is_fold_run, study.get_trials(deepcopy=False))):
        study.set_user_attr(FOLDS, plan.folds)
    return int(study.user_attrs[FOLDS])


def with_runs(
    candidates: Sequence[Candidate], study: optuna.Study, points: list[Point]
) -> list[Candidate]:
    """The candidates with their finished runs, and why they left the race where they did."""
    runs: dict[int, dict[int, FoldRun]] = {}
    left: dict[int, str] = {}
    for trial in filter(_counts, study.get_trials(deepcopy=False)):
        where, why = point(trial), trial.user_attrs.get("stopped", "")
        if where not in points:
            continue
        if trial.state == TrialState.COMPLETE:
            ran = FoldRun(trial.number, where["seed"], reports_of(trial)[-1])
            runs.setdefault(where["candidate"], {})[where["fold"]] = ran
        elif not why.startswith(UNSTABLE):
            left[where["candidate"]] = why
    return [
        dataclasses.replace(
            c, runs=dict(sorted(runs.get(c.trial, {}).items())), left=left.get(c.trial, "")
        )
        for c in candidates
    ]


def drop(study: optuna.Study, candidate: int, state: TrialState, why: str) -> int:
    """End a candidate's queued runs; how many there were."""
    queued = [
        trial.number
        for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if point(trial)["candidate"] == candidate
    ]
    for number in queued:
        end_waiting(study, number, state, why)
    return len(queued)
