"""The Slurm script on a real Slurm: `sbatch`, time limits, preemption, `scancel`.

Two nodes of one machine, in namespaces of their own (tests/e2e/slurm_site.py). It needs root and
`apt-get install slurm-wlm munge iproute2`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT
from driving import Driver, facts, trials, unfinished, write_space
from machines import ROOT
from optuna.trial import TrialState
from slurm_site import NEEDED, PATH, Site

pytestmark = pytest.mark.slow
NODES = 2
LONG = {"epochs": 40, "batch_size": 8}  # a trial that is still at work when it is ended


@pytest.fixture(scope="module")
def site(prepared_folder: Path) -> Iterator[Site]:
    """With the prepared data in its shared folder."""
    if os.geteuid() != 0:
        pytest.skip("daemons and namespaces of their own need root")
    if missing := [name for name in NEEDED if shutil.which(name, path=PATH) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (slurm-wlm, munge, iproute2)")
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("a node has its own /tmp, and would not see the packages in this one")
    found = Site(nodes=NODES, cpus=1)
    shutil.copytree(prepared_folder, found.folder / "data")
    yield found
    found.close()


class Job:
    """The job of a search that trains one trial after the other.

    The same search runs beside it on this machine, without Slurm and uninterrupted.
    """

    def __init__(self, site: Site, folder: Path, name: str, **sections: Any) -> None:
        self.site, self.name = site, name
        self.run = site.folder / "results" / name
        sections = {"fixed": LONG, "budget": {"trials": 3}, **sections}
        self.space = write_space(
            site.folder / f"{name}.yaml", site.folder / "data",
            resources={"concurrency": 1}, **sections,
        )  # fmt: skip
        words = ["--nodes", NODES, "--cpus-per-node", 1, "--time", "10:00", "--name", name]
        written = subprocess.run(
            [sys.executable, "-m", "tune.submit", "slurm", *map(str, words),
             "--shared", str(site.folder), "--space", str(self.space)],
            env=ENVIRONMENT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert written.returncode == 0, written.stderr
        (site.folder / f"{name}.sbatch").write_text(written.stdout)
        self.submit()
        self.reference = Driver(folder, "--space", self.space, "--out", folder / "run")

    def submit(self) -> None:
        self.id = self.site.ask("sbatch", "--parsable", f"{self.name}.sbatch")

    def log(self) -> str:
        path = self.site.folder / f"{self.name}-{self.id}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def until_reported(self) -> None:

        def reported() -> bool:
            state = self.site.state(self.id)["JobState"]
            assert state in ("PENDING", "CONFIGURING", "RUNNING"), f"{state}: {self.log()}"
            return " epoch " in self.log()

        self.site.until(reported, f"a report of job {self.id}")

    def until_state(self, state: str) -> None:
        self.site.until(
            lambda: self.site.state(self.id)["JobState"] == state, f"job {self.id} is {state}"
        )

    def start_again(self) -> None:
        """A job that was queued again waits for two minutes, of which Slurm needs a second or two.

        Until then it takes the new sitting's credential for that of the sitting that it ended.
        """
        assert self.site.state(self.id)["Restarts"] == "1"
        self.site.ask("scontrol", "update", f"jobid={self.id}", "starttime=now+3")

    def assert_tidied_up(self) -> None:
        listed = self.site.ask("srun", f"--nodes={NODES}", "ls", "/tmp")
        assert "slurmd" in listed
        assert "ray-" not in listed

    def assert_unfinished(self, *states: TrialState) -> None:
        """One trial, in one of these states; WAITING says that the search has put it back."""
        (trial,) = unfinished(self.run)
        assert trial.state in states

    def assert_ends_as_uninterrupted(self) -> None:
        self.until_state("COMPLETED")
        assert "1 unfinished trials go on" in self.log()
        assert self.reference.wait() == 0, self.reference.err
        expected = trials(self.reference.folder / "run")
        assert [facts(trial) for trial in trials(self.run)] == [facts(trial) for trial in expected]
        self.assert_tidied_up()

    def close(self) -> None:
        self.site.run("scancel", self.id)
        self.reference.end()


@pytest.fixture
def begin(site: Site, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs = []

    def begun(name: str, **sections: Any) -> Job:
        jobs.append(Job(site, tmp_path, name, **sections))
        jobs[-1].until_reported()
        return jobs[-1]

    yield begun
    for job in jobs:
        job.close()


def test_a_job_that_meets_its_time_limit_queues_itself_again(
    site: Site, begin: Callable[..., Job]
) -> None:
    # Slurm looks at its limits every 30 seconds.
    job = begin("long", fixed={**LONG, "epochs": 100}, asha=False)
    # From now on, within the two minutes before it.
    minutes = int(site.state(job.id)["RunTime"].split(":")[1])
    site.ask("scontrol", "update", f"jobid={job.id}", f"timelimit={minutes + 2}")
    job.until_state("PENDING")
    assert "search ends: interrupted" in job.log()
    job.assert_unfinished(TrialState.WAITING)
    job.assert_tidied_up()
    site.ask("scontrol", "update", f"jobid={job.id}", "timelimit=10")
    job.start_again()
    job.assert_ends_as_uninterrupted()


def test_a_preempted_job_goes_on(site: Site, begin: Callable[..., Job]) -> None:
    job = begin("preempted")
    urgent = ("--partition=urgent", f"--nodes={NODES}", "--output=urgent.log", "--wrap=true")
    site.ask("sbatch", "--wait", *urgent)
    job.until_state("PENDING")
    job.assert_tidied_up()
    job.start_again()
    job.assert_ends_as_uninterrupted()


@pytest.mark.parametrize(
    ("words", "state", "left"),
    [([], "CANCELLED", [TrialState.RUNNING, TrialState.WAITING]),
     (["--batch", "--signal=TERM"], "FAILED", [TrialState.WAITING])],
    ids=["cancelled", "stopped"],
)  # fmt: skip
def test_scancel_ends_a_job_and_sbatch_goes_on(
    site: Site,
    begin: Callable[..., Job],
    words: list[str],
    state: str,
    left: list[TrialState],
) -> None:
    job = begin(state.lower())
    site.ask("scancel", *words, job.id)
    job.until_state(state)
    job.assert_unfinished(*left)
    job.assert_tidied_up()
    job.submit()
    job.assert_ends_as_uninterrupted()
