"""Brings a run's folder home, over the same HTTP port as everything else.

Ray Jobs has no download. But Ray serves each file among its logs as it is, and a job's output is
one of them: a small job on the head node writes the folder there, as a compressed tar archive. A
run in an object store comes from there.
"""

from __future__ import annotations

import shlex
import tarfile
import tempfile
import time
import uuid
import zlib
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from lstmcls.cli import RunFailed
from lstmcls.files import replacing_folder, require_new
from tune.mirror import copy_run
from tune.store import StoreFault, is_uri, open_store
from tune.submit.jobs import Jobs

GZIP = b"\n\x1f\x8b\x08"  # how the archive begins, after the lines that Ray writes first
LONGEST = 3600  # seconds that the copy may take


def fetch(jobs: Jobs, id_: str, to: Path) -> None:
    """Copy the run's folder of job `id_` to the new folder `to`.

    Raises:
        BadInput: no such job, or `to` holds something.
        RunFailed: the head node cannot read the run's folder, or it did not arrive whole.
    """
    run = jobs.get(id_).metadata["run"]
    require_new(to, "--to")
    if is_uri(run):
        _from_store(run, to)
        return
    # Status 1: a file changed while it was read, as those of a search at work do.
    command = f"tar -C {shlex.quote(run)} -cz --exclude=.lock . 2>/dev/null; test $? -le 1"
    copy = jobs.client.submit_job(
        entrypoint=command, submission_id=f"fetch-{id_}-{uuid.uuid4().hex[:6]}"
    )
    while not jobs.client.get_job_status(copy).is_terminal():
        time.sleep(0.5)
    job = jobs.client.get_job_info(copy)
    if job.status != "SUCCEEDED":
        raise RunFailed(f"{run}: cannot be read on the cluster's head node")
    query = urlencode(
        {"submission_id": copy, "node_id": job.driver_node_id, "lines": -1, "timeout": LONGEST}
    )
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as output, replacing_folder(to) as folder:
            # Ray's own request: it carries the token.
            answer = jobs.client._do_request("GET", f"/api/v0/logs/file?{query}", stream=True)
            answer.raise_for_status()
            for block in answer.iter_content(1 << 20):
                output.write(block)
            _unpack(output, folder)
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise RunFailed(f"{to}: {run} did not arrive whole ({error})") from None


def _from_store(uri: str, to: Path) -> None:
    store = open_store(uri)
    try:
        with replacing_folder(to) as folder:
            copy_run(store, folder)
    except (StoreFault, OSError) as error:
        raise RunFailed(f"{to}: {store} did not arrive whole ({error})") from None


def _unpack(output: IO[bytes], folder: Path) -> None:
    output.seek(0)
    output.seek(output.read(1 << 16).index(GZIP) + 1)
    with tarfile.open(fileobj=output, mode="r:gz") as archive:
        archive.extractall(folder, filter="data")
