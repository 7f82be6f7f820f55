"""TensorBoard's files, read back with its own reader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import a_report, asked, finished, in_memory, opened, small_space
from optuna.trial import TrialState

from lstmcls.cli import BadInput
from tune.run_folder import RunFolder
from tune.study import finish, record_report
from tune.tensorboard import TensorBoard, require_tensorboard

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

folder = pytest.fixture(in_memory)
SPACE = small_space()
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}


@pytest.fixture
def study(folder: Path) -> optuna.Study:
    return opened(folder / "study.journal", SPACE)


def read(run: RunFolder) -> dict[str, EventAccumulator]:
    found = {path.name: EventAccumulator(str(path)) for path in sorted(run.tensorboard.iterdir())}
    for events in found.values():
        events.Reload()
    return found


def curve(events: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def settings(events: EventAccumulator) -> dict[str, Any]:
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    return {k: v.string_value or v.number_value for k, v in hparams.items()}


def test_a_curve_and_the_settings_of_every_trial(folder: Path, study: optuna.Study) -> None:
    run, board = RunFolder(folder), TensorBoard(RunFolder(folder), SPACE.objective)
    finished(study, SPACE.suggest, [0.5, 0.75, 0.25], **ADAM)
    finished(study, SPACE.suggest, [], TrialState.FAIL)
    study.enqueue_trial(ADAM)
    trial, _ = asked(study, SPACE, None)
    record_report(study, trial, a_report(1, 0.125))
    board.update(study)
    record_report(study, trial, a_report(2, 0.25))
    board.update(study)
    finish(study, 2, TrialState.PRUNED, "asha at epoch 2")
    board.update(study)
    board.update(study)
    board.close(None)
    events = read(run)
    assert list(events) == ["search-0000", "search-0002"]  # the one without a report has no curve
    first, last = events.values()
    assert curve(first, "val_accuracy") == [(1, 0.5), (2, 0.75), (3, 0.25)]
    assert curve(first, "best_val_accuracy") == [(2, 0.75)]
    assert curve(first, "epoch") == [(1, 1), (2, 2), (3, 3)]
    assert curve(last, "val_accuracy") == [(1, 0.125), (2, 0.25)]
    assert settings(first) == {**ADAM, "state": "COMPLETE"}
    assert settings(last)["state"] == "PRUNED"
    report = study.get_trials()[0].user_attrs["report_2"]
    assert first.Scalars("val_accuracy")[1].wall_time == pytest.approx(report["time"])


def test_a_resumed_search_has_nothing_twice(folder: Path, study: optuna.Study) -> None:
    run = RunFolder(folder)
    finished(study, SPACE.suggest, [0.5, 0.75])
    trial, _ = asked(study, SPACE, None)
    record_report(study, trial, a_report(1, 0.125))
    killed = TensorBoard(run, SPACE.objective)
    killed.update(study)
    # It wrote no more. Alive, its thread would make the file anew some seconds later.
    killed.close(None)
    again = TensorBoard(run, SPACE.objective)
    again.update(study)
    record_report(study, trial, a_report(2, 0.25))
    again.update(study)
    again.close(None)
    first, last = read(run).values()
    assert curve(first, "val_accuracy") == [(1, 0.5), (2, 0.75)]
    assert curve(last, "val_accuracy") == [(1, 0.125), (2, 0.25)]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    require_tensorboard()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BadInput, match=r"pip install tensorboard"):
        require_tensorboard()
