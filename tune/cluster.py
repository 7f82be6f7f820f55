"""The Ray that a search runs on: started here, or joined at an address."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import ray
from ray._private import node as ray_node
from ray._private import ray_constants, services
from ray.exceptions import AuthenticationError

from lstmcls.cli import BadInput, RunFailed
from tune.auth import make_token, require_token
from tune.resources import Node
from tune.stop import in_main_thread

REACH = 10.0  # seconds in which a cluster's head must answer; Ray itself would try for minutes
LONGEST = 36  # bytes of a folder for temporary files in which Ray can have its sockets
STARTS = 3  # attempts to start Ray: it gives its servers 30 s, and a busy machine may need longer

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
    "RAY_prestart_worker_first_driver": "0",  # a process a core, which no trial would use
}


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, for this search alone, or join the cluster at `address`.

    SIGTERM keeps the handler that it has: Ray's own would exit without a word.

    Raises:
        BadInput: no cluster answers at `address`, or it does not take our token.
        RunFailed: the servers of this machine's Ray did not come up.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET_RAY.items()})
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            _start()
        else:
            _join(address)
    except SystemExit:  # Ray's handler
        raise KeyboardInterrupt from None
    finally:
        if in_main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)


def _start() -> None:
    make_token()
    # Ray turns 127.0.0.1 into the outward address, except where it knows no clusters.
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # the same for its servers
    services.ConsolePopen = _OwnGroup
    whole_node, ray_node.Node = ray_node.Node, _LeanNode
    try:
        for start in range(1, STARTS + 1):
            try:
                ray.init(
                    address="local",  # not the one that RAY_ADDRESS names
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=_folder_for_ray(),
                )
                return
            except Exception as error:
                if type(error) is not Exception:  # what Ray raises when its servers are late
                    raise
                _LeanNode.end_last()
                if start == STARTS:
                    raise RunFailed(
                        f"Ray did not start in {STARTS} attempts ({_first_line(error)}); try again "
                        "when this machine is less busy"
                    ) from None
    finally:
        ray_node.Node = whole_node


def _folder_for_ray() -> str | None:
    """Where Ray keeps its sockets and logs, if not where it would by itself.

    It takes ASCII alone, and a socket's path may have 107 bytes, of which Ray's names need 68.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return None if usual.isascii() and len(usual) <= LONGEST else "/tmp/ray"


def _join(address: str) -> None:
    require_token(address)
    try:
        if "://" in address:
            raise ValueError("expected HOST:PORT of the head node, or auto on a node of a cluster")
        found = services.canonicalize_bootstrap_address_or_die(address)
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, ValueError) as error:
        raise BadInput(f"--address {address}: {_first_line(error)}") from None
    try:
        with _all_of_stderr():
            ray.init(address=found, log_to_driver=False, logging_level=logging.WARNING)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"--address {address}: something answers, but does not let this process in: another "
            f"token than the cluster's, or not a node of it ({_first_line(error)})"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@contextmanager
def _all_of_stderr() -> Iterator[None]:
    """Send what Ray's C++ side says to where Python's sys.stderr goes, a search's log."""
    kept = os.dup(2)
    os.dup2(sys.stderr.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _OwnGroup(subprocess.Popen[bytes]):
    """Ray's servers in process groups of their own.

    A SIGTERM to the driver's whole group (Slurm, systemd, a supervisor) would end them before the
    driver has saved anything. They still die with the driver: Linux tells them to.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, process_group=0)


class _LeanNode(ray_node.Node):  # type: ignore[misc]
    """Ray's node without its dashboard, its autoscaler and its reader of logs.

    Nobody here asks them anything. They are three Python processes, one of which `ray.init` waits
    for, and they take CPU time when the first workers need it.
    """

    _last: ClassVar[_LeanNode | None] = None

    @classmethod
    def end_last(cls) -> None:
        """End the servers of a start that failed: Ray itself would at the end of this process."""
        if cls._last is not None:
            cls._last.kill_all_processes(check_alive=False, allow_graceful=False)
            cls._last = None

    def start_ray_processes(self) -> None:
        _LeanNode._last = self
        super().start_ray_processes()

    def start_api_server(self, **options: Any) -> None: ...
    def start_monitor(self) -> None: ...
    def start_log_monitor(self) -> None: ...


class Member(NamedTuple):
    """A living node of the cluster."""

    id: str
    address: str
    port: int
    node: Node


def members() -> list[Member]:
    """The living nodes of the cluster."""
    return [
        Member(
            found["NodeID"],
            found["NodeManagerAddress"],
            found["NodeManagerPort"],
            Node(float(found["Resources"].get("CPU", 0)), float(found["Resources"].get("GPU", 0))),
        )
        for found in ray.nodes()
        if found["Alive"]
    ]


def nodes() -> list[Node]:
    """What each living node of the cluster has for trials."""
    return [member.node for member in members()]


def kill_worker(trial: Any) -> None:
    """Kill the process that runs `trial`, a Trial of Ray Tune, which then takes it for dead."""
    if (worker := trial.temporary_state.ray_actor) is not None:
        ray.kill(worker)
