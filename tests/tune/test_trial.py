"""A trial in its worker: its reports, what it goes on from, how it fails. Only Ray is played."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.tune
import torch
from conftest import THREADS
from fakes import in_memory
from ray.tune.trainable import function_trainable

from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, joined
from lstmcls.ensemble import log_probabilities
from lstmcls.fit import Diverged, TrainingState, fit
from lstmcls.folds import Folds, divide, one_split
from tune.checkpoints import Checkpoints, load_held_out, load_weights, trial_folder
from tune.space import Objective
from tune.store import Store, StoreFault
from tune.trial import (
    DISK_FULL,
    DIVERGED,
    OUT_OF_MEMORY,
    RAISED,
    REPORT_KEYS,
    STORE_FAILS,
    THREAD_ENDS,
    Order,
    _failure,
    train_trial,
)

folder = pytest.fixture(in_memory)


class Killed(BaseException):
    """The worker's process ends."""


class Worker:
    """Trials in this process; what they report comes here."""

    def __init__(self, folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prepared = prepared
        self.order = Order(
            study="search",
            checkpoints=Store(str(folder)),
            objective=Objective(),
            threads=THREADS,
            gpus=0,
            vocab_size=prepared.vocab_size,
            classes=len(prepared.labels),
            max_length=prepared.max_length,
        )
        self.folds: Folds | None = None  # otherwise the splits of `prepared`
        self.fold = 0
        self.folder = folder / "search-00003"
        self.store = trial_folder(self.order.checkpoints, "search", 3)
        self.dies_after = math.inf
        monkeypatch.setattr(ray.tune, "report", self.report)

    def report(self, result: dict[str, Any]) -> None:
        json.dumps(result)  # plain values only
        self.results.append(result)
        if len(self.results) >= self.dies_after:
            raise Killed

    def train(
        self,
        config: TrainConfig,
        recorded: int = 0,
        dies_after: float = math.inf,
        best: list[Any] | None = None,
    ) -> list[dict[str, Any]]:
        self.results: list[dict[str, Any]] = []
        self.dies_after = dies_after
        spec = {"number": 3, "train": config.to_dict(), "recorded": recorded, "best": best}
        spec |= {"share": 1, "fold": self.fold}
        splits = self.prepared.splits
        with contextlib.suppress(Killed):
            train_trial(spec, self.folds or one_split(splits["train"], splits["val"]), self.order)
        return self.results


@pytest.fixture
def worker(folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(folder, prepared, monkeypatch)


@pytest.fixture
def config(tiny: TrainConfig) -> TrainConfig:
    return dataclasses.replace(tiny, epochs=2)  # four reports


def timeless(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in ("seconds", "note")} for r in results]


def state_of(config: TrainConfig, prepared: Prepared) -> TrainingState:
    return TrainingState.create(config, prepared.vocab_size, len(prepared.labels))


def test_it_reports_what_fit_does(worker: Worker, config: TrainConfig) -> None:
    results = worker.train(config)
    splits = worker.prepared.splits
    wanted = list(fit(state_of(config, worker.prepared), splits["train"], splits["val"]))
    assert [r["step"] for r in results] == [1, 2, 3, 4]
    for result, report in zip(results, wanted, strict=True):
        assert set(result) == {*REPORT_KEYS, "note"}
        assert result["objective"] == result["val_accuracy"] == report.val["accuracy"]
        assert result["epoch"] == report.epoch
        assert result["note"] == ""


@pytest.mark.parametrize("objective", [Objective("val_loss", "min"), Objective("val_f1", "max")])
def test_the_weights_are_those_of_the_best_report(
    worker: Worker, config: TrainConfig, objective: Objective
) -> None:
    worker.order = dataclasses.replace(worker.order, objective=objective)
    worker.train(config)
    state, splits = state_of(config, worker.prepared), worker.prepared.splits
    train, val = splits["train"], splits["val"]
    list(fit(state, train, val, metric=objective.metric, mode=objective.mode))
    assert state.best is not None
    assert state.best_weights is not None
    found = load_weights(worker.store, state.best.step)
    assert found.keys() == state.best_weights.keys()
    assert all(torch.equal(found[name], state.best_weights[name]) for name in found)


@pytest.mark.parametrize("padding", ["masked", "counted"])
@pytest.mark.parametrize("dies_after", [1, 2, 3, 4])
def test_a_trial_whose_worker_died_goes_on_to_the_same_reports(
    worker: Worker, config: TrainConfig, dies_after: int, padding: str
) -> None:
    config = dataclasses.replace(config, padding=padding)
    wanted = timeless(worker.train(config))
    for path in worker.folder.iterdir():
        path.unlink()
    first = worker.train(config, dies_after=dies_after)
    rest = worker.train(config, recorded=dies_after)
    # What is known may come again, from an older checkpoint; nothing is left out or different.
    found = {result["step"]: result for result in timeless([*first, *rest])}
    assert [found[step] for step in sorted(found)] == wanted
    assert timeless(rest) == [wanted[result["step"] - 1] for result in timeless(rest)]


# A run of the confirmation on a fold.


@pytest.fixture
def on_a_fold(worker: Worker) -> Worker:
    """On fold 1 of 3, whose labels are the wrong ones: the first reports are the best."""
    splits = worker.prepared.splits
    folds = divide(joined([splits["train"], splits["val"]]), 3, seed=0)
    labels = folds.rows.labels.copy()
    labels[slice(*folds.bounds[1:3])] ^= 1
    worker.folds = dataclasses.replace(folds, rows=dataclasses.replace(folds.rows, labels=labels))
    worker.fold = 1
    worker.order = dataclasses.replace(worker.order, by_last=True)
    return worker


def weights_left(worker: Worker) -> list[str]:
    return sorted(path.name for path in worker.folder.glob("best-*"))


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_run_on_a_fold_keeps_its_last_network_and_what_it_says(
    on_a_fold: Worker, config: TrainConfig, averaging: float
) -> None:
    config = dataclasses.replace(config, averaging=averaging)
    results = on_a_fold.train(config)
    folds = on_a_fold.folds
    assert folds is not None
    assert results[-1]["objective"] < max(result["objective"] for result in results)
    state = state_of(config, on_a_fold.prepared)
    held_out = folds.held_out(1)
    wanted = list(fit(state, folds.train(1), held_out))
    assert [r["objective"] for r in results] == [report.val["accuracy"] for report in wanted]
    assert weights_left(on_a_fold) == ["best-000004.safetensors"]
    found, last = load_weights(on_a_fold.store, 4), state.judged.state_dict()
    assert found.keys() == last.keys()
    assert all(torch.equal(found[name], last[name]) for name in found)
    logs, _ = load_held_out(on_a_fold.store)
    said = log_probabilities(state.judged, held_out, on_a_fold.prepared.max_length)
    np.testing.assert_array_equal(logs, said)
    right = float((logs.argmax(axis=1) == held_out.labels).mean())
    assert right == pytest.approx(results[-1]["objective"])


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("dies_after", [1, 2, 3, 4])
def test_a_run_on_a_fold_whose_worker_died_ends_the_same(
    on_a_fold: Worker, config: TrainConfig, dies_after: int, lost: int
) -> None:
    """`lost`: reports that the driver did not record."""
    kept = ("best-000004.safetensors", "held-out.safetensors")
    wanted = timeless(on_a_fold.train(config))
    files = [(on_a_fold.folder / name).read_bytes() for name in kept]
    for path in on_a_fold.folder.iterdir():
        path.unlink()
    first = on_a_fold.train(config, dies_after=dies_after)
    recorded = dies_after - lost
    last = first[recorded - 1] if recorded else None
    best = last and [last["step"], last["objective"]]
    rest = on_a_fold.train(config, recorded=recorded, best=best)
    found = {result["step"]: result for result in timeless([*first, *rest])}
    assert [found[step] for step in sorted(found)] == wanted
    assert [(on_a_fold.folder / name).read_bytes() for name in kept] == files
    assert weights_left(on_a_fold) == ["best-000004.safetensors"]


def test_a_run_on_a_fold_without_its_checkpoints_starts_again(
    on_a_fold: Worker, config: TrainConfig
) -> None:
    wanted = timeless(on_a_fold.train(config))
    logs, _ = load_held_out(on_a_fold.store)
    for path in on_a_fold.folder.iterdir():
        path.unlink()
    on_a_fold.train(config, recorded=4, best=[4, wanted[-1]["objective"]])
    np.testing.assert_array_equal(load_held_out(on_a_fold.store)[0], logs)
    assert weights_left(on_a_fold) == ["best-000004.safetensors"]


def test_a_stopped_trial_has_time_to_end_before_the_next_one(
    worker: Worker, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would lose the next trial; its own code reads what the trial before has set."""
    monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "")  # for what comes after this test
    monkeypatch.delenv("TUNE_FUNCTION_THREAD_TIMEOUT_S")
    worker.train(config)
    waited: list[float] = []
    still_running = SimpleNamespace(is_alive=lambda: True)
    session = SimpleNamespace(
        finish=lambda timeout: waited.append(timeout), training_thread=still_running
    )
    monkeypatch.setattr(function_trainable, "get_session", lambda: session)
    assert not function_trainable.FunctionTrainable.reset_config(None, {})
    assert waited == [THREAD_ENDS]


def test_a_report_that_was_lost_on_its_way_comes_again(worker: Worker, config: TrainConfig) -> None:
    """The checkpoint is written first; the driver died before it recorded the report."""
    worker.train(config, dies_after=1)
    saved, _ = Checkpoints(worker.store).load()
    assert saved is not None
    assert len(saved["reports"]) == 1
    results = worker.train(config, recorded=0)
    assert [result["step"] for result in results] == [1, 2, 3, 4]


@pytest.mark.parametrize("first_is_better", [True, False])
@pytest.mark.parametrize("checkpoint", [0, 1, 2, 3])
def test_the_recorded_best_has_its_weights_whatever_another_machine_makes_of_it(
    worker: Worker, config: TrainConfig, checkpoint: int, first_is_better: bool
) -> None:
    """What is known trains again, to other values: here on other labels to be judged by."""
    config = dataclasses.replace(config, epochs=3)  # six reports
    here = worker.prepared
    val = here.splits["val"]
    flipped = dataclasses.replace(val, labels=1 - val.labels)
    there = dataclasses.replace(here, splits={**here.splits, "val": flipped})
    study = Study()

    worker.prepared = here if first_is_better else there
    study.record(worker.train(config, dies_after=3), worker)
    for path in worker.folder.glob("*.pt"):
        if int(path.stem) > checkpoint:
            path.unlink()

    worker.prepared = there if first_is_better else here
    known = study.best
    on_record = study.weights[known[0]]
    for dies_after in (1, 2, 3, math.inf):
        worker.train(config, len(study.values), dies_after, study.best)
        study.record(worker.results, worker)
        assert study.best[0] in study.weights
        found = load_weights(worker.store, study.best[0])
        assert all(torch.equal(w, study.weights[study.best[0]][name]) for name, w in found.items())
    assert len(study.values) == 6
    if first_is_better:
        assert study.best == known
        assert all(torch.equal(w, on_record[name]) for name, w in found.items())


class Study:
    """What the driver records: of every step what came first."""

    def __init__(self) -> None:
        self.values: dict[int, float] = {}
        self.weights: dict[int, dict[str, torch.Tensor]] = {}  # when it was recorded

    @property
    def best(self) -> list[Any]:
        step = max(self.values, key=lambda step: (self.values[step], -step))
        return [step, self.values[step]]

    def record(self, results: list[dict[str, Any]], worker: Worker) -> None:
        for result in results:
            if result["step"] not in self.values:
                self.values[result["step"]] = result["objective"]
                with contextlib.suppress(FileNotFoundError):
                    self.weights[result["step"]] = load_weights(worker.store, result["step"])


def test_weights_that_someone_deleted_come_again(worker: Worker, config: TrainConfig) -> None:
    """As the trial trains to the report that is on record as its best."""
    results = worker.train(config, dies_after=3)
    step = max(results, key=lambda r: (r["objective"], -r["step"]))["step"]
    before = load_weights(worker.store, step)
    for path in worker.folder.iterdir():
        path.unlink()
    worker.train(config, 3, 3, [step, results[step - 1]["objective"]])
    found = load_weights(worker.store, step)
    assert all(torch.equal(found[name], before[name]) for name in before)


def test_a_finished_trial_has_nothing_to_report(worker: Worker, config: TrainConfig) -> None:
    config = dataclasses.replace(config, epochs=0.5)
    worker.train(config)
    assert worker.train(config, recorded=1) == []


def test_without_its_checkpoints_a_trial_starts_again_and_says_so(
    worker: Worker, config: TrainConfig
) -> None:
    results = worker.train(config, recorded=2)
    assert [result["step"] for result in results] == [1, 2, 3, 4]
    assert [result["note"] for result in results] == ["goes on from epoch 0", "", "", ""]


def test_damaged_checkpoints_are_told(worker: Worker, config: TrainConfig) -> None:
    worker.train(config, dies_after=1)
    for path in worker.folder.glob("*.pt"):
        path.write_bytes(b"")
    note = worker.train(config, recorded=1)[0]["note"]
    assert note == (
        "checkpoint 000001.pt is damaged (its checksum does not match), passed over; "
        "goes on from epoch 0"
    )


def test_the_checkpoint_of_another_configuration_is_not_gone_on_from(
    worker: Worker, config: TrainConfig
) -> None:
    """A journal that was restored from a backup gives old numbers to new configurations."""
    worker.train(config, dies_after=2)
    other = dataclasses.replace(config, lr=0.5)
    results = worker.train(other)
    assert [result["step"] for result in results] == [1, 2, 3, 4]
    best = max(results, key=lambda result: (result["objective"], -result["step"]))
    assert load_weights(worker.store, best["step"])
    assert results[0]["note"] == (
        "its checkpoint is of another configuration, passed over; goes on from epoch 0"
    )
    for path in worker.folder.iterdir():
        path.unlink()
    assert timeless(worker.train(other)) == timeless(results)


def test_nor_are_weights_that_one_left_kept(worker: Worker, config: TrainConfig) -> None:
    worker.train(config)
    for path in worker.folder.glob("*.pt"):
        path.unlink()  # as at its end
    (worker.folder / "best-000009.safetensors").touch()
    (worker.folder / "best-000008.safetensors").touch()
    results = worker.train(dataclasses.replace(config, epochs=0.5))
    assert [result["step"] for result in results] == [1]
    assert load_weights(worker.store, 1)


def test_a_diverging_trial_says_why(worker: Worker, config: TrainConfig) -> None:
    wild = dataclasses.replace(
        config, optimizer="sgd", lr=1000.0, momentum=0.99, weight_decay=10, epochs=10
    )
    last = worker.train(wild)[-1]
    assert last["failure"] == DIVERGED
    assert last["why"].startswith("the ")
    assert "Diverged" in last["traceback"]
    assert math.isnan(last["objective"])
    assert last["epoch"] == 0.0
    assert "step" not in last


def test_a_disk_that_cannot_be_written_is_told(worker: Worker, config: TrainConfig) -> None:
    worker.folder.parent.mkdir(exist_ok=True)
    worker.folder.touch()  # where a folder should be
    (last,) = worker.train(config)
    assert last["failure"] == RAISED
    assert last["why"].startswith("FileExistsError: ")


def test_a_process_whose_gpu_is_lost_ends(
    worker: Worker, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel")

    monkeypatch.setattr("tune.trial._train", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        worker.train(config)


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (Diverged("the loss is nan"), DIVERGED, "the loss is nan"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), DISK_FULL, "[Errno 28] No space"),
        (StoreFault("s3://b/r, from node n", "no"), STORE_FAILS, "s3://b/r, from node n: no"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), DISK_FULL, "[Errno 122] Disk quota"),
        (OSError(errno.EACCES, "denied"), RAISED, "PermissionError: [Errno 13] denied"),
        (MemoryError(), OUT_OF_MEMORY, "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), OUT_OF_MEMORY, "CUDA out of mem"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you"),
         OUT_OF_MEMORY, "[enforce]"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel"), OUT_OF_MEMORY, "CUDA error"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
         OUT_OF_MEMORY, "CUDA error"),
        (RuntimeError("CUDA error: an illegal access"), RAISED, "RuntimeError: CUDA error"),
        (ValueError("a\nb"), RAISED, "ValueError: a"),
        (KeyError(), RAISED, "KeyError: KeyError"),
    ],
)  # fmt: skip
def test_kinds_of_failure(error: Exception, kind: str, why: str) -> None:
    found = _failure(error)
    assert found[0] == kind
    assert found[1].startswith(why)
    assert "\n" not in found[1]
    assert len(found[1]) < 350


def test_memory_that_the_host_does_not_have_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert _failure(caught.value)[0] == OUT_OF_MEMORY
