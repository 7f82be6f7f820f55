"""What the largest configuration of a space needs of a GPU, measured by training it for a step.

Only where there is a GPU and `gpu: auto`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import ray
import torch

from lstmcls.cli import RunFailed
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared
from lstmcls.fit import TrainingState, fit
from lstmcls.model import EVAL_BATCH, LSTMClassifier
from tune.resources import GpuMemory
from tune.space import SearchSpace
from tune.space.points import sample_point

# What takes more memory the more there is of it, or where it is on.
SIZES = (
    *("embedding_dim", "hidden_size", "layers", "batch_size"),
    *("mean_pooling", "attention_pooling", "ngrams", "averaging"),
)
SAMPLED = 500  # points of the space, among which the largest is looked for


def probe(space: SearchSpace, data: Prepared) -> GpuMemory:
    """What a trial needs at most, measured on a GPU of the cluster by a process that then ends.

    Raises:
        RunFailed: the GPU that Ray sees cannot be used.
    """
    config = largest_config(space, data)
    measure = ray.remote(num_gpus=1, max_calls=1)(_on_a_gpu)
    try:
        needs: GpuMemory = ray.get(measure.remote(config, data))
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise RunFailed(
            f"the GPU cannot be used ({why}); --gpus-per-trial 0 trains on CPUs"
        ) from None
    return needs


def _on_a_gpu(config: TrainConfig, data: Prepared) -> GpuMemory:
    _, total = torch.cuda.mem_get_info()
    try:
        return largest_step(config, data, "cuda", _memory)
    except torch.OutOfMemoryError:
        return GpuMemory(total, 0, total)


def _memory() -> GpuMemory:
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    return GpuMemory(torch.cuda.max_memory_reserved(), context, total)


def largest_step(
    config: TrainConfig, data: Prepared, device: str, memory: Callable[[], GpuMemory]
) -> GpuMemory:
    """`memory()` after a step and a validation on the longest rows, with all of `data` there."""
    whole = [split.on(device) for split in data.splits.values()]
    train = data.splits["train"].longest(config.batch_size)
    val = data.splits["val"].longest(EVAL_BATCH)
    state = TrainingState.create(
        dataclasses.replace(config, epochs=1, report_every=1, first_report=1),
        data.vocab_size,
        len(data.labels),
        device,
    )
    next(fit(state, train, val, pad_to=data.max_length))
    measured = memory()
    del whole
    return measured


def largest_config(space: SearchSpace, data: Prepared) -> TrainConfig:
    """The configuration of `space` whose training step needs the most memory."""
    largest = {
        parameter.name: max(parameter.choices or parameter.bounds())
        for parameter in space.parameters
        if parameter.field in SIZES
    }
    rng = random.Random(0)
    configs = {
        space.config(sample_point(space.parameters, rng, ends=True, given=largest))
        for _ in range(SAMPLED)
    }
    return max(configs, key=lambda config: _demand(config, data))


def _demand(config: TrainConfig, data: Prepared) -> int:
    """About how many numbers a step keeps: to compare configurations, no measure of one."""
    with torch.device("meta"):
        model = LSTMClassifier(config, data.vocab_size, len(data.labels))
    weights = sum(parameter.numel() for parameter in model.parameters())
    moments = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2}[config.optimizer]
    moments += config.optimizer in ("sgd", "rmsprop") and config.momentum > 0
    embedded = config.embedding_dim * (1 + (config.dropout > 0))
    # A layer keeps four gates, the cell, its output and some gradients; pooling reads a copy.
    width = config.hidden_size * (1 + config.bidirectional)
    read = width * (8 * config.layers + config.max_pooling)
    tokens = config.batch_size * data.max_length
    return weights * (2 + moments) + tokens * (embedded + read)
