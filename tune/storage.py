"""The folder or object store that a cluster's nodes share: each proves that it uses the same.

Checkpoints and weights are written by the nodes and read by the driver and by other nodes. A
folder that is there on each of them, but is not the same one, would be found out after hours; so
would a node without the credentials.
"""

from __future__ import annotations

import secrets

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmcls.cli import BadInput
from tune.store import Store, StoreFault

PATIENCE = 60.0  # seconds in which a node must prove it


def check_storage(store: Store) -> None:
    """Have every living node write and read in `store`.

    Raises:
        BadInput: one cannot; a line for each that says why.
    """
    probe = store / f".probe-{secrets.token_hex(4)}"
    secret = secrets.token_bytes(16)
    probe.make()
    try:
        probe.write("driver", secret)
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
            fault = _fault(answer, probe, secret, id_)
            if fault:
                where = f"{nodes[id_]['NodeManagerHostname']} ({nodes[id_]['NodeManagerAddress']})"
                faults.append(f"{store}: node {where} {fault}")
    finally:
        probe.delete_all()
    if faults:
        shared = "share the run's folder; name such a one with --out"
        reached = "reach the store: AWS_ENDPOINT_URL, credentials in the environment of its Ray"
        raise BadInput(*faults, f"every node must {reached if store.remote else shared}")


def _prove(probe: Store, secret: bytes, id_: str) -> str:
    try:
        if probe.read("driver") != secret:
            return "sees another folder there"
        probe.write(id_, secret)
    except FileNotFoundError:
        return "does not see it"
    except StoreFault as fault:
        return f"cannot use it ({fault.why})"
    except OSError as error:
        return f"cannot write there ({error.strerror})"
    return ""


def _fault(answer: ray.ObjectRef, probe: Store, secret: bytes, id_: str) -> str:
    try:
        fault: str = ray.get(answer, timeout=PATIENCE)
    except RayError as error:
        return f"does not answer ({type(error).__name__})"
    if not fault and (id_ not in probe.names() or probe.read(id_) != secret):
        return "writes there, but the driver does not see it"
    return fault
