"""MLflow's runs, read back with its own client; skipped without the extra."""

from __future__ import annotations

import math
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import HANG
from fakes import asked, finished, in_memory, opened, small_space
from optuna.trial import TrialState

from lstmcls.cli import BadInput
from tune.mlflow import MLflow, connect
from tune.run_folder import RunFolder

folder = pytest.fixture(in_memory)
SPACE = small_space()
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BadInput, match=r"pip install mlflow-skinny"):
        connect("mlruns")


@pytest.fixture
def study(folder: Path) -> optuna.Study:
    study = opened(folder / "study.journal", SPACE)
    finished(study, SPACE.suggest, [0.5, 0.75, math.nan], **ADAM)
    finished(study, SPACE.suggest, [0.25], TrialState.PRUNED)
    finished(study, SPACE.suggest, [], TrialState.FAIL)
    asked(study, SPACE, None)
    return study


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # where artifacts go
    return connect(f"sqlite:///{tmp_path}/mlflow.db")


def runs(client: Any, run: RunFolder) -> list[Any]:
    experiment = client.get_experiment_by_name(run.name)
    found = client.search_runs([experiment.experiment_id])
    return sorted(found, key=lambda each: each.data.tags["trial"])


def test_a_run_a_trial(folder: Path, study: optuna.Study, client: Any) -> None:
    run, said = RunFolder(folder), list[str]()
    mlflow = MLflow(client, run, SPACE.objective, said.append)
    mlflow.update(study)
    mlflow.update(study)
    mlflow.close(None)
    first, second, third = runs(client, run)
    assert [each.info.status for each in (first, second, third)] == ["FINISHED", "KILLED", "FAILED"]
    assert first.data.params == {name: str(value) for name, value in ADAM.items()}
    assert first.data.tags["state"] == "COMPLETE"
    assert first.data.metrics["best_val_accuracy"] == 0.75
    history = client.get_metric_history(first.info.run_id, "val_accuracy")
    assert [(each.step, each.value) for each in history] == [(1, 0.5), (2, 0.75)]
    assert third.data.metrics == {}
    assert said == []


def test_later_sittings_add_what_is_missing(folder: Path, study: optuna.Study, client: Any) -> None:
    run = RunFolder(folder)
    run.best.mkdir()
    (run.best / "labels.json").write_text("[]")
    first = MLflow(client, run, SPACE.objective, print)
    first.update(study)
    first.close(None)
    finished(study, SPACE.suggest, [0.5])
    again = MLflow(client, run, SPACE.objective, print)
    again.update(study)
    again.close(0)
    assert len(runs(client, run)) == 4
    last = MLflow(client, run, SPACE.objective, print)
    last.update(study)
    last.close(1)
    assert [each.data.tags.get("winner") for each in runs(client, run)] == [
        None,
        "true",
        None,
        None,
    ]
    winner = runs(client, run)[1]
    assert [file.path for file in client.list_artifacts(winner.info.run_id, "model")] == [
        "model/labels.json"
    ]


def test_another_search_of_the_same_name_keeps_its_winner(
    folder: Path, study: optuna.Study, client: Any
) -> None:
    other = opened(folder / "other.journal", SPACE)
    finished(other, SPACE.suggest, [0.5])
    for name, number in (("a", 0), ("b", 1)):
        run = RunFolder(folder / name / "shop")
        run.best.mkdir(parents=True)
        mlflow = MLflow(client, run, SPACE.objective, print)
        mlflow.update(other if name == "a" else study)
        mlflow.close(number)
    winners = [each for each in runs(client, run) if each.data.tags.get("winner")]
    assert [each.data.tags["trial"] for each in winners] == ["search 0", "search 1"]


def test_a_server_that_goes_away_stops_nothing(
    folder: Path, study: optuna.Study, client: Any, tmp_path: Path
) -> None:
    run, said = RunFolder(folder), list[str]()
    mlflow = MLflow(client, run, SPACE.objective, said.append)
    database = tmp_path / "mlflow.db"
    database.rename(tmp_path / "away")
    mlflow.update(study)
    mlflow._thread.join()
    mlflow.update(study)  # soon after a fault nothing is tried
    mlflow._thread.join()
    assert len(said) == 1
    (tmp_path / "away").rename(database)
    mlflow.close(None)
    assert len(runs(client, run)) == 3


class Hanging(BaseHTTPRequestHandler):
    """A tracking server that answers when it is first asked, and then no more."""

    asked, released = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        if "experiments/search" not in self.path:
            self.asked.set()
            self.released.wait()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def test_a_server_that_hangs_holds_up_nothing(
    folder: Path, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", f"{HANG:.0f}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tune.mlflow.PATIENCE", 0.1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hanging)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said = list[str]()
    try:
        client = connect(f"http://127.0.0.1:{server.server_port}")
        mlflow = MLflow(client, RunFolder(folder), SPACE.objective, said.append)
        mlflow.update(study)
        assert Hanging.asked.wait(HANG)
        assert said == []  # it still waits for its answer
        finished(study, SPACE.suggest, [0.5])
        mlflow.update(study)
        mlflow.close(0)
        assert said[-1].startswith("MLflow: 5 records are missing there; `python -m tune.search")
    finally:
        Hanging.released.set()
        server.shutdown()
        server.server_close()
    mlflow._thread.join()


@pytest.mark.parametrize("uri", ["ftp://x", "http://127.0.0.1:9"])
def test_no_server(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadInput, match="cannot be used"):
        connect(uri)
