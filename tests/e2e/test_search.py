"""A whole search through the command line: what it prints, writes, exports."""

from __future__ import annotations

import html
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import reviews, write_csv
from driving import Driver, search, write_space

from lstmcls.artifact import load_artifact
from lstmcls.config import load_config
from lstmcls.ensemble import Ensemble
from lstmcls.evaluate import evaluate_prepared
from lstmcls.metrics import METRICS
from lstmcls.prepare import prepare
from lstmcls.train import main as train
from tune.data import data_digest
from tune.space import load_space
from tune.study import SEARCH, read_study


@pytest.fixture(scope="module")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with an official test set, which trains no network: what is exported is judged."""
    raw, rows = tmp_path_factory.mktemp("official"), reviews(400)
    files = [
        write_csv(raw / f"{name}.csv", part)
        for name, part in (("train", rows[:360]), ("test", rows[360:]))
    ]
    arguments = {"max_length": 12, "split": (0.88, 0.12), "test": str(files[1])}
    prepare([str(files[0])], raw / "data", progress=False, **arguments)
    return raw / "data"


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
        confirm={"top": 1, "folds": 3},
    )
    return search(folder, "--space", space, "--out", folder / "run", "--tensorboard")


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
    assert len(table[table.study == "confirmation"]) in (3, 6), told
    reports = pd.read_parquet(run / "reports.parquet")
    assert set(reports.trial[reports.study == "search"]) == set(range(6))
    curves = {f"{row.study}-{row.trial:04d}" for row in reports.itertuples()}
    drawn = {path.parent.name for path in run.glob("tensorboard/*/events.*")}
    assert drawn == curves, told


def test_what_it_says(finished: Driver) -> None:
    assert "this machine has none" in finished.err  # a GPU was asked for
    assert "\x1b" not in finished.err + finished.out
    for words in (
        "winner:",
        "out of fold, accuracy of single networks",
        "95% interval",
        "(its tokens): «",
        "the base",
    ):
        assert words in finished.out
    log = (finished.folder / "run/search.log").read_text(encoding="utf-8")
    assert "Failed to fetch metrics" not in log  # Ray's search for files that nobody writes
    metrics = json.loads((finished.folder / "run/best/metrics.json").read_text(encoding="utf-8"))
    difference = metrics["linear"]["test"]["difference"]
    assert f"against a linear model: {difference:+.4f} accuracy" in finished.out
    assert finished.out.strip().splitlines()[-1].endswith(str(finished.folder / "run"))


def test_the_report_is_there(finished: Driver) -> None:
    run = finished.folder / "run"
    assert finished.out.strip().splitlines()[-2] == f"report:  {run / 'report.html'}"
    content = (run / "report.html").read_text(encoding="utf-8")
    words = ("python", "-m", "tune.search", "--space", f"{finished.folder}/mine.yaml", "--out", run)
    assert html.escape(shlex.join(map(str, words))) in content
    recorded = json.loads((run / "best" / "metrics.json").read_text(encoding="utf-8"))["test"]
    rows, right = recorded["rows"], sum(recorded["confusion"][k][k] for k in range(2))
    assert f"Of {rows} test texts {right} are classified rightly" in content
    assert right / rows == pytest.approx(recorded["accuracy"], abs=1e-6)


def test_the_export_gives_the_recorded_metrics_elsewhere(
    finished: Driver,
    prepared_folder: Path,
    tmp_path: Path,
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    run = finished.folder / "run"
    exported = command("tune.export", run, "--to", tmp_path / "model")
    assert exported.returncode == 0, exported.stderr
    model = load_artifact(tmp_path / "model")
    recorded = json.loads((run / "best" / "metrics.json").read_text(encoding="utf-8"))
    tested = evaluate_prepared(model, prepared_folder, "test")["metrics"]
    assert tested == {name: recorded["test"][name] for name in METRICS}
    # What the folds' single networks reached is in the table, the winner's too.
    table = pd.read_parquet(run / "trials.parquet")
    mine = table[(table.study == "confirmation") & (table.params_candidate == recorded["trial"])]
    (winner,) = (c for c in recorded["confirmation"] if c["trial"] == recorded["trial"])
    assert sorted(mine.objective) == sorted(winner["values"])
    assert isinstance(model.model, Ensemble)
    assert model.model.networks >= len(mine) == recorded["out_of_fold"]["folds"] == 3
    assert model.predict(["the box was lovely"]) == ["pos"]


def test_best_yaml_trains(finished: Driver, prepared_folder: Path, tmp_path: Path) -> None:
    config = finished.folder / "run" / "best.yaml"
    arguments = ("--data", prepared_folder, "--out", tmp_path / "again", "--config", config)
    assert train([str(word) for word in arguments]) == 0
    again = load_artifact(tmp_path / "again")
    assert again.config == load_artifact(config.parent / "best").config == load_config(config)
    assert again.metrics["val"]["accuracy"] > 0.6
