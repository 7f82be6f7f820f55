"""Searches as Ray jobs: sent, followed, stopped and listed over HTTP.

A job runs on the cluster's head node and outlives the client. Its log, its state and its metadata
(where its run lies) are Ray's to keep, for as long as the cluster lives.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from lstmcls.cli import BAD_INPUT, FAILED, INTERRUPTED, OK, BadInput, RunFailed, nearest
from tune.auth import require_token
from tune.submit.run import Run

ADDRESS = "http://127.0.0.1:8265"  # where Ray's dashboard listens, on the head node itself
REACH = 10.0  # seconds in which it must answer
PATIENCE = 120  # seconds that a stopped search gets to save: a report's time, then the winner's
_RAYS_OWN = re.compile(r"Running entrypoint for job |\S+ \S+\sINFO job_manager\.py")


class Jobs:
    """The searches among the jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """
        Raises:
            BadInput: no dashboard answers at `address`, or it does not take our token.
        """
        if importlib.util.find_spec("aiohttp") is None:
            raise BadInput("jobs on a cluster need Ray's client: pip install 'ray[default]'")
        self.address = _checked(address)
        self.open_to_all = _asks_no_token(self.address)
        require_token(self.address)
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # or RAY_ADDRESS would win
        try:
            self.client = JobSubmissionClient(self.address)
        except AuthenticationError:
            raise BadInput(
                f"--address {address}: the cluster does not take this token; put its own into "
                "~/.ray/auth_token (mode 600), or name its file in RAY_AUTH_TOKEN_PATH"
            ) from None

    def submit(self, run: Run, package: Path, data: str | None) -> str:
        """Send a search; the job's id is the run's name, with a number after the first time.

        Raises:
            BadInput: a job of this name is at work.
        """
        earlier = [job for job in self.all() if job.metadata["name"] == run.name]
        for job in earlier:
            if not job.status.is_terminal():
                raise BadInput(
                    f"--name {run.name}: is at work; `python -m tune.submit stop "
                    f"{job.submission_id}` ends it, another --name begins another search"
                )
        id_: str = self.client.submit_job(
            entrypoint=entrypoint(run, data),
            submission_id=f"{run.name}-{len(earlier) + 1}" if earlier else run.name,
            runtime_env={
                "working_dir": str(package),
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(PATIENCE)},
            },
            metadata={"name": run.name, "run": run.folder},
        )
        return id_

    def all(self) -> list[Any]:
        """Every search that was sent to this cluster, oldest first."""
        jobs = [job for job in self.client.list_jobs() if "run" in (job.metadata or {})]
        return sorted(jobs, key=lambda job: job.start_time)

    def get(self, id_: str) -> Any:
        """The search that is job `id_`.

        Raises:
            BadInput: there is none.
        """
        known = {job.submission_id: job for job in self.all()}
        if id_ not in known:
            raise BadInput(f"{id_}: no such search at {self.address}{nearest(id_, known)}")
        return known[id_]

    def follow(self, id_: str, show: Callable[[str], None]) -> int:
        """Show the log of job `id_`, line by line, until the job ends; its exit status."""
        self.get(id_)
        asyncio.run(self._follow(id_, show))
        return self._exit_status(id_)

    async def _follow(self, id_: str, show: Callable[[str], None]) -> None:
        rest = ""
        async for text in self.client.tail_job_logs(id_):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                if not _RAYS_OWN.match(line):
                    show(line)
        if rest:
            show(rest)

    def _exit_status(self, id_: str) -> int:
        job = self.client.get_job_info(id_)
        if not job.status.is_terminal():
            raise RunFailed(f"{id_}: the connection is lost, the job goes on")
        if job.status == "FAILED" and job.driver_exit_code is None:  # Ray's fault, not the search's
            raise RunFailed(f"{id_}: {(job.message or 'Ray gives no reason').splitlines()[0]}")
        if job.status == "FAILED":
            return BAD_INPUT if job.driver_exit_code == BAD_INPUT else FAILED
        return INTERRUPTED if job.status == "STOPPED" else OK

    def stop(self, id_: str) -> bool:
        """End a search as Ctrl-C does and wait until all is saved; False if it had ended."""
        self.get(id_)
        was_at_work: bool = self.client.stop_job(id_)
        while not self.client.get_job_status(id_).is_terminal():
            time.sleep(0.5)
        return was_at_work


def entrypoint(run: Run, data: str | None) -> str:
    """The shell command of a job, which begins where Ray unpacked its package.

    Data that came along is kept in the shared folder: the package is Ray's to delete. A run in an
    object store has its data there.
    """
    shared = shlex.quote(run.shared)
    steps = ["set -e", 'package="$PWD"']
    if not run.in_store:
        steps += [f"mkdir -p {shared}", f"cd {shared}"]
    if data is not None and not run.in_store:
        kept, part = shlex.quote(data), shlex.quote(f"{data}.part")
        steps.append(
            f"[ -e {kept} ] || {{ mkdir -p {shlex.quote(str(Path(data).parent))}; rm -rf {part}; "
            f'cp -R "$package"/{kept} {part}; mv {part} {kept}; }}'
        )
    search = shlex.join(run.command())
    return "; ".join([*steps, f'exec {search} --space "$package"/space.yaml --address auto'])


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"--address {address}: expected Ray's dashboard, such as {ADDRESS}")
    return address.rstrip("/")


def _asks_no_token(address: str) -> bool:
    """Whether the cluster is open to all who reach it."""
    try:
        answer = requests.get(f"{address}/api/authentication_mode", timeout=REACH)
    except requests.RequestException as error:
        raise BadInput(
            f"--address {address}: nothing answers there ({type(error).__name__}); a dashboard "
            "listens on its head node alone, ssh -L 8265:127.0.0.1:8265 HEAD brings it here"
        ) from None
    if answer.status_code != requests.codes.ok:
        raise BadInput(f"--address {address}: not the dashboard of Ray 2.52 or later")
    return '"disabled"' in answer.text
