"""A run's folder: the names of its files, and the lock that keeps a second driver out.

Of a run in an object store it is the driver's copy, and `.store` in it says of what.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lstmcls.cli import BadInput
from tune.store import Store

RESULTS = Path("results")
FIRST_FILES = {".lock", ".store", "space.yaml", "search.log"}  # there before the study is


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
    def data(self) -> Path:
        return self.path / "data"

    @property
    def origin(self) -> str | None:
        """The URI of the run in an object store, of which this folder is a copy."""
        return self._store_file[0] if self._store_file else None

    @property
    def key(self) -> str | None:
        """What tells this copy from all others."""
        return self._store_file[1] if self._store_file else None

    @property
    def _store_file(self) -> list[str]:
        path = self.path / ".store"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def set_origin(self, uri: str) -> None:
        content = f"{uri}\n{secrets.token_hex(8)}\n"
        (self.path / ".store").write_text(content, encoding="utf-8")

    @property
    def named(self) -> str:
        """What `--resume` takes, on other machines too where that can be."""
        return self.origin or str(self.path)

    @property
    def store(self) -> Store:
        """Where all nodes see the run."""
        return Store(self.origin or str(self.path.resolve()))

    @property
    def checkpoints(self) -> Store:
        return self.store / "checkpoints"

    def take_back(self) -> None:
        """Delete what a new run left before its study began; bad input leaves nothing behind."""
        if not self.journal.exists():
            for name in FIRST_FILES:
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):  # the user's own files
                self.path.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; the system lets go when the process ends, however it ends.

        Raises:
            BadInput: another driver holds it, or the file system has no locks.
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
            except OSError as error:
                self.take_back()
                raise BadInput(
                    f"{self.path}: cannot be locked ({error.strerror}); mount its file system with "
                    "locks (Lustre: -o flock), or put the run on another"
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
    elif out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - FIRST_FILES):
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
