"""What the report says of a run: each section's figures, and runs of every kind."""

from __future__ import annotations

import dataclasses
import html
import json
import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_csv
from fakes import a_report, asked, finished, in_memory, small_space
from fold_runs import ran
from optuna.trial import TrialState
from runs import ASHA, HOSTILE, a_run

from lstmcls.artifact import load_artifact
from lstmcls.cli import BadInput
from lstmcls.dataset import load_prepared
from lstmcls.metrics import confusion
from lstmcls.prepare import prepare
from lstmcls.tokenizer import load_tokenizer
from tune.confirmation.candidates import choose_candidates, confirmation_points, enqueue_points
from tune.data import search_folds
from tune.report import cost, curves, importance, mistakes, winner
from tune.report.document import try_report, write_report
from tune.report.parallel import place
from tune.report.progress import best_so_far
from tune.report.record import Record, read_record
from tune.report.slices import choice_names, log_marks, spread
from tune.report.wording import duration
from tune.run_folder import RunFolder
from tune.space import Objective, Parameter, SearchSpace
from tune.study import CONFIRMATION, SEARCH, cut, enqueue, open_study, record_report

folder = pytest.fixture(in_memory)


def text_of(part: str) -> str:
    """The words of some HTML."""
    shown = re.sub(r"<(script|style)[ >].*?</\1>", "", part, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def of_trials(path: Path, space: SearchSpace, *trials: dict[str, Any]) -> Record:
    """A record of finished trials, given as `fakes.finished` takes them."""
    run = RunFolder(path)
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    study = open_study(run.journal, SEARCH, space.objective)
    for trial in trials:
        finished(study, space.suggest, **trial)
    return read_record(run)


# The whole document.


def headings(page: Path) -> list[str]:
    return re.findall(r"<section id=.*?><h2>(.*?)</h2>", page.read_text(encoding="utf-8"))


def test_a_run_without_a_winner_folder(folder: Path) -> None:
    run = a_run(folder / "run")
    page = write_report(run)
    assert page == run.path / "report.html"
    content = page.read_text(encoding="utf-8")
    assert headings(page)[:3] == ["The winner", "The best value", "Learning curves"]
    assert HOSTILE not in content
    assert html.escape(HOSTILE) in content
    assert "not confirmed by cross-validation" in content
    assert html.escape(run.space.read_text(encoding="utf-8")) in content


@pytest.mark.parametrize(
    "sections",
    [
        {"objective": {"metric": "val_loss", "mode": "min"}},
        {"asha": False},
        {"space": {"epochs": {"int": [1, 3]}}, "fixed": {"report_every": 1}},
        {"space": {"variant": {"categorical": ["plain", "improved"]}}, "sampler": "grid"},
    ],
    ids=["min", "no asha", "one parameter", "grid"],
)
def test_runs_of_every_kind(folder: Path, sections: dict[str, Any]) -> None:
    fixed = {"fixed": {"epochs": 3, "report_every": 1}}
    assert len(headings(write_report(a_run(folder / "run", 6, **{**fixed, **sections})))) == 11


@pytest.mark.parametrize("trials", [0, 1])
def test_hardly_a_run(folder: Path, trials: int) -> None:
    page = write_report(a_run(folder / "run", trials))
    assert len(headings(page)) == (11 if trials else 2)


def test_a_run_under_way(folder: Path) -> None:
    run = a_run(folder / "run", 3)
    space = small_space()
    study = open_study(run.journal, SEARCH, space.objective)
    enqueue(study, [{"optimizer": "adam"}])
    study.ask()
    trial = study.ask()
    space.suggest(trial)
    record_report(study, trial, a_report(1, math.nan))
    content = write_report(run).read_text(encoding="utf-8")
    assert "The run is not finished" in content


def test_only_nan(folder: Path) -> None:
    trial = {"objectives": [math.nan, math.nan], "state": TrialState.FAIL}
    record = of_trials(folder, small_space(), trial)
    assert "There is none" in winner.section(record)
    assert headings(write_report(record.run)) == [
        "The winner", "Cost", "Failed trials", "How it was started",
    ]  # fmt: skip


def test_the_end_of_a_search_survives_a_report_that_cannot_be_drawn(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = a_run(folder / "run", 2)
    run.best.mkdir()  # without a metrics.json
    notes: list[str] = []
    with pytest.raises(BadInput):
        write_report(run)
    with caplog.at_level(logging.ERROR):
        try_report(run, notes.append)
    assert notes == [f"report.html could not be drawn; {run.log} tells why"]
    assert "metrics.json" in caplog.text
    run.best.rmdir()
    try_report(run, notes.append)
    assert run.report.is_file()
    assert len(notes) == 1


# The winner.


def confirmation(**changed: Any) -> dict[str, Any]:
    return {
        "trial": 0, "baseline": False, "folds": 3, "of": 5, "value": 0.8,
        "interval": [0.77, 0.83], "values": [0.79, 0.8, 0.81], "left": "", **changed,
    }  # fmt: skip


def out_of_fold(**changed: Any) -> dict[str, Any]:
    bins = [[0.6, 0.5, 40.0], [0.9, 0.875, 40.0]]
    alone = {"accuracy": 0.8, "brier": 0.3, "calibration_error": 0.0456, "reliability": bins}
    return {
        "rows": 1234, "folds": 3, "accuracy": 0.8175, "accuracy_interval": [0.79, 0.84],
        "members": {"0": 0.6, "linear": 0.4}, "networks_alone": alone, "brier": 0.25,
        "calibration_error": 0.0123, "reliability": bins, **changed,
    }  # fmt: skip


def test_the_confirmed_winner(folder: Path) -> None:
    record = of_trials(folder, small_space(), {"objectives": [0.5, 0.9]}, {"objectives": [0.4]})
    behind = confirmation(trial=1, baseline=True, folds=2, value=0.7, interval=[None, None])
    metrics = {
        "trial": 0,
        "confirmation": [confirmation(), behind | {"left": "clearly behind after 2 folds"}],
        "out_of_fold": out_of_fold(),
        "test": {
            "rows": 1000, "accuracy": 0.79, "accuracy_interval": [0.76, 0.82],
            "baseline_accuracy": 0.75, "difference": 0.04, "difference_interval": [0.01, 0.07],
        },
    }  # fmt: skip
    shown = text_of(winner.section(dataclasses.replace(record, metrics=metrics)))
    assert "linear" not in shown
    linear = {"linear": {"accuracy": 0.8123}}
    with_it = text_of(winner.section(dataclasses.replace(record, metrics=metrics | linear)))
    assert "of a linear model 0.8123" in with_it
    assert (
        "validation accuracy of single networks, out of 3 folds 0.8000 95% interval 0.7700 to "
        "0.8300"
    ) in shown
    assert (
        "validation accuracy of what is exported, out of fold, 1,234 texts 0.8175 95% interval "
        "0.7900 to 0.8400"
    ) in shown
    assert "Calibration error 0.0456 of single networks, 0.0123 after" in shown
    assert "validation accuracy in the search 0.9000 epoch 2; the best of 2 trials" in shown
    assert "95% interval 0.7600 to 0.8200" in shown
    assert "+0.0400" in shown
    assert "95% interval +0.0100 to +0.0700, paired by text" in shown
    assert "trial 0 3 0.8000 0.7700 to 0.8300 –" in shown
    assert "trial 1, baseline 2 0.7000 not defined clearly behind after 2 folds" in shown
    assert "not confirmed" not in shown


def test_two_folds_have_no_interval(folder: Path) -> None:
    record = of_trials(folder, small_space(), {"objectives": [0.5]})
    metrics = {
        "trial": 0,
        "confirmation": [confirmation(folds=2, of=2, interval=[None, None], values=[0.79, 0.81])],
        "out_of_fold": out_of_fold(folds=2, accuracy_interval=[None, None]),
    }
    shown = text_of(winner.section(dataclasses.replace(record, metrics=metrics)))
    assert "out of 2 folds 0.8000 95% interval not defined" in shown
    assert "1,234 texts 0.8175 95% interval not defined" in shown


def test_the_fresh_seeds_of_an_earlier_version_are_shown_too(folder: Path) -> None:
    record = of_trials(folder, small_space(), {"objectives": [0.5]})
    several = {
        "trial": 0, "baseline": False, "runs": 3, "mean": 0.8, "deviation": 0.01,
        "half_width": 0.0248, "values": [0.79, 0.8, 0.81],
    }  # fmt: skip
    one = {**several, "trial": 1, "runs": 1, "deviation": None, "half_width": None}
    metrics = {"trial": 0, "confirmation": [several, one]}
    shown = text_of(winner.section(dataclasses.replace(record, metrics=metrics)))
    assert "trial 0 3 0.8000 0.7752 to 0.8248 –" in shown
    assert "trial 1 1 0.8000 not defined –" in shown
    assert "not confirmed" not in shown


def test_a_winner_that_was_not_the_searchs_best_is_not_called_so(folder: Path) -> None:
    record = of_trials(folder, small_space(), {"objectives": [0.5]}, {"objectives": [0.9]})
    metrics = {"trial": 0, "confirmation": [confirmation()]}
    shown = text_of(winner.section(dataclasses.replace(record, metrics=metrics)))
    assert "in the search 0.5000 epoch 1; rank 2 of 2 trials" in shown
    assert "the best of" not in shown


def test_a_winner_by_f1_has_its_test_f1_too(folder: Path) -> None:
    record = of_trials(folder, small_space(objective="val_f1"), {"objectives": [0.5]})
    test = {"rows": 9, "accuracy": 0.79, "f1": 0.5432, "accuracy_interval": [0.76, 0.82]}
    metrics = {"trial": 0, "confirmation": [confirmation()], "test": test}
    shown = text_of(winner.section(dataclasses.replace(record, metrics=metrics)))
    assert "test F1 (macro) 0.5432" in shown
    assert "epoch 1; the only trial" in shown


def test_data_that_the_search_prepared_are_named_without_their_digest(folder: Path) -> None:
    run = a_run(folder / "run", 1, data="/x/results/prepared/shop-2c4bf03b")
    assert "accuracy on shop: 1 trial" in text_of(write_report(run).read_text(encoding="utf-8"))


def test_a_trial_that_the_time_ended_before_its_first_report(folder: Path) -> None:
    ended = {"objectives": [], "state": TrialState.PRUNED, "why": "time is up"}
    record = of_trials(folder, small_space(), {"objectives": [0.5]}, ended)
    shown = text_of(cost.section(record))
    assert "search, stopped early, before a first report 1 0" in shown


def test_a_trial_that_the_time_cut_short_was_stopped_early(folder: Path) -> None:
    record = of_trials(folder, small_space(), {"objectives": [0.5]})
    study = open_study(record.run.journal, SEARCH, record.objective)
    trial, _ = asked(study, record.space, None)
    record_report(study, trial, a_report(1, 0.75))
    assert read_record(record.run).unfinished == 1
    cut(study, "time is up")
    record = read_record(record.run)
    assert record.unfinished == 0
    assert record.winner == 1
    shown = text_of(cost.section(record))
    assert "search, stopped early 1 1 100" in shown
    asked(study, record.space, None)  # it goes on
    record = read_record(record.run)
    curves.section(record)
    assert "search, under way 1 1 100" in text_of(cost.section(record))


def test_an_unfinished_confirmation_confirms_nothing(folder: Path) -> None:
    space = small_space(confirm={"top": 1, "folds": 2})
    record = of_trials(folder, space, {"objectives": [0.5]})
    chosen = choose_candidates(space, open_study(record.run.journal, SEARCH, space.objective))
    points = confirmation_points(space, chosen, 2)
    study = open_study(record.run.journal, CONFIRMATION, space.objective)
    enqueue_points(study, points)
    ran(study, chosen, None, 0.75)
    shown = text_of(winner.section(read_record(record.run)))
    assert "validation accuracy in the search 0.5000" in shown
    assert "not confirmed by cross-validation" in shown
    assert "0.7500" not in shown


# The course.


def test_the_best_so_far_passes_over_what_is_no_number() -> None:
    events = [(0, math.nan), (1, 0.5), (2, 0.4), (3, 0.6), (4, 0.6)]
    assert best_so_far(events, Objective()) == [(1, 0.5), (3, 0.6)]
    assert best_so_far(events, Objective("val_loss", "min")) == [(1, 0.5), (2, 0.4)]


def test_rungs_say_who_reached_them_and_who_was_stopped(folder: Path) -> None:
    stopped = {"state": TrialState.PRUNED, "why": "asha at epoch 1"}
    record = of_trials(
        folder, small_space(asha=ASHA),
        {"objectives": [0.5, 0.6, 0.7]},
        {"objectives": [0.4], **stopped},
        {"objectives": [0.3], **stopped},
        {"objectives": [0.6, 0.5], "state": TrialState.PRUNED, "why": "asha at epoch 2"},
    )  # fmt: skip
    reached = curves.rungs(record)
    assert reached == {1: {0, 1, 2, 3}, 2: {0, 3}}
    assert curves.rung_counts(reached, record.trials[1:]) == {1: (4, 2, 2), 2: (2, 1, 1)}
    figure = curves.curves(record, list(reached))
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 2]
    (ends,) = [trace for trace in figure.data if trace.name == "stopped here"]
    assert list(zip(ends.customdata, ends.x, strict=True)) == [(1, 1), (2, 1), (3, 2)]


def test_a_loss_that_is_far_too_large_does_not_flatten_the_others(folder: Path) -> None:
    space = small_space(objective={"metric": "val_loss", "mode": "min"})
    record = of_trials(folder, space, {"objectives": [0.5]})
    low, high = record.value_range([0.4] * 20 + [0.7, 500, math.nan])
    assert low < 0.4
    assert high < 2
    assert record.value_range([]) == record.value_range([math.nan])


# The parameters.


def test_importance_finds_the_parameter_that_decides(folder: Path) -> None:
    good = {"objectives": [0.9], "lr": 0.01, "optimizer": "sgd"}
    trials = [{"objectives": [0.5 + k / 1000], "lr": 0.5} if k % 8 else good for k in range(40)]
    record = of_trials(folder, small_space(), *trials)
    found = importance.importances(record)
    assert next(iter(found)) == "lr"
    assert sum(found.values()) == pytest.approx(1)
    assert "momentum" in found  # conditional
    assert "From 40 trials only" in importance.section(record)


def test_importance_passes_over_what_hardly_any_of_the_best_use(folder: Path) -> None:
    sgd, adam = {"optimizer": "sgd"}, {"optimizer": "adam"}
    trials = [{"objectives": [0.5 + k / 100], **(adam if k > 9 else sgd)} for k in range(20)]
    record = of_trials(folder, small_space(), *trials)
    assert set(importance.importances(record)) == {"optimizer", "lr", "hidden_size"}
    assert "Not judged, used by fewer than 5 of the best trials: momentum." in importance.section(
        record
    )


def test_importance_wants_more_than_a_few_trials(folder: Path) -> None:
    record = of_trials(folder, small_space(), {"objectives": [0.5]}, {"objectives": [0.6]})
    assert "Too few to tell: 2 trials" in importance.section(record)
    assert "plot" not in importance.section(record)


def test_importance_of_trials_that_are_all_alike(folder: Path) -> None:
    point = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 8}
    record = of_trials(folder, small_space(), *[{"objectives": [0.5], **point}] * 10)
    assert "No parameter sets the best trials apart" in importance.section(record)


def test_marks_on_a_logarithmic_axis_are_round() -> None:
    assert log_marks(0.001, 0.02) == [0.001, 0.003, 0.01]
    assert log_marks(1e-5, 0.1) == [1e-5, 1e-4, 1e-3, 0.01, 0.1]
    assert log_marks(0.04, 0.05) == [0.04, 0.05]


def test_places_on_an_axis() -> None:
    log = Parameter("lr", "lr", "float", low=1e-3, high=0.1, log=True)
    assert place(log, 0.01) == pytest.approx(0.5)
    assert place(Parameter("n", "hidden_size", "int", low=8, high=24, step=8), 24) == 1
    assert place(Parameter("n", "hidden_size", "int", low=8, high=8), 8) == 0.5
    flags = Parameter("z", "zero_state", "categorical", (False, True))
    assert [place(flags, value) for value in (False, True)] == [0, 1]
    assert choice_names(flags) == ["false", "true"]
    many = Parameter("v", "variant", "categorical", ("bidirectional", "zero_state", "improved"))
    assert choice_names(many) == ["bidirectional", "<br>zero_state", "improved"]
    assert len({spread(number) for number in range(100)}) == 100


# Cost.


def test_what_asha_saved_is_the_rest_of_each_stopped_trial(folder: Path) -> None:
    record = of_trials(
        folder, small_space(asha=ASHA),
        {"objectives": [0.5, 0.6, 0.7]},
        {"objectives": [0.4], "state": TrialState.PRUNED, "why": "asha at epoch 1"},
        {"objectives": [0.4, 0.5], "state": TrialState.PRUNED, "why": "asha at epoch 2"},
        {"objectives": [0.4], "state": TrialState.PRUNED, "why": "time is up"},
        {"objectives": [], "state": TrialState.FAIL, "why": HOSTILE},
    )  # fmt: skip
    # Of 3 epochs each, at half a second an epoch: 2 and 1 are left.
    assert cost.saved_by_asha(record.trials, record.space) == (2, 3.0, 1.5)
    shown = text_of(cost.section(record))
    assert "search, stopped early 3 4 400 2.0 s" in shown
    assert "in all 5 7 700 3.5 s" in shown
    assert "ASHA stopped 2 of 5 trials" in shown
    assert "an estimate" in shown
    assert f"search 4 {HOSTILE} 1 optimizer" in text_of(cost.failures(record))


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.25, "3.2 s"), (59.96, "1 min 00 s"), (3700, "1 h 01 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# The mistakes.


@pytest.fixture
def with_best(folder: Path, trained: Path, prepared_folder: Path) -> Record:
    space = small_space(data=str(prepared_folder))
    record = of_trials(folder, space, {"objectives": [0.5]})
    shutil.copytree(trained, record.run.best)
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    return dataclasses.replace(record, metrics={**metrics, "trial": 0})


def test_mistakes_are_those_on_validation_data(with_best: Record, prepared_folder: Path) -> None:
    """On those that chose the winner, which are more than the val split has."""
    artifact = load_artifact(with_best.run.best)
    val = search_folds(load_prepared(prepared_folder), with_best.space.seed).held_out(0)
    assert len(val) == 120
    matrix = confusion(artifact.row_probabilities(val), val.labels)
    wrong = matrix[0][1] + matrix[1][0]
    section = mistakes.section(with_best)
    assert section.count("<blockquote") == min(wrong, mistakes.SHOWN)
    assert f"Of {len(val)} validation texts {len(val) - wrong} are classified rightly" in section


def test_of_a_confirmed_winner_they_are_those_on_test_data(
    with_best: Record, prepared_folder: Path, tmp_path: Path
) -> None:
    """Its networks were trained on all other rows. Here the labels of the test are wrong."""
    data = shutil.copytree(prepared_folder, tmp_path / "data")
    rows = pq.read_table(data / "test.parquet")
    wrong_labels = pa.array(1 - rows["label"].to_numpy(), rows["label"].type)
    column = rows.column_names.index("label")
    pq.write_table(rows.set_column(column, "label", wrong_labels), data / "test.parquet")
    test = load_prepared(data, ("test",)).splits["test"]
    matrix = confusion(load_artifact(with_best.run.best).row_probabilities(test), test.labels)
    wrong = matrix[0][1] + matrix[1][0]
    assert wrong > 20
    space = dataclasses.replace(with_best.space, data=str(data))
    metrics = {**(with_best.metrics or {}), "out_of_fold": {}}
    section = mistakes.section(dataclasses.replace(with_best, space=space, metrics=metrics))
    assert section.count("<blockquote") == mistakes.SHOWN
    assert f"Of the {wrong} mistakes on {len(test)} test texts." in section
    assert f"Of {len(test)} test texts {len(test) - wrong} are classified rightly" in section
    assert "validation" not in section


def test_those_of_an_earlier_version_are_of_the_val_split(with_best: Record) -> None:
    path = with_best.run.best / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}), encoding="utf-8")
    assert "Of 40 validation texts " in mistakes.section(with_best)


def test_the_matrix_of_the_test_is_the_recorded_one(with_best: Record) -> None:
    test = {"confusion": [[90, 10], [20, 80]]}
    record = dataclasses.replace(with_best, metrics={**(with_best.metrics or {}), "test": test})
    assert "Of 200 test texts 170 are classified rightly" in mistakes.section(record)


def test_prepared_data_that_is_gone_is_told(with_best: Record, tmp_path: Path) -> None:
    space = dataclasses.replace(with_best.space, data=str(tmp_path / "gone"))
    test = {"confusion": [[90, 10], [20, 80]]}
    metrics = {**(with_best.metrics or {}), "test": test}
    section = mistakes.section(dataclasses.replace(with_best, space=space, metrics=metrics))
    assert "No texts can be shown" in section
    assert "gone" in section
    assert "Of 200 test texts" in section


def test_texts_are_escaped_and_read_in_their_own_direction(
    with_best: Record, tmp_path: Path
) -> None:
    rows = [
        (f"<b>{word} שלום</b> 好 {k}", f"<i>{k % 2}</i>") for k, word in enumerate("abcdefgh" * 9)
    ]
    data = tmp_path / "hostile"
    prepare([str(write_csv(tmp_path / "h.csv", rows))], data, progress=False)
    artifact = load_artifact(with_best.run.best)
    prepared = load_prepared(data, ("val",))
    hostile = dataclasses.replace(
        artifact, tokenizer=load_tokenizer(data / "tokenizer.json"), labels=prepared.labels
    )
    val = prepared.splits["val"]
    wrong = np.eye(2, dtype=np.float32)[1 - val.labels]
    shown = "".join(mistakes._mistakes(hostile, val, wrong, "validation"))
    assert "&lt; b &gt;" in shown
    assert '<blockquote dir="auto">' in shown
    assert "<i>" not in shown


def test_classes_that_are_never_confused(with_best: Record) -> None:
    matrix = [[5, 0, 0], [0, 6, 0], [0, 0, 7]]
    shown = text_of("".join(mistakes._matrix(matrix, ["a", "b", "c"], "test")))
    assert shown.startswith("Of 18 test texts 18 are classified rightly.")
    assert "Most often confused" not in shown


def test_fifty_classes(with_best: Record) -> None:
    labels = [f"a class with a long name {k}" for k in range(50)]
    matrix = [[20 if t == p else int(p == (t + 1) % 50) for p in range(50)] for t in range(50)]
    matrix[3][7] = 9
    shown = text_of("".join(mistakes._matrix(matrix, labels, "test")))
    assert f"{labels[3]} {labels[7]} 9 0.3000" in shown
