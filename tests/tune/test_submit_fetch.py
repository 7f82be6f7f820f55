"""What is made of the bytes that a fetch brings; tests/e2e/test_cluster.py fetches real runs."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lstmcls.cli import BadInput, RunFailed
from tune.submit.fetch import fetch

RAYS_LINES = b"Running entrypoint for job fetch: tar ...\n"


def archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as files:
        entry = tarfile.TarInfo("best.yaml")
        entry.size = 1000
        files.addfile(entry, io.BytesIO(random.Random(0).randbytes(1000)))
    return content.getvalue()


def answering(content: bytes) -> Any:
    """Jobs of a cluster whose log endpoint gives these bytes."""
    info = SimpleNamespace(status="SUCCEEDED", driver_node_id="n", is_terminal=lambda: True)
    answer = SimpleNamespace(raise_for_status=lambda: None, iter_content=lambda size: [content])
    client = SimpleNamespace(
        submit_job=lambda **job: "copy",
        get_job_status=lambda id_: info,
        get_job_info=lambda id_: info,
        _do_request=lambda *request, **options: answer,
    )
    return SimpleNamespace(client=client, get=lambda id_: SimpleNamespace(metadata={"run": "/r"}))


def test_the_folder_is_what_the_archive_holds(tmp_path: Path) -> None:
    fetch(answering(RAYS_LINES + archive()), "shop", tmp_path / "a" / "home")
    assert (tmp_path / "a" / "home" / "best.yaml").stat().st_size == 1000
    with pytest.raises(BadInput, match="not empty"):
        fetch(answering(b""), "shop", tmp_path / "a")


@pytest.mark.parametrize(
    "content",
    [b"", RAYS_LINES, RAYS_LINES + archive()[:500], RAYS_LINES + archive()[:500] + b"x" * 500],
    ids=["nothing", "no archive", "cut", "damaged"],
)
def test_what_does_not_arrive_whole_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RunFailed, match="did not arrive whole"):
        fetch(answering(content), "shop", tmp_path / "home")
    assert list(tmp_path.iterdir()) == []
