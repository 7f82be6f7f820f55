"""A run's folder: the names of its files, and the lock that keeps a second driver out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lstmcls.cli import BadInput

RESULTS = Path("results")
_FIRST_FILES = {".lock", "space.yaml", "search.log"}  # there before the study is


@dataclass(frozen=True)
class RunFolder:
    """`results/NAME/`; see the README there for what each file is."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def space(self) -> Path:
        return self.path / "space.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def trials(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def reports(self) -> Path:
        return self.path / "reports.parquet"

    @property
    def best_config(self) -> Path:
        return self.path / "best.yaml"

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        return self.path / "search.log"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def take_back(self) -> None:
        """Delete what a new run left before its study began; bad input leaves nothing behind."""
        if not self.journal.exists():
            for name in _FIRST_FILES:
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):  # the user's own files
                self.path.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; the system lets go when the process ends, however it ends.

        Raises:
            BadInput: another driver holds it.
        """
        with open(self.path / ".lock", "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise BadInput(
                    f"{self.path}: another search is writing here (process {lock.read().strip()});"
                    " wait for it or stop it"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield


def new_run(space_name: str, out: Path | None) -> RunFolder:
    """Make the folder of a new run: `out`, or results/SPACE-DATE-TIME.

    Raises:
        BadInput: `out` holds something already.
    """
    if out is None:
        stem = f"{space_name}-{datetime.now():%Y%m%d-%H%M%S}"
        names = [stem, *(f"{stem}-{k}" for k in range(2, 100))]
        out = next(RESULTS / name for name in names if not (RESULTS / name).exists())
    elif (out / "study.journal").exists():
        raise BadInput(f"{out}: holds a search; go on with --resume {out}, or name another --out")
    elif out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - _FIRST_FILES):
        raise BadInput(f"{out}: exists and is not empty; name another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({error.strerror})") from None
    return RunFolder(out)


def existing_run(path: Path) -> RunFolder:
    """The run in `path`.

    Raises:
        BadInput: there is none.
    """
    run = RunFolder(path)
    missing = [p.name for p in (run.space, run.journal) if not p.is_file()]
    if missing:
        raise BadInput(f"{path}: not the folder of a search ({', '.join(missing)} missing)")
    return run
