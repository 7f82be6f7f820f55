"""A real Slurm on this machine: a login node with its controller, and nodes.

Each stands in network, host name and mount namespaces of its own, joined by a bridge: what another
machine would see, and nothing of it collides with another Slurm here or outlives its processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import ENVIRONMENT, HANG
from driving import MARK, marked
from machines import APART

DAEMONS = ("munged", "slurmctld", "slurmd")
NEEDED = (*DAEMONS, "sbatch", "ip", "nsenter")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# No accounting, no cgroups; all that waits out of caution waits less.
_CONF = """\
ClusterName=loopback
SlurmctldHost=login(10.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir=/tmp/slurmd
SlurmdPidFile=/tmp/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 MaxTime=INFINITE State=UP
"""
_LOGIN = """
set -e
hostname login
ip link set lo up
ip link add bridge type bridge
ip addr add 10.0.0.1/24 dev bridge
ip link set bridge up
exec slurmctld -D
"""
# $1: its name; $2: its address. The link comes when the bridge's side is made.
_NODE = """
set -e
hostname "$1"
ip link set lo up
until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
ip addr add "$2/24" dev eth0
ip link set eth0 up
mkdir /tmp/slurmd
exec slurmd -D -N "$1"
"""


class Site:
    """`nodes` nodes of `cpus` CPUs, up and idle."""

    def __init__(self, nodes: int, cpus: int) -> None:
        # Short, for the names of sockets; shared by all.
        self.folder = Path(tempfile.mkdtemp(prefix="s"))
        self.mark = uuid.uuid4().hex
        self._daemons: list[subprocess.Popen[bytes]] = []
        home = self.folder / "home"
        home.mkdir()
        (self.folder / "state").mkdir()
        conf = self.folder / "slurm.conf"
        names = [f"n{k}" for k in range(1, nodes + 1)]
        lines = [
            f"NodeName={name} NodeAddr=10.0.0.{k} CPUs={cpus} State=UNKNOWN"
            for k, name in enumerate(names, start=2)
        ]
        conf.write_text(_CONF.format(folder=self.folder, nodes="\n".join(lines)))
        self.environment = {
            **{k: v for k, v in ENVIRONMENT.items() if not k.startswith(("RAY_A", "SLURM_"))},
            "HOME": str(home), "SLURM_CONF": str(conf), MARK: self.mark,
            "PATH": PATH,
        }  # fmt: skip
        del self.environment["PYTHONPATH"]
        try:
            self._munge()
            self._login = self._daemon("login", "unshare", "--net", "--uts", "bash", "-c", _LOGIN)
            self.until(lambda: self.run("scontrol", "ping").stdout.count("UP"), "slurmctld")
            for k, name in enumerate(names, start=2):
                self._node(name, f"10.0.0.{k}", home)
            self.until(lambda: self.ask("sinfo", "-h", "-o", "%T") == "idle", "nodes")
        except BaseException:
            self.close()
            raise

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o400)
        self.folder.chmod(0o755)  # munged insists that others may reach its socket
        self._daemon(
            "munged", "munged", "--foreground", f"--key-file={key}",
            f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
            f"--seed-file={self.folder}/munged.seed", f"--log-file={self.folder}/munge.log",
        )  # fmt: skip
        self.until((self.folder / "munge.socket").exists, "munged")

    def _node(self, name: str, address: str, home: Path) -> None:
        node = self._daemon(
            name, "unshare", "--net", "--uts", "--mount", "--propagation", "private",
            "bash", "-c", APART, "apart", str(self.folder), str(home),
            "bash", "-c", _NODE, "node", name, address,
        )  # fmt: skip
        own = ("nsenter", "--net", "--target", str(self._login.pid))
        # From the moment that it has a network namespace of its own.
        self.until(
            lambda: os.readlink(f"/proc/{node.pid}/ns/net") != os.readlink("/proc/self/ns/net"),
            name,
        )
        for words in (
            f"add {name} type veth peer name eth0 netns {node.pid}",
            f"set {name} master bridge up",
        ):
            subprocess.run([*own, "ip", "link", *words.split()], check=True)

    def _daemon(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "wb") as out:
            daemon = subprocess.Popen(
                words, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._daemons.append(daemon)
        return daemon

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """A command of a user on the login node."""
        return subprocess.run(
            ["nsenter", "--net", "--uts", "--target", str(self._login.pid), *map(str, words)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=HANG,
            check=False,
        )  # fmt: skip

    def ask(self, *words: object) -> str:
        """What such a command says, which must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> dict[str, str]:
        """All that Slurm tells of a job."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def until(self, reached: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            if found := reached():
                return found
            time.sleep(0.1)
        logs = sorted(self.folder.glob("*.log"))
        said = "\n".join(f"{p.name}:\n{p.read_text(errors='replace')[-2000:]}" for p in logs)
        raise AssertionError(f"hung before {what}; {said}")

    def close(self) -> None:
        """Nothing that was started is left."""
        while left := marked(self.mark):
            for process in left:
                process.kill()
        for daemon in self._daemons:
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
