"""What the run cost, what ASHA saved, and what failed."""

from __future__ import annotations

from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

from tune.report.page import section_html, table_html, text_html
from tune.report.record import Record
from tune.report.wording import amount, duration, outcome, params_text
from tune.sittings import seconds_spent
from tune.space import SearchSpace
from tune.study import reports_of

SHOWN = 200  # failed trials


def section(record: Record) -> str:
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in record.trials:
        unseen = "" if reports_of(trial) else ", before a first report"
        groups.setdefault(f"search, {outcome(trial)}{unseen}", []).append(trial)
    if record.confirmation is not None:
        runs = [t for t in record.confirmation.get_trials(deepcopy=False) if reports_of(t)]
        groups |= {"confirmation": runs} if runs else {}
    rows = [(name, *_spent(trials)) for name, trials in groups.items()]
    rows.append(("in all", *_spent([trial for trials in groups.values() for trial in trials])))
    table = table_html(("", "trials", "epochs", "tokens", "trial time"), rows)
    spent = duration(seconds_spent(record.studies))
    clock = (
        f"The run was at work for {spent}. Trial time is training and validation, summed over "
        "trials, some of which ran at the same time; what crashed attempts did twice counts once."
    )
    return section_html("Cost", text_html(clock), table, text_html(_saving(record)))


def _spent(trials: Iterable[FrozenTrial]) -> tuple[int, str, int, str]:
    last = [reports_of(trial)[-1] if reports_of(trial) else None for trial in trials]
    known = [report for report in last if report is not None]
    return (
        len(last),
        f"{sum(report['epoch'] for report in known):,g}",
        sum(report["tokens"] for report in known),
        duration(sum(report["seconds"] for report in known)),
    )


def saved_by_asha(trials: Iterable[FrozenTrial], space: SearchSpace) -> tuple[int, float, float]:
    """(trials that ASHA stopped, epochs and seconds that they would still have taken).

    An estimate: each is taken to go on to its own number of epochs at its own pace.
    """
    count, epochs, seconds = 0, 0.0, 0.0
    for trial in trials:
        reports = reports_of(trial)
        if reports and trial.user_attrs.get("stopped", "").startswith("asha"):
            left = space.config(trial.params).epochs - reports[-1]["epoch"]
            count += 1
            epochs += left
            seconds += reports[-1]["seconds"] * left / reports[-1]["epoch"]
    return count, epochs, seconds


def _saving(record: Record) -> str:
    if record.space.asha is None:
        return "ASHA was off, so it saved nothing."
    count, epochs, seconds = saved_by_asha(record.trials, record.space)
    if not count:
        return "ASHA stopped no trial, so it saved nothing."
    _, trained, _, _ = _spent(record.trials)
    return (
        f"ASHA stopped {count:,} of {amount(len(record.trials), 'trial')}. To train them to their "
        f"end would have taken about {epochs:,.0f} epochs and {duration(seconds)} of trial time "
        f"more, beside the {trained} epochs of the search. That is an estimate: each is taken to "
        "go on at its own pace to its own number of epochs, and the sampler to have suggested the "
        "same."
    )


def failures(record: Record) -> str:
    studies = [("search", record.search), ("confirmation", record.confirmation)]
    rows = [
        (
            f"{name}\u00a0{trial.number}",
            trial.user_attrs.get("stopped", "not known"),
            trial.user_attrs.get("attempts", 1),
            params_text(trial.params),
        )
        for name, study in studies
        if study is not None
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    ]
    if not rows:
        return section_html("Failed trials", text_html("None."))
    parts = [table_html(("trial", "reason", "attempts", "parameters"), rows[:SHOWN])]
    if len(rows) > SHOWN:
        parts.append(text_html(f"And {len(rows) - SHOWN:,} more: see trials.parquet."))
    return section_html("Failed trials", *parts)
