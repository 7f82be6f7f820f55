"""What the largest configuration of a space needs of a GPU, measured by training it for a step.

Only where there is a GPU and `gpu: auto`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any, TypeVar

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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
PATIENCE = 60.0  # seconds after the first answer in which the other GPUs must give theirs
SAMPLED = 500  # points of the space, among which the largest is looked for

T = TypeVar("T")


def probe(space: SearchSpace, data: Prepared, note: Callable[[str], None]) -> list[GpuMemory]:
    """What a trial needs at most on each GPU, measured there by a process that then ends.

    GPUs that are in use and give no answer soon after the first do not count: that is a `note`.

    Raises:
        RunFailed: no GPU that Ray sees can be used.
    """
    answers, faults = on_every_gpu(_on_a_gpu, largest_config(space, data), ray.put(data))
    if not answers:
        raise RunFailed(f"the GPU cannot be used ({faults[0]}); --gpus-per-trial 0 trains on CPUs")
    if faults:
        note(f"{len(faults)} of {len(answers) + len(faults)} GPUs were not measured ({faults[0]})")
    return answers


def on_every_gpu(measure: Callable[..., T], *arguments: Any) -> tuple[list[T], list[str]]:
    """What `measure` returns on each GPU of the cluster, and why it gave nothing on the others."""
    remote = ray.remote(num_cpus=0, num_gpus=1, max_calls=1)(measure)
    # All at the same time, so that no two are given the same GPU.
    asked = [
        remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*arguments)
        for node in ray.nodes()
        for _ in range(int(node["Resources"].get("GPU", 0)) if node["Alive"] else 0)
    ]
    ray.wait(asked)  # another's work may be on all of them
    ended, late = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)
    answers, faults = [], []
    for answer in ended:
        try:
            answers.append(ray.get(answer))
        except ray.exceptions.RayError as error:
            faults.append(str(error).strip().splitlines()[-1])
    for answer in late:
        ray.cancel(answer, force=True)
    return answers, faults + ["in use"] * len(late)


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
