"""Drives `python -m tune.search` as a user does, and finds every process that it started."""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil
import yaml
from conftest import ENVIRONMENT, HANG
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial

MARK = "LSTM_TUNE_E2E"  # in the environment of a search and of all that it starts

SPACE: dict[str, Any] = {
    "space": {
        "lr": {"float": [1e-3, 0.1], "log": True},
        "hidden_size": {"int": [4, 16], "step": 4},
    },
    "fixed": {
        "embedding_dim": 8,
        "batch_size": 32,
        "epochs": 4,
        "report_every": 1,
        "first_report": 1,
    },
    "sampler": {"name": "tpe", "startup_trials": 3},
    "asha": {"grace_epochs": 1, "reduction_factor": 2},
    "budget": {"trials": 6},
    "resources": {"cpu": 1, "gpu": 0, "concurrency": 2},
    "confirm": False,
}


def write_space(path: Path, data: Path, **sections: Any) -> Path:
    """SPACE over `data` as a file; a mapping among `sections` is merged, the rest replaces."""
    space: dict[str, Any] = {**SPACE, "data": str(data)}
    for name, section in sections.items():
        merge = isinstance(section, dict) and isinstance(space.get(name), dict)
        space[name] = {**space[name], **section} if merge else section
    path.write_text(yaml.safe_dump(space), encoding="utf-8")
    return path


def marked(mark: str) -> list[psutil.Process]:
    """Every living process with that mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _takes_the_terminal() -> None:
    """In the new session's first process, whose standard output the terminal is by now."""
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


@contextmanager
def _heard(*numbers: int) -> Iterator[None]:
    """While inside, what is started hears these signals, also where this process ignores them.

    It does under nohup, or in the background of a script.
    """
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class Driver:
    """One `python -m tune.search` in a session of its own, its output in two files."""

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        prefix: tuple[str, ...] = (),
        terminal: int | None = None,
        **environment: str,
    ) -> None:
        """`terminal`: its file descriptor, to write to in place of the two files."""
        self.mark = uuid.uuid4().hex
        self.folder = folder
        self._out, self._err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        heard = _heard(signal.SIGHUP, signal.SIGINT)
        with open(self._out, "wb") as out, open(self._err, "wb") as err, heard:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "tune.search", *map(str, arguments)],
                cwd=folder,
                env={**ENVIRONMENT, **environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=out if terminal is None else terminal,
                stderr=err if terminal is None else terminal,
                start_new_session=True,
                preexec_fn=None if terminal is None else _takes_the_terminal,
            )

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def family(self) -> list[psutil.Process]:
        """Every living process of this search, the driver included."""
        return marked(self.mark)

    def named(self, name: str) -> list[psutil.Process]:
        """The living processes of this search whose command line holds `name`."""
        found = []
        for process in self.family():
            try:
                if name in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        return self.named("ray::ImplicitFunc")

    def until(self, reached: Callable[[], Any], what: str) -> Any:
        """Wait until `reached()` is true, and return what it gave."""
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            if found := reached():
                return found
            if self.process.poll() is not None and not reached():
                raise AssertionError(f"ended before {what}:\n{self.out}{self.err}")
            time.sleep(0.02)
        self.end()
        raise AssertionError(f"hung before {what}:\n{self.out}{self.err}")

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.err, repr(text))

    def signal(self, number: int) -> None:
        """To the whole foreground process group, as a terminal sends it."""
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """The exit status; nothing that the search started may be left a moment later."""
        try:
            status = self.process.wait(HANG)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"hung:\n{self.out}{self.err}") from None
        self.assert_gone()
        return status

    def assert_gone(self) -> None:
        """Of one that was killed, Ray's agent tries for a minute to tell the head."""
        end = time.monotonic() + HANG
        while left := self.family():
            if time.monotonic() > end:
                lines = [f"{p.pid} {' '.join(p.cmdline())[:100]}" for p in left]
                self.end()
                raise AssertionError("left behind: " + "; ".join(lines))
            time.sleep(0.1)

    def end(self) -> None:
        """Kill all that is left, so that one test's fault is not the next one's."""
        for process in self.family():
            process.kill()
        self.process.wait()


def in_a_terminal(folder: Path, *arguments: object) -> tuple[Driver, threading.Event]:
    """A search in a terminal of its own, which is lost when the event is set."""
    here, there = os.openpty()
    lost = threading.Event()

    def show() -> None:
        while not lost.is_set():
            if select.select([here], [], [], 0.05)[0]:
                os.read(here, 65536)
        os.close(here)

    driver = Driver(folder, *arguments, terminal=there)
    os.close(there)
    threading.Thread(target=show, daemon=True).start()
    return driver, lost


def search(folder: Path, *arguments: object, **environment: str) -> Driver:
    """A search from start to end."""
    driver = Driver(folder, *arguments, **environment)
    driver.wait()
    return driver


def trials(run: Path, study: str = "search") -> list[FrozenTrial]:
    """The trials in a run's journal, read as any other program would."""
    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    return optuna.load_study(study_name=study, storage=storage).get_trials()


def reports(run: Path) -> int:
    """How many the search's journal holds, which its driver may be writing."""
    if not (run / "study.journal").exists():
        return 0
    return (run / "study.journal").read_text(encoding="utf-8").count('"intermediate_value"')


def unfinished(run: Path, study: str = "search") -> list[FrozenTrial]:
    return [trial for trial in trials(run, study) if not trial.state.is_finished()]


def check_interrupted(driver: Driver, run: Path) -> None:
    """What one signal leaves: the way to go on, the best so far, and no trial half ended."""
    again = f"interrupted; resume with: python -m tune.search --resume {shlex.quote(str(run))}"
    assert driver.out.strip().splitlines()[-1] == again, driver.out
    for name in ("best/model.safetensors", "trials.parquet", "report.html"):
        assert (run / name).is_file(), name
    assert "Traceback" not in driver.err, driver.err


def facts(trial: FrozenTrial) -> dict[str, Any]:
    """All that a trial is, less when: what a resume may not change."""
    when = ("time", "order", "seconds", "worked")
    reports = {
        key: {k: v for k, v in report.items() if k not in when}
        for key, report in trial.user_attrs.items()
        if key.startswith("report_")
    }
    return {
        "number": trial.number,
        "state": trial.state.name,
        "params": trial.params,
        "value": trial.value,
        "reports": reports,
        "intermediate": trial.intermediate_values,
        "stopped": trial.user_attrs.get("stopped"),
    }
