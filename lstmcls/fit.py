"""fit(): a generator of Reports, and the only training loop in the project.

It knows nothing of tuning: stopping is not asking for more, going on is asking again, and a
TrainingState saved after any report goes on to the same numbers in another process: exactly
those on the same kind of CPU and as many threads, close ones elsewhere.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lstmcls.batches import random_batches, shuffled_batches
from lstmcls.config import TrainConfig
from lstmcls.dataset import Rows, TokenDataset
from lstmcls.metrics import classification_metrics
from lstmcls.model import LSTMClassifier, class_probabilities
from lstmcls.optimizer import learning_rate, make_optimizer
from lstmcls.precision import backward, loss_scale, precision

RISE = 3  # from one early report to the next; so far apart are the default rungs of ASHA


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Report:
    """The state of a run after a fixed fraction of an epoch."""

    step: int  # reports so far, this one included
    epoch: float  # epochs trained
    train_loss: float  # mean over the rows since the last report
    val: Mapping[str, float]  # lstmcls.metrics.METRICS on the validation split
    tokens: int  # real tokens trained on since the start
    seconds: float  # training and validation since the start, over all attempts

    def metrics(self) -> dict[str, float]:
        """Flat, with `val_` before the names of the validation metrics."""
        return {"train_loss": self.train_loss} | {f"val_{k}": v for k, v in self.val.items()}


@dataclass
class TrainingState:
    """All that a run is after any report; `save` and `load` carry it to another process."""

    config: TrainConfig
    model: LSTMClassifier
    optimizer: torch.optim.Optimizer
    averaged: LSTMClassifier | None  # its weights: the running mean of the model's
    random: dict[str, Tensor]
    reports: list[Report] = field(default_factory=list)
    batches: int = 0  # trained since the start
    tokens: int = 0
    seconds: float = 0.0
    best: Report | None = None
    best_weights: dict[str, Tensor] | None = None

    @classmethod
    def create(
        cls, config: TrainConfig, vocab_size: int, num_classes: int, device: str = "cpu"
    ) -> TrainingState:
        torch.manual_seed(config.seed)
        model = LSTMClassifier(config, vocab_size, num_classes).to(device)
        averaged = copy.deepcopy(model) if config.averaging else None
        return cls(config, model, make_optimizer(config, model), averaged, _random_state())

    @property
    def judged(self) -> LSTMClassifier:
        """The model that is validated and kept."""
        return self.averaged or self.model

    def begin(self, train: TokenDataset) -> None:
        """What the model takes from its training data before the first step.

        The n-grams are counted, where it uses any: in all of a text, also where `max_length` lets
        the network read its start alone. Ids that the network never reads here, [UNK] of characters
        for one, get the vector 0: their random ones would never be trained, and outshout what is
        known in a later text. Not where `padding: counted` keeps to the notebook.
        """
        config, vectors = self.config, self.model.embedding.weight
        if config.padding == "masked":
            known = torch.from_numpy(train.known(len(vectors), config.max_length))
            with torch.no_grad():
                vectors[~known.to(vectors.device)] = 0
        if self.model.ngrams is not None:
            self.model.ngrams.count(train)
        if self.averaged is not None:
            self.averaged.load_state_dict(self.model.state_dict())

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values only: loads under `torch.load(weights_only=True)`."""
        return {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "random": self.random,
            "reports": [asdict(report) for report in self.reports],
            "batches": self.batches,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best_step": self.best.step if self.best else 0,
            "best_weights": self.best_weights,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Become the state that `to_dict` gave; the config must be the same."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.averaged:
            self.averaged.load_state_dict(saved["averaged"])
        self.random = dict(saved["random"])
        self.reports = [Report(**report) for report in saved["reports"]]
        self.batches, self.tokens = saved["batches"], saved["tokens"]
        self.seconds = saved["seconds"]
        self.best = self.reports[saved["best_step"] - 1] if saved["best_step"] else None
        self.best_weights = saved["best_weights"]


def report_points(config: TrainConfig, batches_per_epoch: int) -> list[tuple[int, float]]:
    """(batches trained, epochs trained) at each report; the last is the end of the run.

    The first comes early, so that a hopeless run can be stopped soon; the later ones come
    further apart, for each costs a validation: where `first_report` is small, RISE times as far
    each, as ASHA's rungs, to half of `report_every`. Both rise strictly. A report comes after
    the first batch that completes its share.
    """

    def batches(epochs: float) -> int:
        return max(1, math.ceil(epochs * batches_per_epoch - 1e-9))

    total = batches(config.epochs)
    count = math.ceil(config.epochs / config.report_every - 1e-9)
    epochs = [round(k * config.report_every, 9) for k in range(1, count)] + [config.epochs]
    early = [config.first_report] if config.first_report < epochs[0] else []
    while early and RISE * early[-1] <= epochs[0] / 2:
        early.append(round(RISE * early[-1], 9))
    epochs = early + epochs
    points = {min(total, batches(e)): e for e in epochs}
    points[total] = config.epochs
    return sorted(points.items())


def fit(
    state: TrainingState,
    train: TokenDataset,
    val: TokenDataset,
    *,
    metric: str = "val_accuracy",
    mode: str = "max",
    pad_to: int | None = None,
) -> Iterator[Report]:
    """Train `state` to the end of its config, yielding a Report at every report point.

    The weights of the best report by `metric` stay in `state.best_weights`. `pad_to` (tokens)
    pads every row to one length, and rows of any lengths share a batch, as in the notebook;
    `padding: counted` needs it.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    config, device = state.config, next(state.model.parameters()).device
    train_rows, val_rows = (split.on(device, config.max_length) for split in (train, val))
    if not state.reports:
        state.begin(train)
    per_epoch = math.ceil(len(train) / config.batch_size)
    points = report_points(config, per_epoch)
    for end, epoch in points[len(state.reports) :]:
        started = time.perf_counter()
        _set_random_state(state.random)
        train_loss = _train_until(state, end, points[-1][0], train_rows, pad_to)
        with precision(config, device):
            probabilities = class_probabilities(state.judged, val_rows, pad_to)
        if not np.isfinite(probabilities).all():
            raise Diverged(f"the output is not finite after {epoch:g} epochs")
        state.seconds += time.perf_counter() - started
        report = Report(
            step=len(state.reports) + 1,
            epoch=epoch,
            train_loss=train_loss,
            val=classification_metrics(probabilities, val.labels),
            tokens=state.tokens,
            seconds=round(state.seconds, 3),
        )
        state.reports.append(report)
        _keep_best(state, report, metric, mode)
        state.random = _random_state()
        yield report


def _train_until(
    state: TrainingState, end: int, total: int, rows: Rows, pad_to: int | None
) -> float:
    """Train from batch `state.batches` to batch `end` of `total`; the mean loss a row."""
    config, model, device = state.config, state.model, rows.labels.device
    model.train()
    loss_sum, seen = torch.zeros((), device=device), 0
    epoch, batches = -1, []
    while state.batches < end:
        per_epoch = math.ceil(len(rows) / config.batch_size)
        if state.batches // per_epoch != epoch:
            epoch = state.batches // per_epoch
            batches = _batches_of(epoch, config, rows, pad_to)
        batch = batches[state.batches % per_epoch]
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.batches, total)
        ids, row_lengths, labels = rows.batch(batch, pad_to)
        with precision(config, device):
            logits = model(ids, row_lengths, counted=labels)
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=config.label_smoothing
        )
        state.optimizer.zero_grad()
        backward(loss, model, loss_scale(config, device))
        if config.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        state.optimizer.step()
        state.batches += 1
        _average(state)
        state.tokens += int(rows.lengths[batch].sum())
        loss_sum += loss.detach() * len(batch)
        seen += len(batch)
        # Looking at the loss waits for the GPU, so not at every batch.
        if (state.batches % 50 == 0 or state.batches == end) and not loss_sum.isfinite():
            raise Diverged(f"the loss is {loss.item()} at batch {state.batches}")
    return round(float(loss_sum) / seen, 6)


def _batches_of(
    epoch: int, config: TrainConfig, rows: Rows, pad_to: int | None
) -> list[NDArray[np.int32]]:
    """The batches of an epoch: the same ones whenever they are asked for, as after a resume."""
    rng = np.random.default_rng([config.seed, epoch])
    if pad_to is None:
        return shuffled_batches(rows.lengths, config.batch_size, rng)
    return random_batches(len(rows), config.batch_size, rng)


def _average(state: TrainingState) -> None:
    """Move the averaged weights by `1 - decay` towards the model's (Polyak & Juditsky 1992).

    The decay of batch n is (n + 1) / (n + 10) at most, so that a run's start is soon forgotten.
    """
    if state.averaged is None:
        return
    decay = min(state.config.averaging, (state.batches + 1) / (state.batches + 10))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.averaged.parameters()), list(state.model.parameters()), 1 - decay
        )


def _keep_best(state: TrainingState, report: Report, metric: str, mode: str) -> None:
    value, sign = report.metrics()[metric], 1 if mode == "max" else -1
    best = state.best.metrics()[metric] if state.best else math.nan
    # A value that is not a number is beaten by any number.
    if state.best is None or sign * value > sign * best or (value == value and best != best):
        state.best = report
        state.best_weights = {
            name: tensor.detach().cpu().clone()
            for name, tensor in state.judged.state_dict().items()
        }


def judged_rows(model: LSTMClassifier, data: TokenDataset, max_length: int) -> NDArray[np.float32]:
    """Class probabilities [rows, classes], computed as a validation of `fit` is.

    `max_length`: tokens after which the training data were cut; so are longer rows here.
    """
    device = next(model.parameters()).device
    with precision(model.config, device):
        rows = data.on(device, model.config.longest(max_length))
        return class_probabilities(model, rows, model.config.pad_to(max_length))


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if _gpu_in_use():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and _gpu_in_use():
        torch.cuda.set_rng_state(state["cuda"])


def _gpu_in_use() -> bool:
    """By this process; to ask the GPU for its random state otherwise would take memory there."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
