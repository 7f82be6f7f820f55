"""What the finished runs of a confirmation say of the rows that they were not trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState
from safetensors import SafetensorError

from lstmcls.folds import Folds
from lstmcls.metrics import classification_metrics
from tune import confirm
from tune.checkpoints import load_held_out, trial_folder
from tune.confirm import Candidate, Point
from tune.cross_validation import out_of_fold
from tune.metric_intervals import pseudo_values
from tune.racing import clearly_behind
from tune.space import Objective
from tune.store import Store
from tune.study import CONFIRMATION

Floats = NDArray[np.float32]


@dataclass
class OutOfFold:
    """Log-probabilities of held-out rows, read when they are asked for and kept."""

    folds: Folds
    checkpoints: Store
    objective: Objective
    _known: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)

    def read_all(
        self, candidates: Iterable[Candidate], note: Callable[[str], None]
    ) -> list[Candidate]:
        """The candidates without the runs whose files are lost; of the rest all is known now."""
        return [
            dataclasses.replace(
                candidate,
                runs={
                    fold: run
                    for fold, run in candidate.runs.items()
                    if self.read(run.number, note) is not None
                },
            )
            for candidate in candidates
        ]

    def read(self, number: int, note: Callable[[str], None]) -> Floats | None:
        """Of the run `number` [rows, classes]; None, after a `note`, where they are lost.

        Of the rows by which is chosen; what it says of test rows stays for the end.
        """
        if number not in self._known:
            try:
                self._known[number] = load_held_out(
                    trial_folder(self.checkpoints, CONFIRMATION, number)
                )
            except (OSError, SafetensorError, KeyError) as error:
                note(f"what run {number} of the confirmation said cannot be read ({error})")
                return None
        return self._known[number][0]

    def labels(self, folds: Sequence[int]) -> NDArray[np.int32]:
        """[rows] of these folds, one fold after the other."""
        return np.concatenate([self.folds.held_out(fold).labels for fold in folds])

    def fold_of(self, folds: Sequence[int]) -> NDArray[np.int64]:
        """[rows] the fold of each of the rows of `labels`."""
        return np.repeat(folds, [len(self.folds.held_out(fold).labels) for fold in folds])

    def logs(self, candidate: Candidate, folds: Sequence[int]) -> Floats:
        """[rows, classes] of the rows of `labels`, by the candidate's networks."""
        return np.concatenate([self._known[candidate.runs[fold].number][0] for fold in folds])

    def test_logs(self, candidate: Candidate, folds: Sequence[int]) -> Floats:
        """[rows, classes] of the test rows in these folds, by the candidate's networks."""
        return np.concatenate([self._known[candidate.runs[fold].number][1] for fold in folds])

    def value(self, candidate: Candidate, folds: Sequence[int]) -> tuple[float, float, float]:
        """(value, low, high) of the objective's metric over the rows of these folds."""
        name = self.objective.metric.removeprefix("val_")
        probabilities = np.exp(self.logs(candidate, folds))
        return out_of_fold(name, probabilities, self.labels(folds), self.fold_of(folds))

    def cost(self, candidate: Candidate, folds: Sequence[int]) -> float:
        """The objective over the rows of these folds, as a number to be small."""
        name = self.objective.metric.removeprefix("val_")
        metrics = classification_metrics(np.exp(self.logs(candidate, folds)), self.labels(folds))
        return self.objective.cost(metrics[name])

    def scores(self, candidate: Candidate, folds: Sequence[int]) -> NDArray[np.floating]:
        """[rows] what each row adds to the objective: greater is better."""
        name = self.objective.metric.removeprefix("val_")
        sign = 1 if self.objective.mode == "max" else -1
        own = pseudo_values(name, np.exp(self.logs(candidate, folds)), self.labels(folds))
        return sign * own


def summary(candidate: Candidate, found: OutOfFold, folds: int) -> dict[str, Any]:
    """A candidate's runs for metrics.json; `folds`: of a whole race."""
    value, *interval = found.value(candidate, list(candidate.runs))
    return {
        "trial": candidate.trial,
        "baseline": candidate.baseline,
        "folds": len(candidate.runs),
        "of": folds,
        "value": value,
        "interval": interval,
        "values": [run.report["objective"] for run in candidate.runs.values()],
        "left": candidate.left,
    }


def rank(candidates: Sequence[Candidate], found: OutOfFold) -> list[Candidate]:
    """The candidates with finished runs, best first.

    Those that are on as many folds as any, or one fold short of it, are compared on the folds that
    all of them have finished. Who left the race, or has fewer, comes after them: by the folds, then
    by the value on its own.
    """
    ran = [c for c in candidates if c.runs]
    finalists = in_the_race(ran)
    common = common_folds(finalists)
    order = sorted(finalists, key=lambda c: (found.cost(c, common), c.trial)) if common else []
    rest = [c for c in ran if c not in order]
    rest.sort(key=lambda c: (-len(c.runs), found.cost(c, sorted(c.runs)), c.trial))
    return [*order, *rest]


def in_the_race(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those to compare: none that left, none with fewer folds than others but for one."""
    racing = [c for c in candidates if c.runs and not c.left]
    most = max((len(c.runs) for c in racing), default=0)
    return [c for c in racing if len(c.runs) >= max(1, most - 1)]


def common_folds(candidates: Sequence[Candidate]) -> list[int]:
    """The folds on which all of them have finished a run."""
    return sorted(set.intersection(*(set(c.runs) for c in candidates))) if candidates else []


class Race:
    """Takes those that cannot win any more out of the queue, whenever a run has finished.

    Args:
        seconds: of all slots together that are left for the runs; infinite without end.
    """

    def __init__(
        self,
        study: optuna.Study,
        candidates: Sequence[Candidate],
        points: list[Point],
        found: OutOfFold,
        note: Callable[[str], None],
        seconds: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.study, self.candidates, self.points = study, candidates, points
        self.found, self.note, self.seconds = found, note, seconds
        self.folds = len({point["fold"] for point in points})
        self._no_time: set[int] = set()
        self._ended = -1

    def update(self) -> None:
        """Drop who failed on a fold, who is clearly behind, and for whom there is no time."""
        ended = [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]
        if len(ended) == self._ended:
            return
        self._ended = len(ended)
        now = confirm.with_runs(self.candidates, self.study, self.points)
        for candidate in now:
            if candidate.left and not candidate.left.startswith(confirm.BEHIND):
                why = f"{confirm.UNSTABLE}: {candidate.left}"
                confirm.drop(self.study, candidate.trial, TrialState.FAIL, why)
        racing = [c for c in now if not c.left and c.trial not in self._no_time]
        common = common_folds(racing)
        if len(racing) < 2 or len(common) < 2 or not self._all_known(racing, common):
            return
        racing.sort(key=lambda c: (self.found.cost(c, common), c.trial))
        behind = self._behind(racing, common)
        for candidate in behind:
            self._drop(candidate, f"{confirm.BEHIND} after {len(common)} folds")
        racing = [c for c in racing if c not in behind]
        while len(racing) > 1 and self._takes(racing) > self.seconds():
            last = racing.pop()
            self._no_time.add(last.trial)
            self._drop(last, confirm.NO_TIME)

    def _drop(self, candidate: Candidate, why: str) -> None:
        if confirm.drop(self.study, candidate.trial, TrialState.PRUNED, why):
            self.note(f"trial {candidate.trial} leaves the confirmation: {why}")

    def _takes(self, racing: Sequence[Candidate]) -> float:
        """Seconds that the rest of the folds will take, by those that have finished."""
        return sum(
            (self.folds - len(c.runs))
            * float(np.mean([run.report["seconds"] for run in c.runs.values()]))
            for c in racing
        )

    def _all_known(self, racing: Sequence[Candidate], folds: Sequence[int]) -> bool:
        read = [self.found.read(c.runs[fold].number, self.note) for c in racing for fold in folds]
        return all(logs is not None for logs in read)

    def _behind(self, racing: Sequence[Candidate], common: Sequence[int]) -> list[Candidate]:
        """Those of `racing`, whose first is the leader, that are surely worse on these folds."""
        leader = racing[0]
        scores = {c.trial: self.found.scores(c, common) for c in racing}
        fold_of = self.found.fold_of(common)
        return [
            c
            for c in racing[1:]
            if clearly_behind(
                scores[c.trial],
                scores[leader.trial],
                fold_of,
                folds_in_all=self.folds,
                candidates=len(self.candidates),
                others=[scores[o.trial] for o in racing if o not in (c, leader)],
            )
        ]
