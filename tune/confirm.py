"""The confirmation: the best configurations again, on fresh seeds, beside the baseline.

The best of many trials is partly the luckiest: its value is an optimistic estimate. Here the
top k train again, each on the same n seeds that the search never used, to their full number of
epochs. They are ranked by their mean on validation data; test data is looked at once, for the
winner (and for the baseline, to pair with it). It is a second study in the run's journal, so it
is resumed like the search.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from lstmcls.config import FIELDS, TrainConfig
from tune.intervals import mean_interval
from tune.space import Objective, SearchSpace
from tune.study import best_report, end_waiting, ranked

LARGEST = 2**53  # of the integers in the confirmation's points, which are stored as floats
LOOKED = "looked_at_test"  # [trial, seed] of each winner that was judged on test data, once each
LAST = "last_winner"  # [trial, seed] of the one in best/: an earlier winner may return
OVERTAKEN = "overtaken by a longer search"


@dataclass(frozen=True)
class Candidate:
    """A configuration of the search and its runs on fresh seeds."""

    trial: int  # its number in the search
    config: TrainConfig
    baseline: bool
    runs: tuple[tuple[int, dict[str, Any]], ...] = ()  # (number in the confirmation, best report)

    @property
    def values(self) -> list[float]:
        return [report["objective"] for _, report in self.runs]

    def summary(self) -> dict[str, Any]:
        mean, deviation, half = mean_interval(self.values)
        return {
            "trial": self.trial,
            "baseline": self.baseline,
            "runs": len(self.runs),
            "mean": mean,
            "deviation": deviation,
            "half_width": half,
            "values": self.values,
        }


def announcement(space: SearchSpace, kept: float | None) -> str:
    """What the user is told to expect after the search; `kept`: seconds, None without end."""
    top, seeds = space.confirm.top, space.confirm.seeds
    if not top:
        return "the best trial is written, without a confirmation"
    who = "the best trial" if top == 1 else f"the top {top}"
    text = f"confirmation of {who} on {seeds} fresh seed{'s' * (seeds > 1)}"
    if kept is None:
        return text
    return f"{text}, about {f'{kept / 60:.2g} min' if kept >= 60 else f'{kept:.2g} s'} kept back"


def former_winner(confirmation: optuna.Study) -> int | None:
    """The number in the search of the winner that an earlier sitting confirmed."""
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
    way only to what is better on fresh seeds.
    """
    chosen: list[Candidate] = []
    for trial, _ in ranked(search, space.objective):
        config = space.config(trial.params)
        known = any(dataclasses.replace(config, seed=c.config.seed) == c.config for c in chosen)
        if len(chosen) < space.confirm.top and not known:
            chosen.append(Candidate(trial.number, config, baseline=False))
    if former is not None and former not in {c.trial for c in chosen}:
        config = space.config(search.get_trials(deepcopy=False)[former].params)
        chosen.append(Candidate(former, config, baseline=False))
    first = search.get_trials(deepcopy=False)[:1]
    enqueued = space.enqueue and space.sampler.name != "grid"
    if enqueued and first[0].params and first[0].state != TrialState.FAIL:
        config = space.config(first[0].params)
        found = [c for c in chosen if c.config == config]
        if found:
            chosen[chosen.index(found[0])] = dataclasses.replace(found[0], baseline=True)
        else:
            chosen.append(Candidate(first[0].number, config, baseline=True))
    return chosen


def confirmation_points(space: SearchSpace, candidates: list[Candidate]) -> list[dict[str, int]]:
    """One point a run: every candidate on the first seed, then every one on the second, ..."""
    searched = {space.fixed.get("seed", FIELDS["seed"].default)}
    for parameter in space.parameters:
        if parameter.field == "seed":
            searched |= set(parameter.values() or ())
    fresh = (seed for seed in itertools.count(1000 * (space.seed + 1)) if seed not in searched)
    seeds = list(itertools.islice(fresh, space.confirm.seeds))
    return [{"candidate": c.trial, "seed": seed} for seed in seeds for c in candidates]


def suggest_run(candidates: list[Candidate], trial: optuna.Trial) -> TrainConfig:
    """The TrainConfig of a confirmation run: its candidate's, under the run's seed."""
    number = trial.suggest_int("candidate", 0, LARGEST)
    seed = trial.suggest_int("seed", 0, LARGEST)
    config = next(c.config for c in candidates if c.trial == number)
    return dataclasses.replace(config, seed=seed)


def drop_outdated(study: optuna.Study, candidates: list[Candidate]) -> None:
    """Fail the queued runs of configurations that a longer search has since overtaken.

    Where there are new favourites, also what is queued of the others and never began: it is
    enqueued again behind them.
    """
    numbers = {c.trial for c in candidates}
    queued = {
        trial.number: _point(trial)["candidate"] for trial in study.get_trials(deepcopy=False)
    }
    new = not numbers <= set(queued.values())
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if queued[trial.number] not in numbers or (new and not trial.params):
            end_waiting(study, trial.number, TrialState.FAIL, OVERTAKEN)


def _point(trial: optuna.trial.FrozenTrial) -> dict[str, int]:
    return trial.params or trial.system_attrs["fixed_params"]


def outdated(study: optuna.Study, points: list[dict[str, int]]) -> set[int]:
    """The runs that ended and are none of `points`, or that the time cut short: they run again."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    current = {
        trial.number
        for trial in ended
        if trial.params in points and trial.user_attrs.get("stopped") != OVERTAKEN
    }
    return {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()} - current


def enqueue_points(study: optuna.Study, points: list[dict[str, int]]) -> None:
    """Enqueue the points that are not there yet.

    One that was overtaken in the queue may return, and one whose run was cut short by the time.
    """
    known = [
        trial.system_attrs.get("fixed_params")
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.PRUNED and trial.user_attrs.get("stopped") != OVERTAKEN
    ]
    for point in points:
        if point not in known:
            study.enqueue_trial(point)


def rank_candidates(
    candidates: list[Candidate], confirmation: optuna.Study, objective: Objective
) -> list[Candidate]:
    """The candidates with finished runs, best mean first."""
    runs: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for trial in confirmation.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        report = best_report(trial, objective)
        if report is not None:
            runs.setdefault(trial.params["candidate"], []).append((trial.number, report))
    with_runs = [
        dataclasses.replace(c, runs=tuple(runs[c.trial])) for c in candidates if c.trial in runs
    ]
    return sorted(with_runs, key=lambda c: (objective.cost(mean_interval(c.values)[0]), c.trial))


def any_of_the_search(candidates: list[Candidate], confirmed: list[Candidate]) -> bool:
    """Whether `confirmed` has more than a baseline that the search has bettered.

    A baseline may have runs of an earlier sitting, where the time was up before any of a later
    sitting's favourites came to its end: that confirms nothing.
    """
    return candidates[0].baseline or any(not candidate.baseline for candidate in confirmed)
