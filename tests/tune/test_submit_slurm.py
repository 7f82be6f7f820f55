"""The Slurm batch script, as text; tests/e2e/test_slurm.py gives it to a real Slurm."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lstmcls.cli import BadInput
from tune.space import parse_space
from tune.submit import slurm
from tune.submit.run import read_run


def script(*words: str) -> str:
    parser = argparse.ArgumentParser()
    slurm.add_options(parser)
    least = ["--cpus-per-node", "8", "--time", "4:00:00", "--name", "shop"]
    args = parser.parse_args([*least, *words])
    return slurm.script(read_run(args), args)


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH --") for line in text.splitlines() if "#SBATCH" in line]


def test_what_slurm_is_asked_for() -> None:
    text = script("--nodes", "4", "--gpus-per-node", "2")
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    assert directives(text) == [
        "job-name=shop", "output=shop-%j.log", "open-mode=append", "nodes=4", "ntasks-per-node=1",
        "cpus-per-task=8", "gpus-per-node=2", "time=4:00:00", "signal=B:USR1@120", "requeue",
        "no-kill",
    ]  # fmt: skip
    assert "node=(--num-cpus=8 --num-gpus=2)" in text
    # Directives count only before the first command.
    assert text.rindex("#SBATCH") < text.index("\nset -u")


def test_no_gpus_are_asked_for_where_none_are_wanted() -> None:
    assert not [line for line in directives(script()) if line.startswith("gpus")]


def test_the_space_travels_whole(prepared_folder: Path) -> None:
    text = script("--space", "smoke", "--trials", "7", "--data", str(prepared_folder))
    inside = text.split("<<'SPACE'\n")[1].split("\nSPACE\n")[0]
    space = parse_space(yaml.safe_load(inside), "script")
    assert space.budget.trials == 7
    assert space.data == str(prepared_folder)


def test_data_in_an_object_store_stays_there() -> None:
    assert "\ndata: s3://bucket/shop.csv\n" in script("--data", "s3://bucket/shop.csv")


@pytest.mark.parametrize("shared", ["/a b", "/x'y", '/x"y', "/$HOME", "/`id`"])
def test_bash_takes_it_whatever_the_paths_are(shared: str, tmp_path: Path) -> None:
    text = script("--shared", shared, "--text", "a 'b' $c")
    assert f"\ncd {shlex.quote(shared)} || exit 1\n" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    line = next(line for line in text.splitlines() if line.startswith("search=("))
    said = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\n" "${{search[@]}}"'],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert said == [
        "python", "-P", "-m", "tune.search", "--text", "a 'b' $c",
        "--out", "results/shop", "--auto-resume",
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize(
    "words",
    [(), ("--shared", "/x y", "--text", "a 'b'"), ("--shared", "s3://b/c", "--nodes", "2")],
    ids=["plain", "quoted", "in a store"],
)
def test_shellcheck_finds_nothing(words: tuple[str, ...]) -> None:
    said = subprocess.run(
        ["shellcheck", "-"], input=script(*words), capture_output=True, text=True, check=False
    )
    assert said.stdout == ""
    assert said.returncode == 0


SHORT = ("0", "9", "2:00", "9:59", "0:09:59", "0-0", "0-0:09", "0-0:09:59", "0-00:00:00")


@pytest.mark.parametrize("limit", ["10", "10:00", "0:10:00", "0-1", "0-0:10", "0-0:10:00", "2-0"])
def test_a_time_is_read_as_slurm_reads_it(limit: str) -> None:
    assert f"time={limit}" in directives(script("--time", limit))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nodes", "0"], "--nodes: expected 1 or more"),
        (["--cpus-per-node", "0"], "--cpus-per-node: expected 1 or more"),
        (["--gpus-per-node", "-1"], "--gpus-per-node: expected 0 or more"),
        (["--time", "4h"], "--time 4h: expected"),
        (["--time", "1:00; id"], "--time"),
        *((["--time", limit], f"--time {limit}: expected 10 minutes") for limit in SHORT),
        (["--cpus-per-trial", "9"], "resources.cpu: a trial wants 9 CPUs, there are 8"),
        (["--gpus-per-node", "1", "--gpus-per-trial", "2"], "a trial wants 2 GPUs, there are 1"),
        (["--shared", "/"], "--shared /: expected an absolute path below /"),
        (["--data", "http://here/shop.csv"], "http://here/shop.csv: expected s3://BUCKET/FOLDER"),
        (["--data", "none.csv"], "none.csv: no such file or folder"),
        (["--name", "a/b"], "--name a/b: expected letters"),
        (["--name", "a;id"], "--name a;id: expected letters"),
        (["--shared", "shared"], "--shared shared: expected an absolute path"),
        (["--trials", "0"], "--trials: expected at least 1"),
    ],
)
def test_bad_options(words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        script(*words)


# In place of the commands that the script calls: each says in `calls` that it was, and those that
# go on until they are ended say how they were.
RAN = """\
trap 'echo "$(basename "$0") ended" >> calls; exit 130' TERM
echo "$(basename "$0") $*" >> calls
"""
UNTIL_ENDED = "while :; do sleep 0.1; done\n"
STAND_INS = {
    "ray": f"""\
[ "$1" != health-check ] || exec [ -e head ]
[ "$1" = start ] || exit 0
{RAN}mkdir "/tmp/ray-$SLURM_JOB_ID"
touch head
{UNTIL_ENDED}""",
    "srun": f"""\
{RAN}while [[ "$1" = --* ]]; do shift; done
[ "$1" = rm ] || SLURM_NODEID=0 exec "$@"
""",
    "python": f"sleep 0.5  # as imports take\n{RAN}{UNTIL_ENDED}",
    "scontrol": RAN,
    "hostname": "echo 127.0.0.1 ::1\n",
}
JOB = os.getpid()
TEMPORARY = Path(f"/tmp/ray-{JOB}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared folder, with the commands in bin/."""
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path


def started(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-c", script("--shared", str(place))],
        env={**os.environ, "SLURM_JOB_ID": str(JOB), "TMPDIR": str(place)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended_by(job: subprocess.Popen[str], number: signal.Signals, place: Path) -> None:
    """Send the signal to a job whose search runs, and wait for its end."""
    while "python" not in calls(place):
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(number)
    job.communicate()


def calls(place: Path) -> list[str]:
    path = place / "calls"
    return [line.split(" -")[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    ("number", "last"),
    [(signal.SIGUSR1, [f"scontrol requeue {JOB}"]), (signal.SIGTERM, [])],
    ids=["time limit", "scancel"],
)
def test_only_the_time_limit_queues_the_job_again(
    place: Path, number: signal.Signals, last: list[str]
) -> None:
    job = started(place)
    ended_by(job, number, place)
    assert job.returncode == 130
    # All is tidied up before the end of the script, which a requeue is.
    ended = ["python ended", "ray ended", "srun"]
    assert calls(place) == ["srun", "ray start", "python", *ended, *last]
    assert not list(place.glob("tmp.*"))
    assert not TEMPORARY.exists()


def test_a_search_that_fails_at_its_time_limit_is_not_queued_again(place: Path) -> None:
    python = place / "bin" / "python"
    python.write_text(python.read_text().replace("exit 130", "exit 1"))
    job = started(place)
    ended_by(job, signal.SIGUSR1, place)
    assert job.returncode == 1
    assert calls(place)[-3:] == ["python ended", "ray ended", "srun"]


def test_a_head_that_does_not_start_ends_the_job(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "START", 1)
    ray = place / "bin" / "ray"
    fails = "until [ -e head ]; do sleep 0.1; done; exit 1"
    ray.write_text(ray.read_text().replace("exec [ -e head ]", f"{{ {fails}; }}"))
    job = started(place)
    _, errors = job.communicate()
    assert job.returncode == 1
    assert re.fullmatch(r"error: Ray's head does not answer at 127.0.0.1:\d+\n", errors)
    assert calls(place) == ["srun", "ray start", "ray ended", "srun"]
