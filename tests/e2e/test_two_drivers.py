"""A file system whose locks do not reach from node to node: two drivers on one run."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

from conftest import ROOT
from driving import Driver, trials, write_space

# As `mount -o nolock` on NFS and `-o localflock` on Lustre have it, seen from two nodes.
LOCAL_LOCKS = "import fcntl\nfcntl.flock = lambda *given: None\n"
REPORTED = 7  # Optuna's code for such a line of a journal


def test_one_of_two_drivers_stops_and_no_trial_is_doubled(
    tmp_path: Path, prepared_folder: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOCAL_LOCKS)
    path = f"{tmp_path}:{ROOT}"
    run = tmp_path / "run"
    space = write_space(
        tmp_path / "space.yaml",
        prepared_folder,
        fixed={"epochs": 12},
        asha=False,
        budget={"trials": 3},
    )
    first = Driver(tmp_path, "--space", space, "--out", run, PYTHONPATH=path)
    first.until(
        lambda: (
            (run / "study.journal").exists() and any(t.intermediate_values for t in trials(run))
        ),
        "a report",
    )
    first.process.send_signal(signal.SIGSTOP)  # so that it does not end before the other begins
    second = Driver(tmp_path, "--resume", run, PYTHONPATH=path)
    second.until(lambda: " epoch " in second.err, "a report")
    first.process.send_signal(signal.SIGCONT)
    drivers = [first, second]
    statuses = [driver.wait() for driver in drivers]
    assert sorted(statuses) == [0, 1], first.err + second.err
    late, other = drivers[statuses.index(1)], drivers[statuses.index(0)]
    last = late.err.splitlines()[-1]
    assert last.startswith(f"failed: {run}: another search or program writes here too"), late.err
    assert late is second or f"process {other.process.pid} on " in last
    assert "Traceback" not in first.err + second.err
    lines = [json.loads(line) for line in (run / "study.journal").read_bytes().splitlines()]
    reports = Counter((x["trial_id"], x["step"]) for x in lines if x["op_code"] == REPORTED)
    assert len(reports) == 3 * 12
    assert set(reports.values()) == {1}
    assert [trial.state.name for trial in trials(run)] == ["COMPLETE"] * 3
