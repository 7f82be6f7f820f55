"""The Optuna study as the record of truth: what ran, what it reported, what runs next.

Only the driver writes it, as things happen, one synced line each. A trial whose driver died
goes back to WAITING and is asked for first, under its own number and with its own parameters;
`queue` says which one is next.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig
from tune.journal import Journal, ReadOnly
from tune.queue import MOST_DEATHS, Room, cut_short, driver_deaths, next_number, unfinished
from tune.space import Objective

Suggest = Callable[[optuna.Trial], TrainConfig]

SEARCH, CONFIRMATION = "search", "confirmation"  # the two studies of a run's journal
DRIVER_DIED = "driver died"  # why a trial failed
REPORT = "report_"  # + step: the user attribute that holds a whole report
WORKED = "worked"  # in a report, and of a trial that ended: `sittings.Clock` at that moment

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def read_study(journal: Path, name: str) -> optuna.Study | None:
    """The study `name` of a journal, where there is one; nothing can be written to it.

    Raises:
        BadInput: a line of the journal is damaged.
    """
    try:
        return _load(ReadOnly(journal), name)
    except ValueError:  # JSON's
        raise BadInput(f"{journal}: a line is damaged; restore it from a backup") from None


def open_study(journal: Path, name: str, objective: Objective) -> optuna.Study:
    """The study `name` of a run's journal, made when it is not there yet.

    `create_study(load_if_exists=True)` would add a line even where it is there.
    """
    return _load(Journal(journal), name) or optuna.create_study(
        storage=JournalStorage(Journal(journal)),
        study_name=name,
        direction=objective.direction,
        pruner=optuna.pruners.NopPruner(),
    )


def _load(journal: Journal, name: str) -> optuna.Study | None:
    with suppress(KeyError):
        return optuna.load_study(
            study_name=name, storage=JournalStorage(journal), pruner=optuna.pruners.NopPruner()
        )
    return None


def enqueue(study: optuna.Study, points: Iterable[Mapping[str, Any]]) -> None:
    """Enqueue `points` once, however often a search is resumed."""
    if study.user_attrs.get("enqueued"):
        return
    trials = study.get_trials(deepcopy=False)
    # Optuna's `skip_if_exists` goes through all trials for each point.
    known = {_written(trial.system_attrs.get("fixed_params", trial.params)) for trial in trials}
    with _one_sync(study):
        for point in points:
            if _written(point) not in known:
                known.add(_written(point))
                study.enqueue_trial(dict(point))
        study.set_user_attr("enqueued", True)


def _written(point: Mapping[str, Any]) -> str:
    return repr(sorted(point.items()))


def requeue(study: optuna.Study, number: int, stopped: str | None = None) -> None:
    """Put a running trial back in the queue, under its number and with its parameters.

    `stopped`: why the search's end cut it short, where it did.
    """
    trial_id = frozen_trial(study, number)._trial_id
    with _one_sync(study):
        if stopped is not None:
            study._storage.set_trial_user_attr(trial_id, "stopped", stopped)
        study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def cut(study: optuna.Study, why: str) -> list[int]:
    """Put the running trials back in the queue, and mark all there that began as cut short.

    Returns their numbers.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        requeue(study, trial.number, why)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    for trial in waiting:
        if unfinished(trial) and not cut_short(trial):
            study._storage.set_trial_user_attr(trial._trial_id, "stopped", why)
    return [trial.number for trial in waiting if trial.params]


def requeue_running(study: optuna.Study) -> None:
    """Put the running trials back in the queue: their driver ends in order."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        requeue(study, trial.number)


def requeue_unfinished(study: optuna.Study) -> list[int]:
    """Requeue the trials whose driver died while they ran; all unfinished numbers.

    A trial may be what kills its driver and, with the memory of the machine, all else: one that
    MOST_DEATHS drivers in a row died with, without a report in between, has failed.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        deaths = driver_deaths(trial) + 1
        if deaths >= MOST_DEATHS:
            why = f"{DRIVER_DIED}: {deaths} times in a row with this trial, without a report"
            finish(study, trial.number, TrialState.FAIL, why)
            continue
        with _one_sync(study):
            requeue(study, trial.number)
            if trial.params:
                count = [deaths, len(trial.intermediate_values)]
                study._storage.set_trial_user_attr(trial._trial_id, "driver_deaths", count)
    return [trial.number for trial in study.get_trials(deepcopy=False) if unfinished(trial)]


def end_waiting(study: optuna.Study, number: int, state: TrialState, why: str) -> None:
    """End a trial that is in the queue."""
    trial_id = frozen_trial(study, number)._trial_id
    study._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    finish(study, number, state, why)


def ask(
    study: optuna.Study,
    suggest: Suggest,
    sampler: Callable[[int], optuna.samplers.BaseSampler | None],
    trials: int | None,
    room: Room = Room(),  # noqa: B008 - a value
) -> tuple[optuna.Trial, TrainConfig] | None:
    """The next trial: an unfinished one, an enqueued one, or a new one up to `trials` in all.

    None: there is no more, none that fits into `room`, or `sampler` has nothing to suggest.
    """
    while True:
        found = study.get_trials(deepcopy=False)
        number = next_number(found, trials, room)
        if number is None:
            return None
        suggests = sampler(number)
        if suggests is None:
            return None
        study.sampler = suggests
        with _one_sync(study):
            trial = _begin(study, number if number < len(found) else None)
            try:
                return trial, suggest(trial)
            except BadInput as fault:
                finish(study, trial.number, TrialState.FAIL, f"not a valid configuration: {fault}")


def _begin(study: optuna.Study, number: int | None) -> optuna.Trial:
    """What `Study.ask` does, for trial `number` of the queue, or (None) for a new one.

    It would always take the first in the queue.
    """
    study._thread_local.cached_all_trials = None
    if number is None:
        return optuna.Trial(study, study._storage.create_new_trial(study._study_id))
    waiting = frozen_trial(study, number)
    study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
    if cut_short(waiting):
        study._storage.set_trial_user_attr(waiting._trial_id, "stopped", "")
    return optuna.Trial(study, waiting._trial_id)


def record_report(study: optuna.Study, trial: optuna.Trial, report: Mapping[str, Any]) -> bool:
    """Write a report to the study; False for one that is there already (after a retry).

    Its `order` rises from report to report, whatever becomes of the clock behind its `time`.
    """
    frozen = frozen_trial(study, trial.number)
    if report["step"] in frozen.intermediate_values:
        return False
    with _one_sync(study):
        stamps = {"time": time.time(), "order": _journal(study).lines}
        trial.set_user_attr(f"{REPORT}{report['step']}", {**report, **stamps})
        trial.report(report["objective"], report["step"])
    return True


def finish(
    study: optuna.Study,
    number: int,
    state: TrialState,
    why: str,
    value: float | None = None,
    worked: float | None = None,
) -> None:
    """End a trial: COMPLETE with its best value, PRUNED or FAIL with the reason.

    `worked`: seconds at work on the study, as `sittings.Clock` counts them.
    """
    trial_id = frozen_trial(study, number)._trial_id
    with _one_sync(study):
        study._storage.set_trial_user_attr(trial_id, "stopped", why)
        if worked is not None:
            study._storage.set_trial_user_attr(trial_id, WORKED, worked)
        study.tell(number, value, state)


def _one_sync(study: optuna.Study) -> AbstractContextManager[None]:
    return _journal(study).one_sync()


def _journal(study: optuna.Study) -> Journal:
    storage: Any = study._storage
    journal: Journal = storage._backend
    return journal


def frozen_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """The trial as the study has it now; not a copy, and without a list of all the others."""
    storage = study._storage
    return storage.get_trial(
        storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    )


def reports_of(trial: FrozenTrial) -> list[dict[str, Any]]:
    """A trial's recorded reports, first to last."""
    return [trial.user_attrs[f"{REPORT}{step}"] for step in sorted(trial.intermediate_values)]


def is_fold_run(trial: FrozenTrial) -> bool:
    """Whether the trial is a run of the confirmation on a fold."""
    return trial.params.keys() == {"candidate", "epochs", "fold", "seed"}


def best_report(trial: FrozenTrial, objective: Objective) -> dict[str, Any] | None:
    """The report whose weights the trial kept; None without a report that has a value.

    Of a run on a fold it is the last: for how long that trains was fixed beforehand.
    """
    best: dict[str, Any] | None = None
    reports = reports_of(trial)
    for report in reports[-1:] if is_fold_run(trial) else reports:
        value = report["objective"]
        if not math.isnan(value) and (best is None or objective.better(value, best["objective"])):
            best = report
    return best


def ranked(study: optuna.Study, objective: Objective) -> list[tuple[FrozenTrial, dict[str, Any]]]:
    """Every trial with a best report, best first; failed ones are left out."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        report = best_report(trial, objective)
        if report is not None and trial.state != TrialState.FAIL:
            found.append((trial, report))
    return sorted(found, key=lambda pair: (objective.cost(pair[1]["objective"]), pair[0].number))
