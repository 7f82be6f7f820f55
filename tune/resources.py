"""What each trial gets of the nodes, and how many trials run at once."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lstmcls.cli import BadInput
from tune.space import Resources

MOST_PER_GPU = 8  # trials where `gpu: auto`: an LSTM trial alone leaves most of a GPU idle
MPS = "nvidia-cuda-mps-control"  # starts NVIDIA's multi-process service
SPARE = 1.15  # of a step's memory: blocks of other shapes do not fill the gaps that it leaves


class Node(NamedTuple):
    """What one machine has for trials."""

    cpus: float
    gpus: float


_ENDLESS = Node(math.inf, math.inf)


@dataclass(frozen=True)
class GpuMemory:
    """Bytes on one GPU that a trial needs at most."""

    tensors: int
    context: int  # what its process takes besides
    total: int  # what the GPU has

    @property
    def trials(self) -> int:
        """How many trials fit for certain; 0: not even one."""
        return int(self.total / (SPARE * self.tensors + self.context))


@dataclass(frozen=True)
class Share:
    """One trial's part of a node, and how many trials run at once."""

    cpu: float
    gpu: float
    concurrency: int
    largest: Node = _ENDLESS  # of the nodes that trials run on
    limit: float = math.inf  # trials at once that the user wants at most
    notes: tuple[str, ...] = ()
    gpu_context: float = 0.0  # of a GPU, what a trial's process takes besides its tensors

    def bundle(self, times: float) -> dict[str, float]:
        """`times` the share, as Ray wants it stated: with CPUs, or they would count as 0."""
        gpu = times * self.gpu
        if gpu > 1:  # Ray takes whole GPUs only, above one
            gpu = min(math.floor(gpu), max(1, self.largest.gpus))
        return {"CPU": min(times * self.cpu, self.largest.cpus), "GPU": gpu}

    def fit(self, node: Node) -> int:
        """How many trials `node` has room for."""
        by_cpu = int(node.cpus / self.cpu + 1e-9)
        if not self.gpu:
            return by_cpu
        if self.gpu > 1:
            return min(by_cpu, int(node.gpus / self.gpu))
        return min(by_cpu, int(1 / self.gpu + 1e-9) * int(node.gpus))  # none spans two GPUs

    def at_once(self, nodes: Sequence[Node]) -> int:
        """How many trials run at once on `nodes`."""
        return int(min(sum(map(self.fit, nodes)), self.limit))

    @property
    def threads(self) -> int:
        return max(1, int(self.cpu))


def divide(wanted: Resources, nodes: Sequence[Node], needs: Sequence[GpuMemory] = ()) -> Share:
    """Each trial's share of the nodes, as the space wants it and the nodes allow.

    `needs`: of the largest configuration on each GPU, where `gpu: auto`; the smallest GPU decides.

    Raises:
        BadInput: one trial wants more CPUs or GPUs than any node has.
    """
    notes: list[str] = []
    most_cpus, most_gpus = (max(column) for column in zip(*nodes, strict=True))
    there_are = "there are" if len(nodes) == 1 else "no node has more than"
    if wanted.cpu > most_cpus:
        raise BadInput(
            f"resources.cpu: a trial wants {wanted.cpu:g} CPUs, {there_are} {most_cpus:g}"
        )
    limit = math.inf if wanted.concurrency == "auto" else wanted.concurrency
    gpu = context = 0.0
    if wanted.gpu == "auto":
        a_gpu = MOST_PER_GPU
        if needs and most_gpus:
            a_gpu = min(a_gpu, *(memory.trials for memory in needs))
            context = max(memory.context / memory.total for memory in needs)
            notes += _unlike(needs)
        if not a_gpu:
            notes.append("the largest configuration of the space does not fit a GPU's memory")
        gpu = _auto_gpu(wanted.cpu, max(1, a_gpu), limit, nodes)
    elif wanted.gpu and not most_gpus:
        notes.append(f"a trial asks for {wanted.gpu:g} GPU, this machine has none: it runs on CPU")
    elif wanted.gpu > most_gpus:
        raise BadInput(
            f"resources.gpu: a trial wants {wanted.gpu:g} GPUs, {there_are} {most_gpus:g}"
        )
    else:
        gpu = float(wanted.gpu)
    share = Share(wanted.cpu, gpu, 0, limit=limit)
    used = [node for node in nodes if share.fit(node)]
    if not used:
        raise BadInput(
            f"resources: a trial wants {wanted.cpu:g} CPUs and {gpu:g} GPUs, no node has both"
        )
    idle = sum(1 for node in nodes if node.cpus >= wanted.cpu and node not in used)
    if gpu and idle:
        notes.append(
            f"{idle} of {len(nodes)} nodes have no GPU for a trial and stay idle; "
            "resources.gpu: 0 would use the CPUs of all"
        )
    at_once = share.at_once(nodes)
    if at_once < limit < math.inf:
        notes.append(f"{limit} trials at once do not fit, {at_once} do")
    largest = max(used, key=lambda node: (node.gpus, node.cpus) if gpu else node)
    return Share(wanted.cpu, gpu, at_once, largest, limit, tuple(notes), context)


def _unlike(needs: Sequence[GpuMemory]) -> Iterator[str]:
    """A line where other GPUs have room for more trials than the one that decides."""
    room = [min(MOST_PER_GPU, memory.trials) for memory in needs]
    if min(room) < max(room):
        smallest = min(memory.total for memory in needs)
        yield (
            f"the GPUs are unlike: the smallest, of {smallest / 1e9:.0f} GB, has room for "
            f"{min(room)} trials and decides for all; others have room for {max(room)}"
        )


def in_turns(share: Share) -> Iterator[str]:
    """A line where trials share this machine's GPU in turns and could run side by side instead."""
    pipes = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    shared = 0 < share.gpu <= 1 / 2 and share.concurrency > 1
    if shared and shutil.which(MPS) and not (pipes / "control").exists():
        yield (
            f"trials use the GPU in turns; after `{MPS} -d` they run side by side, "
            "several times as fast together (docs/speed.md)"
        )


def _auto_gpu(cpu: float, a_gpu: int, limit: float, nodes: Sequence[Node]) -> float:
    """The part of a GPU that a trial gets: `a_gpu` trials share one, fewer where CPUs are few.

    Fewer trials at once get larger parts. One part for all: the fullest GPU decides, since no
    trial spans two of them.
    """
    with_gpus = [node for node in nodes if node.gpus]
    total = sum(node.gpus for node in with_gpus)
    parts = []
    for cpus, gpus in with_gpus:
        trials = min(int(cpus / cpu + 1e-9), int(gpus) * a_gpu)
        if limit < math.inf:
            trials = min(trials, math.ceil(limit * gpus / total))
        if trials:
            parts.append(math.floor(10_000 / math.ceil(trials / gpus)) / 10_000)  # Ray's precision
    return min(parts, default=0.0)
