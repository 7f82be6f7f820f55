"""The shell command of a Ray job, run by a shell; tests/e2e/test_cluster.py sends real jobs."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import pytest

from tune.submit.jobs import entrypoint
from tune.submit.run import Run, add_run_options, read_run

# Stands where the cluster's Python would: says where it stands and what it was given.
PYTHON = '#!/bin/sh\npwd\nfor word in "$@"; do echo "$word"; done\n'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "a package"
    (folder / "data" / "1a2b").mkdir(parents=True)
    (folder / "data" / "1a2b" / "my shop.csv").write_text("text,label\n")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    return folder


def run(shared: Path, *words: str) -> Run:
    parser = argparse.ArgumentParser()
    add_run_options(parser, shared=None)
    return read_run(parser.parse_args(["--shared", str(shared), "--name", "shop", *words]))


def said(package: Path, command: str) -> list[str]:
    path = f"{package.parent / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=package, env={"PATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["shared", "a 'b' $c"])
def test_it_stands_in_the_shared_folder(package: Path, tmp_path: Path, name: str) -> None:
    shared = tmp_path / name
    words = said(package, entrypoint(run(shared, "--text", "my text"), None))
    assert words == [
        str(shared), "-P", "-m", "tune.search", "--text", "my text", "--out", "results/shop",
        "--auto-resume", "--space", f"{package}/space.yaml", "--address", "auto",
    ]  # fmt: skip


def test_data_that_came_along_is_kept_there(package: Path, tmp_path: Path) -> None:
    shared, data = tmp_path / "a shared", "data/1a2b/my shop.csv"
    command = entrypoint(run(shared), data)
    (shared / f"{data}.part").mkdir(parents=True)  # of a copy that was cut short
    said(package, command)
    assert (shared / data).read_text() == "text,label\n"
    assert [path.name for path in (shared / data).parent.iterdir()] == ["my shop.csv"]
    # The same again leaves it as it is: a prepared copy knows it by its time.
    before = (shared / data).stat().st_mtime_ns
    said(package, command)
    assert (shared / data).stat().st_mtime_ns == before


def test_a_shared_folder_that_cannot_be_made_ends_the_job(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(subprocess.CalledProcessError):
        said(package, entrypoint(run(tmp_path / "file" / "shared"), None))
