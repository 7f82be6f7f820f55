"""The folder that a cluster's nodes share: each proves that it writes and reads there.

Checkpoints and weights are written by the nodes and read by the driver and by other nodes. A
folder that is there on each of them, but is not the same one, would be found out after hours.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmcls.cli import BadInput

PATIENCE = 60.0  # seconds in which a node must prove it


def check_storage(folder: Path) -> None:
    """Have every living node write and read in `folder`.

    Raises:
        BadInput: one cannot; a line for each that says why.
    """
    probe = folder.resolve() / f".probe-{secrets.token_hex(4)}"
    secret = secrets.token_hex(16)
    probe.mkdir()
    try:
        (probe / "driver").write_text(secret)
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        answers = {
            id_: ray.remote(_prove)
            .options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(id_, soft=False)
            )
            .remote(probe, secret, id_)
            for id_ in nodes
        }
        faults = []
        for id_, answer in answers.items():
            fault = _fault(answer, probe / id_, secret)
            if fault:
                where = f"{nodes[id_]['NodeManagerHostname']} ({nodes[id_]['NodeManagerAddress']})"
                faults.append(f"{folder}: node {where} {fault}")
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    if faults:
        raise BadInput(
            *faults, "every node must share the run's folder; name such a one with --out"
        )


def _prove(probe: Path, secret: str, id_: str) -> str:
    try:
        if (probe / "driver").read_text() != secret:
            return "sees another folder there"
        (probe / id_).write_text(secret)
    except FileNotFoundError:
        return "does not see it"
    except OSError as error:
        return f"cannot write there ({error.strerror})"
    return ""


def _fault(answer: ray.ObjectRef, written: Path, secret: str) -> str:
    try:
        fault: str = ray.get(answer, timeout=PATIENCE)
    except RayError as error:
        return f"does not answer ({type(error).__name__})"
    if not fault and (not written.is_file() or written.read_text() != secret):
        return "writes there, but the driver does not see it"
    return fault
