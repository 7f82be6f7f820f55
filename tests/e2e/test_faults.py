"""Faults during a search, each made for real."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from driving import (
    Driver,
    check_interrupted,
    in_a_terminal,
    reports,
    search,
    trials,
    unfinished,
    write_space,
)
from optuna.trial import TrialState

LONG = {"epochs": 400, "batch_size": 8, "report_every": 1, "first_report": 1}
ALONE = {"concurrency": 1}  # where one worker shows it: each takes seconds to start


def test_a_lost_terminal_ends_the_search_in_order(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "s.yaml", prepared_folder, fixed=LONG)
    run = tmp_path / "run"
    driver, terminal = in_a_terminal(tmp_path, "--space", space, "--out", run)
    try:
        driver.until(lambda: reports(run) > 4, "reports")
        terminal.set()
        assert driver.wait() == 130
    finally:
        terminal.set()
    assert {t.state for t in unfinished(run)} == {TrialState.WAITING}
    assert (run / "best" / "model.safetensors").is_file()
    assert "Traceback" not in (run / "search.log").read_text(encoding="utf-8")


@pytest.mark.slow  # test_stop.py has it without a search
def test_under_nohup_the_search_outlives_its_terminal(
    prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(tmp_path / "s.yaml", prepared_folder, budget={"trials": 3}, resources=ALONE)
    driver = Driver(tmp_path, "--space", space, "--out", "run", prefix=("nohup",))
    driver.until(lambda: " epoch " in driver.err, "a report")
    driver.signal(signal.SIGHUP)
    assert driver.wait() == 0, driver.err
    assert not unfinished(tmp_path / "run")


def test_a_second_signal_stops_at_once(prepared_folder: Path, tmp_path: Path) -> None:
    # Reports that take long, so that the first signal alone would wait for them.
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"epochs": 4000, "batch_size": 1, "report_every": 1000, "first_report": 1000},
        resources=ALONE,
        asha=False,
    )
    driver = Driver(tmp_path, "--space", space, "--out", "run")
    driver.until(lambda: driver.named("ray::ImplicitFunc.train"), "a worker at its trial")
    driver.signal(signal.SIGINT)
    driver.until_said("interrupted: ")
    driver.signal(signal.SIGINT)
    assert driver.wait() == 130, driver.err
    assert "--resume" in (driver.out + driver.err)
    assert not [t for t in trials(tmp_path / "run") if t.state == TrialState.RUNNING]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    "large",
    # test_searcher.py has that of the journal without a search.
    [
        pytest.param(True, id="checkpoints"),
        pytest.param(False, id="journal", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_stops_the_search_and_loses_nothing(
    large: bool, small_disk: Path, prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        space={"hidden_size": {"int": [256, 260], "step": 4}} if large else {},
        fixed={"epochs": 4 if large else 120, "report_every": 1, "first_report": 1},
        budget={"trials": 2},
        resources=ALONE,
        asha=False,
    )
    run = small_disk / "run"
    driver = Driver(tmp_path, "--space", space, "--out", run)
    driver.until(lambda: (run / "study.journal").exists(), "the journal")
    filler = small_disk / "filler"
    if not large:
        driver.until(lambda: driver.err.count(" epoch ") > 3, "reports")
        with suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
    assert driver.wait() == 1, driver.err
    assert "failed: disk full" in driver.err
    assert "Traceback" not in driver.err
    before = [t.params for t in trials(run)]
    filler.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    resumed = search(tmp_path, "--resume", run)
    assert resumed.process.returncode == 0, resumed.err
    assert [t.params for t in trials(run)][: len(before)] == before
    assert not unfinished(run)
    assert not [t for t in trials(run) if t.state == TrialState.FAIL]


def test_damaged_checkpoints_are_passed_over_and_one_signal_saves(
    prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={**LONG, "epochs": 4000},  # neither ends before the other has begun
        budget={"trials": 2},
        asha=False,
    )
    run = tmp_path / "run"
    driver = Driver(tmp_path, "--space", space, "--out", run)

    def two_deep() -> list[Path]:
        folders = run.glob("checkpoints/search-*")
        return [f for f in folders if len(list(f.glob("*.pt"))) == 2]

    driver.until(lambda: len(two_deep()) == 2, "two checkpoints of two trials")
    os.killpg(driver.process.pid, signal.SIGKILL)
    driver.process.wait()
    while driver.workers():  # which write checkpoints until they notice
        time.sleep(0.1)
    known = [len(trial.intermediate_values) for trial in trials(run)]
    one, both = two_deep()
    newest = max(one.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    for path in both.glob("*.pt"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    resumed = Driver(tmp_path, "--resume", run)

    def both_went_on() -> bool:
        return all(len(t.intermediate_values) > k for t, k in zip(trials(run), known, strict=True))

    resumed.until(both_went_on, "new reports of both")
    resumed.signal(signal.SIGINT)  # test_resume.py sends SIGTERM, during a confirmation
    assert resumed.wait() == 130, resumed.err
    check_interrupted(resumed, run)
    assert {trial.state for trial in unfinished(run)} == {TrialState.WAITING}
    driver.assert_gone()
    assert resumed.err.count("is damaged") == 3
    assert "goes on from epoch 0" in resumed.err
    for trial in trials(run):
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))


def test_budgets(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "s.yaml", prepared_folder, fixed=LONG, resources=ALONE)
    target = search(tmp_path, "--space", space, "--out", "target", "--target", 0.1)
    assert target.process.returncode == 0, target.err
    assert "target reached" in target.err
    assert len(trials(tmp_path / "target")) <= 2
    minutes, none = 0.01, "no trial came to its first report within the budget"
    short = search(tmp_path, "--space", space, "--out", "short", "--minutes", minutes)
    assert short.process.returncode == 1
    assert none in short.err
    minutes = 0.15
    while none in short.err:  # more often than once on a machine that is busy
        minutes *= 2
        short = search(tmp_path, "--resume", "short", "--minutes", minutes)
    assert short.process.returncode == 0, short.err
    (cut,) = unfinished(tmp_path / "short")
    assert cut.user_attrs["stopped"] == "time is up"
    assert "1 cut short" in short.err
    again = search(tmp_path, "--resume", "short")
    assert f"its part of the {minutes:g} minutes is over" in again.err
    assert "unfinished trials go on" not in again.err
    longer = Driver(tmp_path, "--resume", "short", "--minutes", 100 * minutes)
    longer.until_said(f"trial {cut.number} epoch {len(cut.intermediate_values) + 1}/")
    longer.signal(signal.SIGINT)
    assert longer.wait() == 130, longer.err
