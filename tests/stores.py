"""A real S3-compatible server on loopback, for the tests of object stores.

moto pins versions that this project's own requirements exclude, so it stands in an environment of
its own: `python -m venv moto && moto/bin/pip install 'moto[s3]' flask flask-cors`, and moto/bin on
PATH. Tests that need it skip without it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import HANG
from pyarrow.fs import FileSystem

from tune.store import Store

SERVER = "moto_server"


@contextmanager
def s3_server(folder: Path, **settings: str) -> Iterator[dict[str, str]]:
    """The environment variables with which a process uses it; `settings` are moto's own."""
    command = shutil.which(SERVER)
    if command is None:
        pytest.skip(f"{SERVER} is not on PATH; tests/stores.py says how to get it")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    with open(folder / "s3.log", "wb") as log:
        server = subprocess.Popen(
            [command, "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, **settings}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + HANG
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None, (folder / "s3.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "some-key",
            "AWS_SECRET_ACCESS_KEY": "some-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.kill()
        server.wait()


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """These variables, for this process, while inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def new_bucket() -> str:
    """An empty one, whose name no other test has: a process opens each place once."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    system, _ = FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
    system.create_dir(name)
    return name


def new_store(folder: Path, kind: str) -> Store:
    """An empty place of a kind: a plain folder, one by its URI, or one in a bucket."""
    if kind == "s3":
        return Store(f"s3://{new_bucket()}/runs/shop")
    store = Store(("file://" if kind == "file" else "") + str(folder / "runs" / "shop"))
    store.make(parents=True)
    return store
