"""A whole search through the command line: what it prints, writes, exports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ENVIRONMENT
from driving import Driver, search, trials, write_space

from tune.data import data_digest
from tune.space import load_space
from tune.study import SEARCH, read_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prepared_folder: Path) -> Driver:
    """A search of six trials with a confirmation, run to its end in `Driver.folder`.

    The first two learn; the third, which begins when one of them has ended, learns nothing, so
    that ASHA stops a trial in whatever order the reports of the two that run at once come.
    """
    folder = tmp_path_factory.mktemp("finished")
    space = write_space(
        folder / "mine.yaml",
        prepared_folder,
        fixed={"batch_size": 8},
        resources={"gpu": 0.5},
        enqueue=[
            {"lr": 0.05, "hidden_size": 16},
            {"lr": 0.1, "hidden_size": 16},
            {"lr": 0.001, "hidden_size": 8},
        ],
        confirm={"top": 2, "seeds": 2},
    )
    return search(folder, "--space", space, "--out", folder / "run", "--tensorboard")


def _run(folder: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_run_folder_is_complete(finished: Driver, prepared_folder: Path) -> None:
    run = finished.folder / "run"
    assert finished.process.returncode == 0, finished.err
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "space.yaml", "study.journal", "trials.parquet", "reports.parquet", "best.yaml", "best",
        "search.log",
    }  # fmt: skip
    assert load_space(str(run / "space.yaml")).budget.trials == 6
    study = read_study(run / "study.journal", SEARCH)
    assert study is not None
    assert study.user_attrs["data"] == data_digest(prepared_folder)
    table = pd.read_parquet(run / "trials.parquet")
    told = f"{table[['study', 'number', 'state', 'stopped', 'epochs']]}\n{finished.err}"
    assert set(table.state) <= {"COMPLETE", "PRUNED"}, told
    searched = table[table.study == "search"]
    assert len(searched) == 6, told
    assert (searched.state == "PRUNED").any(), told
    assert searched.stopped[searched.state == "PRUNED"].str.startswith("asha at epoch").all(), told
    # The baseline may be on top.
    assert len(table[table.study == "confirmation"]) in (4, 6), told
    reports = pd.read_parquet(run / "reports.parquet")
    assert set(reports.trial[reports.study == "search"]) == set(range(6))
    curves = {f"{row.study}-{row.trial:04d}" for row in reports.itertuples()}
    drawn = {path.parent.name for path in run.glob("tensorboard/*/events.*")}
    assert drawn == curves, told


def test_what_it_says(finished: Driver) -> None:
    assert "this machine has none" in finished.err  # a GPU was asked for
    assert "\x1b" not in finished.err + finished.out
    for words in ("winner:", "confirmed on fresh seeds", "95% interval", "example: «", "the base"):
        assert words in finished.out
    metrics = json.loads((finished.folder / "run/best/metrics.json").read_text(encoding="utf-8"))
    assert f"val_accuracy: {metrics['linear']['accuracy']:.4f}" in finished.out
    assert finished.out.strip().splitlines()[-1].endswith(str(finished.folder / "run"))


def test_the_report_is_there(finished: Driver) -> None:
    run = finished.folder / "run"
    assert finished.out.strip().splitlines()[-2] == f"report:  {run / 'report.html'}"
    content = (run / "report.html").read_text(encoding="utf-8")
    assert f"python -m tune.search --space {finished.folder / 'mine.yaml'} --out {run}" in content
    recorded = json.loads((run / "best" / "metrics.json").read_text(encoding="utf-8"))["test"]
    rows, right = recorded["rows"], sum(recorded["confusion"][k][k] for k in range(2))
    assert f"Of {rows} test texts {right} are classified rightly" in content
    assert right / rows == pytest.approx(recorded["accuracy"], abs=1e-6)


def test_the_export_gives_the_recorded_metrics_elsewhere(
    finished: Driver, prepared_folder: Path, tmp_path: Path
) -> None:
    run = finished.folder / "run"
    _run(tmp_path, "tune.export", run, "--to", tmp_path / "model")
    evaluated = json.loads(
        _run(tmp_path, "lstmcls.evaluate", "model", prepared_folder, "--split", "val", "--json")
    )
    recorded = json.loads((run / "best" / "metrics.json").read_text(encoding="utf-8"))
    assert evaluated["metrics"] == recorded["val"]
    table = pd.read_parquet(run / "trials.parquet")
    same = table[(table.study == "confirmation") & (table.objective == recorded["val"]["accuracy"])]
    assert (same.best_val_loss == recorded["val"]["loss"]).any()
    tested = json.loads(
        _run(tmp_path, "lstmcls.evaluate", "model", prepared_folder, "--split", "test", "--json")
    )
    assert tested["metrics"]["accuracy"] == recorded["test"]["accuracy"]
    assert _run(tmp_path, "lstmcls.predict", "model", "the box was lovely").startswith("pos")


def test_best_yaml_trains(finished: Driver, prepared_folder: Path, tmp_path: Path) -> None:
    config = finished.folder / "run" / "best.yaml"
    arguments = ("--data", prepared_folder, "--out", tmp_path / "again", "--config", config)
    _run(tmp_path, "lstmcls.train", *arguments)
    recorded = json.loads((config.parent / "best" / "metrics.json").read_text(encoding="utf-8"))
    again = json.loads((tmp_path / "again" / "metrics.json").read_text(encoding="utf-8"))
    assert again["val"] == recorded["val"]  # the exported file is the object that trained


@pytest.mark.parametrize("padding", ["masked", "counted"])
def test_random_states_evaluate_exactly(
    padding: str, prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"variant": "plain", "padding": padding, "epochs": 1},
        budget={"trials": 1},
    )
    done = search(tmp_path, "--space", space, "--out", "run", "--quiet")
    assert done.process.returncode == 0, done.err
    assert done.err == ""
    evaluated = json.loads(
        _run(tmp_path, "lstmcls.evaluate", "run/best", prepared_folder, "--split", "val", "--json")
    )
    recorded = json.loads((tmp_path / "run/best/metrics.json").read_text(encoding="utf-8"))
    assert evaluated["metrics"] == recorded["val"]


def test_one_at_a_time_is_the_same_twice(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "s.yaml", prepared_folder, resources={"concurrency": 1})
    tables = []
    for name in ("a", "b"):
        done = search(tmp_path, "--space", space, "--out", name, "--quiet")
        assert done.process.returncode == 0, done.err
        table = pd.read_parquet(tmp_path / name / "trials.parquet")
        tables.append(table.drop(columns=["seconds", "started", "ended"]))
    pd.testing.assert_frame_equal(*tables)
    assert len(trials(tmp_path / "a")) == 6
