"""Which candidates may leave a race before all folds are done: those clearly behind the leader.

Racing with blocking (Maron & Moore 1994, Advances in Neural Information Processing Systems 6;
Birattari et al. 2002, GECCO, 11-18): all candidates run on the same folds and are compared on the
same rows. The test is the paired t test that irace offers (López-Ibáñez et al. 2016), with the
folds as blocks, for rows of one fold share a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.special import stdtrit

from tune.confirmation.candidates import (
    BEHIND,
    NO_TIME,
    UNSTABLE,
    Candidate,
    Point,
    drop,
    with_runs,
)
from tune.confirmation.cross_validation import mean_variance
from tune.confirmation.out_of_fold import OutOfFold, common_folds

ERROR = 0.05  # chance that the truly best is dropped, in a whole race
FEWEST_FOLDS = 2
FEWEST_DISTINCT = 10  # rows on which the two candidates' scores differ

Floats = NDArray[np.floating[Any]]


def clearly_behind(
    ours: Floats,
    leader: Floats,
    folds: NDArray[Any],
    *,
    folds_in_all: int,
    candidates: int,
    others: Sequence[Floats] = (),
    error: float = ERROR,
) -> bool:
    """Whether a candidate may be dropped from the race: it is worse than the leader, surely.

    One-sided, at `error` over the number of comparisons that the truly best can lose: one for each
    other candidate after each fold from the second to the last but one (Bonferroni): it stays in a
    whole race with a probability of at least 1 - `error`, however many take part.

    The difference of two candidates varies by what the rows give and by what the networks of a
    fold give. Both are in the differences of the folds' means, whose variance is pooled over all
    candidates: after two folds one pair alone has one degree of freedom, with which next to
    nothing is ever dropped, and eight candidates have seven. It is no less than what the rows
    give; what is more is the networks', and is corrected for the overlap of the training sets
    (`cross_validation.mean_variance`).

    Never after fewer than FEWEST_FOLDS folds, nor where fewer than FEWEST_DISTINCT rows have
    different scores, nor where the candidate was ahead in one of the folds.

    Args:
        ours, leader: (rows,) scores on the rows of the folds that both have finished, greater is
            better: 1 where right; minus the loss; `metric_intervals.pseudo_values`.
        folds: (rows,) the fold of each row.
        folds_in_all: k, the folds of a whole race.
        candidates: that began the race.
        others: (rows,) scores of further candidates on the same rows, for the pooled variance.
    """
    lead = np.asarray(leader, np.float64) - ours
    _, fold, sizes = np.unique(folds, return_inverse=True, return_counts=True)
    finished = len(sizes)
    if finished < FEWEST_FOLDS or np.count_nonzero(lead) < FEWEST_DISTINCT:
        return False
    means = _fold_means([lead], fold, sizes)[0]
    if means.min() <= 0:
        return False
    everyone = _fold_means([ours, leader, *others], fold, sizes)
    freedom = (len(everyone) - 1) * (finished - 1)
    rest = everyone - everyone.mean(axis=0) - everyone.mean(axis=1, keepdims=True)
    pooled = 2 * float(((rest + everyone.mean()) ** 2).sum()) / freedom  # of a difference
    rows_part = float(np.var(lead - means[fold])) * float(np.mean(1 / sizes))
    variance = mean_variance(max(pooled, rows_part), rows_part, finished, folds_in_all)
    comparisons = max(1, candidates - 1) * max(1, folds_in_all - FEWEST_FOLDS)
    quantile = float(stdtrit(freedom, 1 - error / comparisons))
    return bool(lead.mean() > quantile * variance**0.5)


def _fold_means(scores: Sequence[Floats], fold: NDArray[Any], sizes: NDArray[Any]) -> Floats:
    """(candidates, folds)."""
    means: Floats = np.stack([np.bincount(fold, weights=values) / sizes for values in scores])
    return means


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
        now = with_runs(self.candidates, self.study, self.points)
        for candidate in now:
            if candidate.left and not candidate.left.startswith(BEHIND):
                why = f"{UNSTABLE}: {candidate.left}"
                drop(self.study, candidate.trial, TrialState.FAIL, why)
        racing = [c for c in now if not c.left and c.trial not in self._no_time]
        common = common_folds(racing)
        if len(racing) < 2 or len(common) < 2 or not self._all_known(racing, common):
            return
        racing.sort(key=lambda c: (self.found.cost(c, common), c.trial))
        behind = self._behind(racing, common)
        for candidate in behind:
            self._drop(candidate, f"{BEHIND} after {len(common)} folds")
        racing = [c for c in racing if c not in behind]
        while len(racing) > 1 and self._takes(racing) > self.seconds():
            last = racing.pop()
            self._no_time.add(last.trial)
            self._drop(last, NO_TIME)

    def _drop(self, candidate: Candidate, why: str) -> None:
        if drop(self.study, candidate.trial, TrialState.PRUNED, why):
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
