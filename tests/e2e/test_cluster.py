"""Searches on real Ray clusters, all on this machine, from submission to fetch."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HANG, reviews, write_csv
from driving import trials, unfinished, write_space
from machines import ROOT, Cluster
from optuna.trial import TrialState

pytestmark = pytest.mark.slow
LONG = {"epochs": 400, "batch_size": 8, "report_every": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs for trials and one node, apart from it."""
    if os.geteuid() != 0:
        pytest.skip("a node with a file system of its own needs root")
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("such a node has its own /tmp, and would not see the packages in this one")
    machines = Cluster(cpus=0)
    machines.add()
    yield machines
    machines.close()


def space(cluster: Cluster, name: str, data: Path, **sections: object) -> Path:
    return write_space(cluster.folder / f"{name}.yaml", data, **sections)


def test_from_submission_to_fetch(cluster: Cluster, tmp_path: Path) -> None:
    data = write_csv(cluster.folder / "my shop.csv", reviews(200))
    words = ("--space", space(cluster, "s", data), "--shared", cluster.shared, "--name", "shop")
    done = cluster.submit(*words, "--trials", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    sent, *log = done.stdout.splitlines()
    run = cluster.shared / "results" / "shop"
    assert re.fullmatch(rf"job shop: 0\.\d MB sent with the data, run {run}", sent)
    assert any("val_accuracy" in line for line in log)
    assert "fetch shop" in log[-1]
    assert "entrypoint" not in done.stdout
    assert done.stderr == ""
    assert len(trials(run)) == 3

    to = tmp_path / "home"
    fetched = cluster.submit("fetch", "shop", "--to", to)
    assert fetched.returncode == 0, fetched.stderr
    assert {path.name for path in to.iterdir()} >= {"best", "study.journal", "trials.parquet"}
    predicted = cluster.run("lstmcls.predict", to / "best", "good box")
    assert predicted.returncode == 0, predicted.stderr
    assert "not empty" in cluster.submit("fetch", "shop", "--to", to).stderr

    # The same again: the search had ended, a larger budget goes on with it, as another job.
    more = cluster.submit(*words, "--trials", 4)
    assert more.returncode == 0, more.stderr
    assert more.stdout.startswith("job shop-2: ")
    assert len(trials(run)) == 4
    other = cluster.submit(*words, "--trials", 4, "--seed", 9)
    assert other.returncode == 2
    assert "holds a search that differs in seed" in other.stdout

    listed = cluster.submit("list").stdout.splitlines()
    assert [line.split(",")[0] for line in listed] == [
        "shop: succeeded", "shop-2: succeeded", "shop-3: failed",
    ]  # fmt: skip
    assert cluster.submit("status", "shop").stdout.startswith("shop: succeeded, sent 2")
    assert "no such search" in cluster.submit("logs", "shopp").stderr


def test_a_job_outlives_its_client_and_stop_saves(cluster: Cluster, prepared_folder: Path) -> None:
    words = (
        *("--space", space(cluster, "long", prepared_folder, fixed=LONG, budget={"trials": 1})),
        *("--shared", cluster.shared, "--name", "long"),
    )
    assert cluster.submit(*words, "--detach").returncode == 0
    cluster.until(lambda: cluster.log("long").count(" epoch ") > 3, "reports")
    again = cluster.submit(*words)
    assert again.returncode == 2
    assert "--name long: is at work" in again.stderr
    stopped = cluster.submit("stop", "long")
    assert stopped.returncode == 0, stopped.stderr
    assert "goes on with it" in stopped.stdout
    assert "interrupted; resume with" in cluster.log("long")
    assert cluster.submit("logs", "long").returncode == 130
    run = cluster.shared / "results" / "long"
    (trial,) = unfinished(run)
    assert trial.state == TrialState.WAITING
    known = len(trial.intermediate_values)
    assert cluster.submit(*words, "--detach").returncode == 0
    cluster.until(lambda: cluster.log("long-2").count(" epoch ") > 3, "more reports")
    assert "1 unfinished trials go on" in cluster.log("long-2")
    cluster.submit("stop", "long-2")
    (trial,) = unfinished(run)
    assert sorted(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
    assert len(trial.intermediate_values) > known


def test_without_the_token_there_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    for environment, says in (
        ({"RAY_AUTH_TOKEN": "1" * 64}, "the cluster does not take this token"),
        ({"HOME": str(tmp_path)}, "no token; put the cluster's into ~/.ray/auth_token"),
    ):
        refused = cluster.submit("list", **environment)
        assert refused.returncode == 2
        assert refused.stdout == ""
        (line,) = refused.stderr.splitlines()
        assert says in line


def test_a_search_from_inside(cluster: Cluster, prepared_folder: Path) -> None:
    inside = space(cluster, "inside", prepared_folder, budget={"trials": 2})
    run = cluster.shared / "results" / "inside"
    words = ("--space", inside, "--out", run, "--address", cluster.address)
    done = cluster.run("tune.search", *words)
    assert done.returncode == 0, done.stderr
    assert len(trials(run)) == 2
    for environment in ({"RAY_AUTH_TOKEN": "1" * 64}, {"HOME": "/nowhere"}):
        refused = cluster.run(
            "tune.search", *words[:2], "--address", cluster.address, **environment
        )
        assert refused.returncode == 2
        *progress, line = refused.stderr.splitlines()
        assert line.startswith(f"error: --address {cluster.address}: ")
        assert [text.split(" ", 1)[1] for text in progress] == [f"joining Ray at {cluster.address}"]
    nobody = cluster.run("tune.search", *words[:2], "--address", "127.0.0.1:9")
    assert nobody.returncode == 2
    assert "Connection refused" in nobody.stderr


def test_nodes_come_and_go(cluster: Cluster, prepared_folder: Path) -> None:
    to_the_end = {"fixed": LONG, "budget": {"trials": 3}, "asha": "off"}
    words = ("--space", space(cluster, "wide", prepared_folder, **to_the_end))
    words = (*words, "--shared", cluster.shared, "--name", "wide", "--concurrency", 3)
    cluster.submit(*words, "--set", "epochs=150", "--detach")
    cluster.until(lambda: "trial 0 epoch" in cluster.log("wide"), "a report")
    assert "trial 1 " not in cluster.log("wide")
    node = cluster.add(cpus=2)
    cluster.until(lambda: "3 trials at once" in cluster.log("wide"), "room for more")
    for number in (1, 2):
        cluster.until(
            lambda n=number: cluster.log("wide").count(f"trial {n} epoch") > 3,  # type: ignore[misc]
            "trials on the new node",
        )
    cluster.kill(node)
    cluster.until(lambda: cluster.log("wide").count("node lost: ") == 2, "the loss")
    assert cluster.submit("logs", "wide").returncode == 0, cluster.log("wide")
    log = cluster.log("wide")
    assert "1 trials at once" in log
    assert "goes on from epoch" not in log  # each from its newest checkpoint
    run = cluster.shared / "results" / "wide"
    for trial in trials(run):
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert trial.user_attrs.get("attempts", 1) == 1


def test_a_node_that_does_not_share_the_folder(cluster: Cluster, prepared_folder: Path) -> None:
    words = ("--space", space(cluster, "apart", prepared_folder, fixed=LONG))
    words = (*words, "--shared", cluster.shared, "--concurrency", 2, "--name")
    cluster.submit(*words, "late", "--detach")
    cluster.until(lambda: "trial 0 epoch" in cluster.log("late"), "a report")
    node = cluster.add(cpus=1, shares=False)
    late = cluster.submit("logs", "late")
    assert late.returncode == 1
    assert "failed: storage not shared: no " in late.stdout
    assert {trial.state for trial in unfinished(cluster.shared / "results" / "late")} == {
        TrialState.WAITING
    }
    early = cluster.submit(*words, "early")
    assert early.returncode == 2
    assert re.search(r"error: \S+/results/early: node \S+ \(127\S+\) does not see it", early.stdout)
    cluster.kill(node)
    assert cluster.submit(*words, "early", "--trials", 1, "--set", "epochs=1").returncode == 2


# On a node whose GPUs are pretended, CUDA is too: what its trials would do there they do on CPUs.
PRETENCE = """\
import builtins, sys
real = builtins.__import__
def pretending(name, *rest, **more):
    module = real(name, *rest, **more)
    if hasattr(trial := sys.modules.get("tune.trial"), "train_trial"):
        trial._device = lambda gpus, context: "cpu"
    return module
builtins.__import__ = pretending
"""


def test_gpus_on_some_nodes(prepared_folder: Path) -> None:
    machines = Cluster(cpus=0)
    try:
        machines.add(cpus=2)
        pretence = machines.shared / "pretence"
        pretence.mkdir()
        (pretence / "sitecustomize.py").write_text(PRETENCE)
        machines.cluster_environment["PYTHONPATH"] = str(pretence)
        machines.add(cpus=2, gpus=1)
        mixed = space(machines, "mixed", prepared_folder, budget={"trials": 3})
        words = ("--space", mixed, "--shared", machines.shared, "--name", "mixed")
        done = machines.submit(*words, "--gpus-per-trial", 1)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 of 3 nodes have no GPU for a trial and stay idle" in done.stdout
        # On the other node each would have found no CUDA.
        run = machines.shared / "results" / "mixed"
        assert len(trials(run)) == 3
        assert {t.state for t in trials(run)} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert all(t.user_attrs.get("attempts", 1) == 1 for t in trials(run))
        refused = machines.submit(*words[:-1], "more", "--gpus-per-trial", 2)
        assert refused.returncode == 2
        assert "a trial wants 2 GPUs, no node has more than 1" in refused.stdout
    finally:
        machines.close()


# On that node no trial can begin, or no trial comes to its first report.
BROKEN = """\
import builtins, os, sys, time
real = builtins.__import__
def begin(*order):
    if os.path.exists("{shared}/hang"):
        open("{shared}/hanging", "w").close()
        time.sleep(1000)
    raise RuntimeError("no driver here")
def breaking(name, *rest, **more):
    module = real(name, *rest, **more)
    if hasattr(trial := sys.modules.get("tune.trial"), "train_trial"):
        trial._train = begin
    return module
builtins.__import__ = breaking
"""


def test_a_bad_node_and_one_that_is_lost_early(prepared_folder: Path) -> None:
    machines = Cluster(cpus=0)
    try:
        machines.add(cpus=1)
        broken = machines.shared / "broken"
        broken.mkdir()
        (broken / "sitecustomize.py").write_text(BROKEN.format(shared=machines.shared))
        machines.cluster_environment["PYTHONPATH"] = str(broken)
        bad = machines.add(cpus=1)
        words = ("--space", space(machines, "bad", prepared_folder, budget={"trials": 6}))
        words = (*words, "--shared", machines.shared, "--concurrency", 2, "--name")
        done = machines.submit(*words, "bad")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "error: RuntimeError: no driver here; tried again on another node" in done.stdout
        assert "gets no more trials: they fail there" in done.stdout
        found = trials(machines.shared / "results" / "bad")
        assert len(found) == 6
        assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert sum(trial.user_attrs.get("attempts", 1) == 2 for trial in found) in (2, 3)

        (machines.shared / "hang").touch()
        machines.submit(*words, "lost", "--set", "epochs=100", "--detach")
        machines.until((machines.shared / "hanging").exists, "a trial without a report")
        machines.until(lambda: " epoch " in machines.log("lost"), "a report of the other")
        machines.kill(bad)
        assert machines.submit("logs", "lost").returncode == 0, machines.log("lost")
        assert machines.log("lost").count("node lost: ") == 1
        for trial in trials(machines.shared / "results" / "lost"):
            assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            assert "attempts" not in trial.user_attrs
    finally:
        machines.close()


def test_the_head_is_lost(cluster: Cluster, prepared_folder: Path) -> None:
    machines = Cluster(cpus=1)
    try:
        lost = space(machines, "lost", prepared_folder, fixed=LONG, budget={"trials": 1})
        words = ("--space", lost, "--shared", machines.shared, "--name", "lost")
        machines.submit(*words, "--detach")
        machines.until(lambda: machines.log("lost").count(" epoch ") > 3, "reports")
        machines.kill(machines.head)
        (trial,) = unfinished(machines.shared / "results" / "lost")
        machines.start_head(cpus=1)
        machines.submit(*words, "--detach")
        machines.until(lambda: machines.log("lost").count(" epoch ") > 3, "more reports")
        assert "1 unfinished trials go on" in machines.log("lost")
        (again,) = unfinished(machines.shared / "results" / "lost")
        assert again.params == trial.params
        assert len(again.intermediate_values) > len(trial.intermediate_values)
    finally:
        machines.close()


SRUN = """\
#!{python}
# In place of Slurm's: one process for each node of the job, all here.
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
tasks = [
    subprocess.Popen(words, env={{**os.environ, "SLURM_NODEID": str(k)}})
    for k in range(int(os.environ["SLURM_NNODES"]))
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


def test_a_slurm_job_goes_on_after_its_time_limit(
    cluster: Cluster, prepared_folder: Path, tmp_path: Path
) -> None:
    stand_ins = {
        "srun": SRUN.format(python=sys.executable),
        "scontrol": f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol\n',
        "hostname": "#!/bin/sh\necho 127.0.0.1 ::1\n",
    }
    (tmp_path / "bin").mkdir()
    for name, text in stand_ins.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    job = str(random.randrange(10**6, 10**7))
    environment = {
        **cluster.cluster_environment,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": job, "SLURM_NNODES": "2",
    }  # fmt: skip
    long = space(cluster, "slurm", prepared_folder, fixed={**LONG, "epochs": 60}, asha=False)
    words = ("slurm", "--nodes", 2, "--cpus-per-node", 1, "--time", "10:00", "--name", "slurm")
    words = (*words, "--shared", tmp_path, "--space", long, "--trials", 4)
    written = cluster.run("tune.submit", *words)
    assert written.returncode == 0, written.stderr
    (tmp_path / "slurm.sbatch").write_text(written.stdout)

    def start() -> subprocess.Popen[bytes]:
        with open(tmp_path / "slurm.log", "ab") as log:
            return subprocess.Popen(
                ["bash", str(tmp_path / "slurm.sbatch")],
                cwd=tmp_path, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def log() -> str:
        return (tmp_path / "slurm.log").read_text(encoding="utf-8")

    run = tmp_path / "results" / "slurm"
    both = {"trial 0 epoch", "trial 1 epoch"}
    # Slurm's notice of the time limit, then scancel.
    for sitting, number in enumerate((signal.SIGUSR1, signal.SIGTERM), start=1):
        job_script, said = start(), len(log())
        cluster.until(
            lambda said=said: both <= set(re.findall(r"trial \d epoch", log()[said:])),
            f"reports of both in sitting {sitting}",
            tmp_path / "slurm.log",
        )
        job_script.send_signal(number)
        assert job_script.wait(HANG) == 130, log()
        assert (tmp_path / "scontrol").read_text() == f"requeue {job}\n"
        assert {trial.state for trial in unfinished(run)} == {TrialState.WAITING}
        assert not Path(f"/tmp/ray-{job}").exists()
    assert start().wait(HANG) == 0, log()
    assert "unfinished trials go on" in log()
    assert [trial.state for trial in trials(run)] == [TrialState.COMPLETE] * 4
    assert not Path(f"/tmp/ray-{job}").exists()
