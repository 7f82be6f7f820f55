"""A Ray cluster on this machine: real `ray start` nodes on loopback addresses.

A node may stand in a mount namespace of its own, with its own /tmp and /dev/shm and nothing of
the others' but one shared folder: what another machine would see.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from conftest import ENVIRONMENT
from driving import HANG, MARK, marked

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
TOKEN = "5" * 64
Done = subprocess.CompletedProcess[str]

# $1: the shared folder or "-"; $2: the home with the token; then the command.
APART = """
set -e
kept=$(mktemp -d)
mount -t tmpfs tmpfs "$kept"
mkdir "$kept/shared" "$kept/home"
[ "$1" = - ] || mount --bind "$1" "$kept/shared"
mount --bind "$2" "$kept/home"
mount --move "$kept" /mnt
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
mkdir -p "$2"
mount --bind /mnt/home "$2"
[ "$1" = - ] || { mkdir -p "$1"; mount --bind /mnt/shared "$1"; }
shift 2
cd /
exec "$@"
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Cluster:
    """A head node, which runs no trials unless it has CPUs, and nodes that come and go."""

    def __init__(self, cpus: float, **environment: str) -> None:
        # Short: Ray puts sockets with long names there.
        self.folder = Path(tempfile.mkdtemp(prefix="c"))
        self.shared = self.folder / "shared"
        self.home = self.folder / "home"
        self.shared.mkdir()
        (self.home / ".ray").mkdir(parents=True)
        (self.home / ".ray" / "auth_token").write_text(TOKEN)
        (self.home / ".ray" / "auth_token").chmod(0o600)
        self.mark = uuid.uuid4().hex
        self.environment = {
            **{k: v for k, v in ENVIRONMENT.items() if not k.startswith("RAY_")},
            "HOME": str(self.home), "RAY_AUTH_MODE": "token", MARK: self.mark,
            "PATH": f"{RAY.parent}:{os.environ['PATH']}", **environment,
        }  # fmt: skip
        # The cluster has the packages that this project needs, not the project.
        self.cluster_environment = {**self.environment}
        del self.cluster_environment["PYTHONPATH"]
        net = random.randrange(2, 250)
        self._addresses = (f"127.{net}.0.{k}" for k in itertools.count(1))
        self.start_head(cpus)

    def start_head(self, cpus: float) -> None:
        """Another cluster, where the one before was lost."""
        self.address = f"{next(self._addresses)}:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self.head = self._start(
            "--head", "--port", self.address.split(":")[1], "--dashboard-port",
            self.dashboard.split(":")[-1], "--temp-dir", str(self.folder / "ray"),
            ip=self.address.split(":")[0], cpus=cpus,
        )  # fmt: skip

    def _start(
        self, *words: str, ip: str, cpus: float, apart: tuple[str, ...] = (), **more: float
    ) -> subprocess.Popen[bytes]:
        log = self.folder / f"{ip}.log"
        with open(log, "wb") as out:
            node = subprocess.Popen(
                [
                    *apart, str(RAY), "start", *words, "--block", "--node-ip-address", ip,
                    "--num-cpus", f"{cpus:g}", "--num-gpus", f"{more.get('gpus', 0):g}",
                    "--object-store-memory", "100000000", "--disable-usage-stats",
                    "--dashboard-agent-listen-port", str(free_port()),
                ],
                env=self.cluster_environment, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self.until(lambda: "Ray runtime started" in log.read_text(), f"node {ip}", log)
        return node

    def add(self, cpus: float = 1, shares: bool = True, **more: float) -> subprocess.Popen[bytes]:
        """A node with a file system of its own."""
        shared = str(self.shared) if shares else "-"
        apart = ("unshare", "--mount", "--propagation", "private", "bash", "-c", APART, "apart")
        return self._start(
            "--address", self.address, ip=next(self._addresses), cpus=cpus,
            apart=(*apart, shared, str(self.home)), **more,
        )  # fmt: skip

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """A node and all that runs on it, at once."""
        family = psutil.Process(node.pid).children(recursive=True)
        for process in (psutil.Process(node.pid), *family):
            process.kill()
        node.wait()

    def run(
        self, module: str, *words: object, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`python -m MODULE` as a user of the cluster, to its end."""
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=self.folder, env={**self.environment, **environment},
            capture_output=True, text=True, timeout=HANG, check=False,
        )  # fmt: skip

    def submit(self, *words: object, **environment: str) -> Done:
        return self.run("tune.submit", *words, "--address", self.dashboard, **environment)

    def log(self, job: str) -> str:
        path = self.folder / "ray" / "session_latest" / "logs" / f"job-driver-{job}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def until(self, reached: Callable[[], Any], what: str, log: Path | None = None) -> Any:
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            if found := reached():
                return found
            time.sleep(0.1)
        logs = (
            [log] if log else sorted(self.folder.glob("ray/session_latest/logs/job-driver-*.log"))
        )
        said = "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in logs)
        raise AssertionError(f"hung before {what}; {said}")

    def close(self) -> None:
        """Nothing that was started is left."""
        for process in marked(self.mark):
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
