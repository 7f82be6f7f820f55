"""A run's folder: a new one, an old one, and one driver at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lstmcls.cli import BadInput
from tune.run_folder import RunFolder, existing_run, new_run

NODE = re.escape(socket.gethostname())
HOLD = """
import sys, tune.run_folder
with tune.run_folder.RunFolder(__import__("pathlib").Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_run_is_named_after_its_space_and_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [new_run("full", None) for _ in range(5)]
    assert len({run.path for run in runs}) == 5
    for run in runs:
        assert run.path.is_dir()
        assert run.path.parent == Path("results")
        assert re.fullmatch(r"full-\d{8}-\d{6}(-\d)?", run.name)


def test_a_new_run_goes_where_it_is_told_to(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert new_run("full", out) == RunFolder(out)
    assert out.is_dir()
    assert new_run("full", out) == RunFolder(out)  # empty yet


def test_a_run_that_died_before_its_study_was_made_may_begin_again(tmp_path: Path) -> None:
    names = {".lock", "space.yaml", "search.log"}
    for name in names:
        (tmp_path / name).touch()
    run = new_run("full", tmp_path)
    assert run == RunFolder(tmp_path)
    run.take_back()  # what an earlier process wrote is not this one's to delete
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("name", ["space.yaml", "search.log"])
def test_a_file_of_the_users_is_not_taken_for_a_run_that_died(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("# mine\n")
    with pytest.raises(BadInput, match="exists and is not empty; name another --out"):
        new_run("full", tmp_path)
    assert (tmp_path / name).read_text() == "# mine\n"


def test_a_run_does_not_go_where_the_file_of_its_space_lies(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    space = folder / "space.yaml"
    space.touch()
    for out in (folder, tmp_path, space, folder / ".." / "mine"):
        with pytest.raises(BadInput, match=r"is where --space .*space.yaml lies, .*another --out"):
            new_run("space", out, space)
    (folder / ".lock").touch()  # and where a run died early it is not overwritten either
    with pytest.raises(BadInput, match="is where --space"):
        new_run("space", folder, space)
    assert new_run("space", tmp_path / "out", space).path.is_dir()


def test_a_run_that_did_not_begin_is_taken_back(tmp_path: Path) -> None:
    run = new_run("full", tmp_path / "new")
    run.space.touch()
    with run.locked():
        run.take_back()
    assert not run.path.exists()
    (tmp_path / "empty").mkdir()
    run = new_run("full", tmp_path / "empty")
    with run.locked():
        run.take_back()
    assert list(run.path.iterdir()) == []  # the folder is the user's own
    begun = new_run("full", tmp_path / "begun")
    begun.journal.touch()
    begun.space.touch()
    begun.take_back()
    assert begun.space.exists()
    own = RunFolder(tmp_path)  # a folder with something else in it
    own.take_back()
    assert begun.path.exists()


def test_a_run_is_never_mixed_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.journal").touch()
    with pytest.raises(BadInput, match=r"holds a search; go on with --resume .*run, or name"):
        new_run("full", tmp_path / "run")
    with pytest.raises(BadInput, match="exists and is not empty; name another --out"):
        new_run("full", tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadInput, match="exists and is not empty"):
        new_run("full", file)
    with pytest.raises(BadInput, match="cannot be made"):
        new_run("full", file / "below")


def test_an_existing_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not the folder of a search \(space.yaml, study.journal"):
        existing_run(tmp_path)
    with pytest.raises(BadInput, match="not the folder of a search"):
        existing_run(tmp_path / "nothing")
    (tmp_path / "space.yaml").touch()
    with pytest.raises(BadInput, match=r"\(study.journal missing\)"):
        existing_run(tmp_path)
    (tmp_path / "study.journal").touch()
    assert existing_run(tmp_path) == RunFolder(tmp_path)


def test_all_its_files_are_inside(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    files = [
        run.space, run.journal, run.trials, run.reports, run.best_config, run.best, run.log,
        Path(str(run.checkpoints)),
    ]  # fmt: skip
    assert {path.parent for path in files} == {run.path}
    assert len(set(files)) == 8


def hold(path: Path) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_kept_out_until_the_first_is_gone_however_it_went(
    tmp_path: Path,
) -> None:
    first = hold(tmp_path)
    try:
        with (
            pytest.raises(
                BadInput, match=rf"another search is writing .*\(process {first.pid} on {NODE}\)"
            ),
            RunFolder(tmp_path).locked(),
        ):
            pass
    finally:
        first.kill()
        first.communicate()
    for _ in range(2):
        with RunFolder(tmp_path).locked():
            assert RunFolder(tmp_path).holder == f"process {os.getpid()} on {NODE}"
    (tmp_path / ".lock").write_text("7")  # of an earlier version
    assert RunFolder(tmp_path).holder == "process 7"


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    run = new_run("full", tmp_path / "run")
    with (
        pytest.raises(BadInput, match=r"cannot be locked \(Function not implemented\); mount its"),
        run.locked(),
    ):
        pass
    assert not run.path.exists()
