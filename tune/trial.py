"""One Ray trial: a TrainConfig in, the reports of fit() out, checkpoints beside them.

Runs in a worker process. It knows the order that it got and its own folder, and nothing of the
study: a trial that starts again with the same order goes on from its newest checkpoint.
"""

from __future__ import annotations

import errno
import math
import os
import re
import traceback
from dataclasses import asdict, dataclass
from typing import Any

import ray.tune
import torch

from lstmcls.allocator import forget_shapes, keep_freed_memory
from lstmcls.config import config_from
from lstmcls.ensemble import log_probabilities
from lstmcls.fit import Diverged, Report, TrainingState, fit
from lstmcls.folds import Folds
from lstmcls.metrics import OBJECTIVES
from tune.checkpoints import Checkpoints, NotShared, trial_folder
from tune.space import Objective
from tune.store import Store, StoreFault

# What the driver records of a report.
REPORT_KEYS = ("step", "epoch", "objective", "train_loss", *OBJECTIVES, "tokens", "seconds")

# The kinds of failure.
DIVERGED, RAISED = "diverged", "error"
# What PyTorch says in a plain RuntimeError where the host's memory or all of a GPU's runs out.
NO_MEMORY = re.compile("can't allocate memory|CUDA error: out of memory|STATUS_ALLOC_FAILED")
BROKEN = "CUDA error"  # a failed kernel leaves a process that can use the GPU no more
NOT_SHARED, STORE_FAILS = "storage not shared", "object store"
OUT_OF_MEMORY, DISK_FULL = "out of memory", "disk full"
FULL = (errno.ENOSPC, errno.EDQUOT)
DIED, NODE_LOST = "worker died", "node lost"

# Seconds that a stopped trial's thread gets to end before its process takes the next trial. On a
# busy machine Ray's own 2 do not do, and then it loses that next trial without a word to the
# searcher or to a callback: the search would wait for it forever.
THREAD_ENDS = 300


@dataclass(frozen=True)
class Order:
    """What all trials of one study have in common."""

    study: str
    checkpoints: Store
    objective: Objective
    threads: int
    gpus: float
    vocab_size: int
    classes: int
    max_length: int  # tokens after which the texts were cut
    gpu_context: float = 0.0  # of a GPU, what the process takes besides its tensors
    # Judged by the last report, whose epoch is fixed beforehand; otherwise by the best.
    by_last: bool = False


@dataclass
class Best:
    """The best report that the driver knows or will be told of; of equals the first."""

    objective: Objective
    step: int | None = None
    value: float = math.nan

    def saw(self, report: Report) -> bool:
        """Take note of a report; whether it is the best."""
        value = report.metrics()[self.objective.metric]
        better = self.objective.better(value, self.value)
        if better:
            self.step, self.value = report.step, value
        return better


def train_trial(spec: dict[str, Any], data: Folds, order: Order) -> None:
    """Train `spec["train"]` and report to Ray Tune; `spec["recorded"]` reports are known.

    The rows of fold `spec["fold"]` are held out to judge it.

    `spec["best"]` is the best of them, [step, objective]; None without one that has a value. Its
    weights stay as they are, whatever another machine's last bits make of the same step.

    What goes wrong is reported as a last result with `failure` (its kind) and `why`, so that
    the driver can tell a diverged loss from a full disk. Ray is left to notice a dead process, and
    to replace one whose GPU no longer works, in which every later trial would fail too.
    """
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", str(THREAD_ENDS))
    keep_freed_memory()
    forget_shapes()
    torch.set_num_threads(order.threads)
    try:
        device = _device(order.gpus * spec["share"], order.gpu_context)
        _train(spec, data, order, device)
    except Exception as error:
        kind, why = _failure(error)
        if kind == RAISED and BROKEN in why:
            raise
        ray.tune.report(
            {
                "failure": kind,
                "why": why,
                "traceback": traceback.format_exc(),
                "objective": math.nan,
                "epoch": 0.0,
            }
        )


def _train(spec: dict[str, Any], data: Folds, order: Order, device: str) -> None:
    config = config_from(spec["train"])
    checkpoints = Checkpoints(trial_folder(order.checkpoints, order.study, spec["number"]))
    state = TrainingState.create(config, order.vocab_size, order.classes, device)
    saved, notes = checkpoints.load()
    if saved is not None and saved.get("config") != config.to_dict():
        # The journal was restored from a backup and gave the number away once more.
        notes.append("its checkpoint is of another configuration, passed over")
        saved = None
        checkpoints.clear()
    elif saved is None and not spec["recorded"]:
        checkpoints.clear()
    if saved is not None:
        state.restore(saved)
    if notes or (saved is None and spec["recorded"]):
        epoch = state.reports[-1].epoch if state.reports else 0
        notes.append(f"goes on from epoch {epoch:g}")
    held_out = data.held_out(spec["fold"])
    best = Best(order.objective, *spec["best"] or ())
    for report in state.reports[spec["recorded"] :]:
        best.saw(report)  # its weights were saved before it was in a checkpoint
        _report(report, order.objective, notes)
    for report in fit(
        state,
        data.train(spec["fold"]),
        held_out,
        metric=order.objective.metric,
        mode=order.objective.mode,
        pad_to=config.pad_to(order.max_length),
    ):
        before = best.step
        if order.by_last:
            if keep := report.epoch == config.epochs:
                said = [
                    log_probabilities(state.judged, rows, order.max_length)
                    for rows in (held_out, data.test(spec["fold"]))
                ]
                checkpoints.save_held_out(*said)
        elif report.step > spec["recorded"]:
            keep = best.saw(report)
        else:  # known to the study: what has been kept of it stays
            keep = report.step == before and not checkpoints.has_weights(before)
        if keep:
            weights = {
                name: w.detach().cpu().clone() for name, w in state.judged.state_dict().items()
            }
            checkpoints.save_weights(report.step, weights, before)
        checkpoints.save_when_due(report.step, state.to_dict())
        _report(report, order.objective, notes)


def _failure(error: Exception) -> tuple[str, str]:
    why = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if isinstance(error, Diverged):
        return DIVERGED, why
    if isinstance(error, NotShared):
        return NOT_SHARED, why
    if isinstance(error, StoreFault):
        return STORE_FAILS, why
    if isinstance(error, OSError) and error.errno in FULL:
        return DISK_FULL, why
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY.search(why):
        return OUT_OF_MEMORY, why
    return RAISED, f"{type(error).__name__}: {why}"


def _report(report: Report, objective: Objective, notes: list[str]) -> None:
    metrics = report.metrics()
    values = {**asdict(report), **metrics, "objective": metrics[objective.metric]}
    ray.tune.report({key: values[key] for key in REPORT_KEYS} | {"note": "; ".join(notes)})
    notes.clear()


def _device(gpus: float, context: float) -> str:
    if not gpus:
        return "cpu"
    # A fraction of a GPU is Ray's bookkeeping only; this makes it hold for memory.
    torch.cuda.set_per_process_memory_fraction(min(1.0, gpus) - context)
    return "cuda"
