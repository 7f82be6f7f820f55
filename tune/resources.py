"""What each trial gets of the machine, and how many run at once; starting Ray."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants, services

from lstmcls.cli import BadInput
from tune.space import Resources
from tune.stop import in_main_thread

MOST_PER_GPU = 8  # trials where `gpu: auto`: an LSTM trial alone leaves most of a GPU idle
SPARE = 1.15  # of a step's memory: blocks of other shapes do not fill the gaps that it leaves

# Ray's own loggers, tables and snapshots: the study and our table take their place.
_QUIET_RAY = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


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
    """One trial's part of the cluster, and how many trials run at once."""

    cpu: float
    gpu: float
    concurrency: int
    most: tuple[float, float] = (math.inf, math.inf)  # CPUs and GPUs there are
    notes: tuple[str, ...] = ()
    gpu_context: float = 0.0  # of a GPU, what a trial's process takes besides its tensors

    def bundle(self, times: float) -> dict[str, float]:
        """`times` the share, as Ray wants it stated: with CPUs, or they would count as 0."""
        (cpus, gpus), gpu = self.most, times * self.gpu
        if gpu > 1:  # Ray takes whole GPUs only, above one
            gpu = min(math.floor(gpu), max(1, gpus))
        return {"CPU": min(times * self.cpu, cpus), "GPU": gpu}

    @property
    def threads(self) -> int:
        return max(1, int(self.cpu))


def divide(wanted: Resources, cpus: float, gpus: float, needs: GpuMemory | None = None) -> Share:
    """Each trial's share of `cpus` and `gpus`, as the space wants it and the machine allows.

    `needs`: of the largest configuration, where `gpu: auto` and there is a GPU.

    Raises:
        BadInput: one trial wants more CPUs or GPUs than there are.
    """
    notes = []
    if wanted.cpu > cpus:
        raise BadInput(f"resources.cpu: a trial wants {wanted.cpu:g} CPUs, there are {cpus:g}")
    at_once = int(cpus / wanted.cpu + 1e-9)
    gpu = context = 0.0
    if wanted.gpu == "auto":
        if gpus:
            fit = MOST_PER_GPU
            if needs is not None:
                fit, context = needs.trials, needs.context / needs.total
            if not fit:
                notes.append("the largest configuration of the space does not fit a GPU's memory")
            at_once = min(at_once, int(gpus) * max(1, min(fit, MOST_PER_GPU)))
            if wanted.concurrency != "auto":
                at_once = min(at_once, wanted.concurrency)  # fewer trials, larger shares
            # No trial spans two GPUs: the fullest one decides.
            gpu = math.floor(10_000 / math.ceil(at_once / gpus)) / 10_000  # Ray's precision
    elif wanted.gpu and not gpus:
        notes.append(f"a trial asks for {wanted.gpu:g} GPU, this machine has none: it runs on CPU")
    elif wanted.gpu:
        gpu = float(wanted.gpu)
        if gpu > gpus:
            raise BadInput(f"resources.gpu: a trial wants {gpu:g} GPUs, there are {gpus:g}")
        fit = int(gpus / gpu) if gpu > 1 else int(1 / gpu + 1e-9) * int(gpus)
        at_once = min(at_once, fit)
    if wanted.concurrency != "auto":
        if wanted.concurrency > at_once:
            notes.append(f"{wanted.concurrency} trials at once do not fit, {at_once} do")
        at_once = min(at_once, wanted.concurrency)
    return Share(wanted.cpu, gpu, at_once, (cpus, gpus), tuple(notes), context)


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, for this search alone, or join the cluster at `address`.

    SIGTERM keeps the handler that it has: Ray's own would exit without a word.

    Raises:
        BadInput: no cluster answers at `address`.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET_RAY.items()})
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _start(address)
    except SystemExit:  # Ray's handler
        raise KeyboardInterrupt from None
    finally:
        if in_main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)


def _start(address: str | None) -> None:
    if address is None:
        # Ray turns 127.0.0.1 into the outward address, except where it knows no clusters.
        ray_constants.ENABLE_RAY_CLUSTER = False
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # the same for its servers
        services.ConsolePopen = _OwnGroup
        ray.init(
            address="local",  # not the one that RAY_ADDRESS names
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _node_ip_address="127.0.0.1",
        )
        return
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadInput(f"--address {address}: {str(error).splitlines()[0]}") from None


class _OwnGroup(subprocess.Popen[bytes]):
    """Ray's servers in process groups of their own.

    A SIGTERM to the driver's whole group (Slurm, systemd, a supervisor) would end them before the
    driver has saved anything. They still die with the driver: Linux tells them to.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, process_group=0)


def available() -> tuple[float, float]:
    """CPUs and GPUs of the whole cluster."""
    total = ray.cluster_resources()
    return float(total.get("CPU", 0)), float(total.get("GPU", 0))
