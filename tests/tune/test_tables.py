"""The study as tables that pandas and others read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fakes import asked, finished, in_memory, opened, small_space
from fold_runs import ran
from optuna.trial import TrialState
from pandas.api import types

from lstmcls.config import FIELDS
from lstmcls.metrics import OBJECTIVES
from tune.confirmation.candidates import choose_candidates, confirmation_points
from tune.run_folder import RunFolder
from tune.study import CONFIRMATION, cut, open_study, requeue
from tune.tables import reports_table, settings_table, trials_table, write_tables

folder = pytest.fixture(in_memory)
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}
SPACE = small_space()


@pytest.fixture
def study(folder: Path) -> optuna.Study:
    study = opened(folder / "study.journal", SPACE)
    finished(study, SPACE.suggest, [0.5, 0.75, 0.25], **SGD)
    finished(study, SPACE.suggest, [0.25], TrialState.PRUNED, **ADAM)
    finished(study, SPACE.suggest, [], TrialState.FAIL)
    asked(study, SPACE, None)
    requeue(study, asked(study, SPACE, None)[0].number)
    study.enqueue_trial(SGD)  # never begun: it has no row
    return study


def written(folder: Path, *studies: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    run = RunFolder(folder)
    write_tables(run, list(studies), SPACE.objective)
    return pd.read_parquet(run.trials), pd.read_parquet(run.reports)


def test_a_row_a_trial(folder: Path, study: optuna.Study) -> None:
    trials, _ = written(folder, study)
    assert list(trials["number"]) == [0, 1, 2, 3, 4]
    assert list(trials["state"]) == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]
    assert list(trials["study"]) == ["search"] * 5
    first: dict[str, Any] = trials.iloc[0].to_dict()
    wanted = {
        "stopped": "it ended", "objective": 0.75, "best_epoch": 2, "epochs": 3, "tokens": 300,
        "seconds": 1.5, "attempts": 1, "params_optimizer": "sgd", "params_lr": 0.1,
        "params_momentum": 0.5, "params_hidden_size": 16, "best_val_accuracy": 0.75,
        "last_val_accuracy": 0.25,
    }  # fmt: skip
    assert {key: first[key] for key in wanted} == wanted
    assert math.isnan(trials["params_momentum"][1])
    assert math.isnan(trials["objective"][2])
    assert list(trials["epochs"]) == [3, 1, 0, 0, 0]
    assert trials["stopped"].isna().tolist() == [False, False, False, True, True]


def test_what_the_time_cut_short_is_pruned(folder: Path, study: optuna.Study) -> None:
    assert cut(study, "time is up") == [3, 4]
    trials, _ = written(folder, study)
    assert list(trials["state"])[3:] == ["PRUNED"] * 2
    assert list(trials["stopped"])[3:] == ["time is up"] * 2
    asked(study, SPACE, None)  # the third goes on
    trials, _ = written(folder, study)
    assert list(trials["state"])[3:] == ["RUNNING", "PRUNED"]
    assert trials["stopped"].isna().tolist()[3:] == [True, False]


def test_a_row_a_report(folder: Path, study: optuna.Study) -> None:
    _, reports = written(folder, study)
    assert list(reports["trial"]) == [0, 0, 0, 1]
    assert list(reports["step"]) == [1, 2, 3, 1]
    assert list(reports["objective"]) == [0.5, 0.75, 0.25, 0.25]
    assert {"epoch", "train_loss", "tokens", "seconds", *OBJECTIVES} <= set(reports.columns)
    assert reports["time"].is_monotonic_increasing


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Optuna's times are local ones."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_shanghai")
def test_types(folder: Path, study: optuna.Study) -> None:
    trials, reports = written(folder, study)
    for table, whole in ((trials, ["number", "attempts", "tokens"]),
                         (reports, ["trial", "step", "tokens"])):  # fmt: skip
        for name in whole:
            assert types.is_integer_dtype(table[name]), name
    for name in ("objective", "epochs", "seconds", "best_val_f1", "last_val_f1", "params_lr"):
        assert types.is_float_dtype(trials[name]), name
    for name in ("started", "ended"):
        assert types.is_datetime64_any_dtype(trials[name]), name
    for name in ("state", "stopped", "study", "params_optimizer"):
        assert types.is_string_dtype(trials[name]) or trials[name].dtype == object, name
    # One clock: what the trials' table says of time is comparable with the reports'.
    assert str(trials["started"].dt.tz) == str(reports["time"].dt.tz) == "UTC"
    assert (trials["started"][0] <= reports["time"]).all()
    assert trials["ended"][0] >= reports["time"][2]
    assert trials["ended"].isna().tolist() == [False, False, False, True, True]


def test_both_studies_of_a_run(folder: Path, study: optuna.Study) -> None:
    other = open_study(folder / "study.journal", CONFIRMATION, SPACE.objective)
    chosen = choose_candidates(SPACE, study)
    ran(other, chosen, *confirmation_points(SPACE, chosen, 1)[:1])
    trials, reports = written(folder, study, other)
    assert list(trials["study"]) == ["search"] * 5 + ["confirmation"]
    assert list(reports["study"]) == ["search"] * 4 + ["confirmation"]
    assert types.is_integer_dtype(trials["number"])
    named = {name: trials[f"params_{name}"].iloc[-1] for name in ("candidate", "fold", "seed")}
    assert named == {"candidate": 0, "fold": 0, "seed": 1000}


def test_an_empty_study(folder: Path) -> None:
    study = opened(folder / "study.journal", SPACE)
    trials, reports = written(folder, study)
    assert len(trials) == len(reports) == 0
    finished(study, SPACE.suggest, [0.5])
    for empty, full in zip((trials, reports), written(folder, study), strict=True):
        assert dict(empty.dtypes).items() <= dict(full.dtypes).items()


def test_trials_without_a_report(folder: Path) -> None:
    study = opened(folder / "study.journal", SPACE)
    asked(study, SPACE, None)
    trials, reports = written(folder, study)
    assert len(trials) == 1
    assert len(reports) == 0
    assert types.is_datetime64_any_dtype(trials["started"])


def test_nothing_is_lost_on_the_way_to_the_file(folder: Path, study: optuna.Study) -> None:
    trials, reports = written(folder, study)
    for table, made in ((trials, trials_table([study], SPACE.objective)),
                        (reports, reports_table([study]))):  # fmt: skip
        assert list(table.columns) == list(made.columns)
        pd.testing.assert_frame_equal(table, made, check_dtype=False)


PARAMETERS: dict[str, Any] = {
    "optimizer": {"categorical": ["sgd", "adam"]},
    "layers": {"int": [1, 4], "when": {"optimizer": "adam"}},
    "nesterov": {"categorical": [True, False], "when": {"optimizer": "sgd"}},
    "dropout": {"categorical": [0, 0.5]},
    "epochs": {"int": [1, 4]},
}


@pytest.fixture
def mixed(folder: Path) -> Path:
    """A run with parameters of every type, some of them conditional."""
    space = small_space(space=PARAMETERS, fixed={"momentum": 0.9})
    study = opened(folder / "study.journal", space)
    finished(study, space.suggest, [0.5], optimizer="adam", layers=3, dropout=0, epochs=2)
    finished(study, space.suggest, [0.5], TrialState.PRUNED, optimizer="sgd", nesterov=True)
    asked(study, space, None)
    write_tables(RunFolder(folder), [study], space.objective)
    return folder


WANTED = {
    "number": "int64", "state": "string", "objective": "double", "started": "timestamp[us, tz=UTC]",
    "ended": "timestamp[us, tz=UTC]", "params_optimizer": "string", "params_layers": "int64",
    "params_nesterov": "bool", "params_dropout": "double", "params_epochs": "int64",
    "tokens": "int64", "attempts": "int64", "best_val_f1": "double",
}  # fmt: skip


def test_every_column_has_one_type(mixed: Path) -> None:
    schema = pq.read_schema(mixed / "trials.parquet")
    kinds = {name: str(schema.field(name).type).removeprefix("large_") for name in WANTED}
    assert kinds == WANTED
    assert str(pq.read_schema(mixed / "reports.parquet").field("time").type) == WANTED["started"]
    names = schema.names
    assert names.index("ended") < names.index("params_layers") < names.index("best_train_loss")


def test_polars_reads_them(mixed: Path) -> None:
    polars = pytest.importorskip("polars")
    trials = polars.read_parquet(mixed / "trials.parquet")
    assert trials["params_layers"].to_list()[:2] == [3, None]
    assert trials["params_nesterov"].to_list()[:2] == [None, True]
    assert trials["ended"].null_count() == 1
    assert len(polars.read_parquet(mixed / "reports.parquet")) == 2


def test_duckdb_reads_them(mixed: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    query = f"select state, objective, params_layers from '{mixed}/trials.parquet' order by number"
    assert duckdb.sql(query).fetchall()[:2] == [("COMPLETE", 0.5, 3), ("PRUNED", 0.5, None)]
    assert duckdb.sql(f"select count(*) from '{mixed}/reports.parquet'").fetchall() == [(2,)]


def test_the_settings_are_configs_and_a_value_where_a_trial_trained_to_its_end(
    study: optuna.Study,
) -> None:
    table = settings_table(SPACE, study)
    assert table.columns.tolist() == [*FIELDS, "variant", "value"]
    assert len(table) == len(study.get_trials()) - 1  # less the one in the queue
    assert table.value.tolist()[0] == 0.75
    assert table.value[1:].isna().all()
    assert table[["optimizer", "momentum", "epochs"]].loc[0].tolist() == ["sgd", 0.5, 3]
    assert (table.variant == "improved").all()
    empty = settings_table(SPACE, optuna.create_study())
    assert (len(empty), empty.columns.tolist()) == (0, table.columns.tolist())


def test_a_configuration_that_was_tried_twice_counts_once(folder: Path) -> None:
    """The same seed gives the same value: a second trial says nothing of the noise."""
    study = opened(folder / "study.journal", SPACE)
    finished(study, SPACE.suggest, [0.5], TrialState.PRUNED, **ADAM)
    finished(study, SPACE.suggest, [0.75], **ADAM)
    finished(study, SPACE.suggest, [0.75], **ADAM)
    finished(study, SPACE.suggest, [0.25], TrialState.PRUNED, **ADAM)
    assert settings_table(SPACE, study).value.tolist() == [0.75]
