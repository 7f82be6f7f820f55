"""Folders of searches that were killed do not stay; those of living searches do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tune.scratch import OWNER, PREFIX, scratch_folder

HOLD = """\
import sys
from tune.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "trial").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def another_search(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    search = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert search.stdout is not None
    return search, Path(search.stdout.readline().strip())


def test_it_is_there_and_then_it_is_gone(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == temporary
        assert folder.name.startswith(PREFIX)
        (folder / "file").write_text("x")
    assert list(temporary.iterdir()) == []


def test_what_a_killed_search_left_is_deleted(temporary: Path) -> None:
    killed, left = another_search(temporary)
    living, in_use = another_search(temporary)
    killed.kill()
    killed.wait()
    assert (left / "trial").is_dir()
    with scratch_folder() as folder:
        assert {path.name for path in temporary.iterdir()} == {folder.name, in_use.name}
    assert (in_use / "trial").is_dir()
    living.communicate()
    assert list(temporary.iterdir()) == []


def test_what_is_not_ours_stays(temporary: Path) -> None:
    precious = temporary / "precious"
    precious.mkdir()
    (precious / OWNER).touch()
    (temporary / f"{PREFIX}link").symlink_to(precious)
    (temporary / f"{PREFIX}file").touch()
    (temporary / f"{PREFIX}unknown").mkdir()  # without an owner it may be in use
    before = set(temporary.rglob("*"))
    with scratch_folder():
        pass
    assert set(temporary.rglob("*")) == before


def test_another_users_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = temporary / f"{PREFIX}theirs"
    theirs.mkdir()
    (theirs / OWNER).touch()
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with scratch_folder():
        pass
    assert theirs.is_dir()
