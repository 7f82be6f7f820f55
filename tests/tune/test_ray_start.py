"""Starting Ray where its servers take too long; whole clusters are in tests/e2e/test_cluster.py."""

from __future__ import annotations

import os
from typing import Any

import pytest
import ray

from lstmcls.cli import RunFailed
from tune.cluster import STARTS, start_ray

LATE = "The current node timed out during startup."


@pytest.mark.parametrize("late", range(STARTS + 1))
def test_ray_is_started_again_where_its_servers_are_late(
    late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def init(**options: Any) -> None:
        begun.append(options)
        if len(begun) <= late:
            raise Exception(LATE)  # just as Ray does

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    if late < STARTS:
        start_ray(None)
        assert len(begun) == late + 1
    else:
        with pytest.raises(RunFailed, match=rf"did not start in {STARTS} attempts .*{LATE}.*less"):
            start_ray(None)


def test_another_fault_of_ray_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(OSError, match="No space"):
        start_ray(None)


@pytest.mark.parametrize(
    ("folder", "instead"),
    [("/var/tmp", None), ("/var/tmp/北京", "/tmp/ray"), ("/scratch" + "/job" * 10, "/tmp/ray")],
)
def test_ray_has_its_sockets_where_they_can_be(
    folder: str, instead: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/hostile.py runs a whole search in the second."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **given: options.update(given))
    monkeypatch.setattr(os, "environ", {**os.environ, "TMPDIR": folder})
    start_ray(None)
    assert options["_temp_dir"] == instead
