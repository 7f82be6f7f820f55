"""What the finished runs of a confirmation say of the rows that they were not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from lstmcls.folds import Folds
from lstmcls.metrics import classification_metrics
from tune.checkpoints import load_held_out, trial_folder
from tune.confirmation.candidates import Candidate
from tune.confirmation.cross_validation import out_of_fold
from tune.metric_intervals import pseudo_values
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
