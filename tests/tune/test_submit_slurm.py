"""The Slurm batch script, as text; tests/e2e/test_cluster.py runs one."""

from __future__ import annotations

import argparse
import shlex
import subprocess
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
        "cpus-per-task=8", "gpus-per-node=2", "time=4:00:00", "signal=B:TERM@120", "requeue",
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nodes", "0"], "--nodes: expected 1 or more"),
        (["--cpus-per-node", "0"], "--cpus-per-node: expected 1 or more"),
        (["--gpus-per-node", "-1"], "--gpus-per-node: expected 0 or more"),
        (["--time", "4h"], "--time 4h: expected"),
        (["--time", "1:00; id"], "--time"),
        (["--data", "none.csv"], "none.csv: no such file or folder"),
        (["--name", "a/b"], "--name a/b: expected letters"),
        (["--name", "a;id"], "--name a;id: expected letters"),
        (["--shared", "shared"], "--shared shared: expected an absolute path"),
        (["--trials", "0"], "budget.trials"),
    ],
)
def test_bad_options(words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        script(*words)
