"""A run's folder: the names of its files, and the lock that keeps a second driver out.

Of a run in an object store it is the driver's copy, and `.store` in it says of what.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lstmcls.cli import BadInput
from tune.store import Store

RESULTS = Path("results")
LOCK, STORE = ".lock", ".store"
FIRST_FILES = frozenset({LOCK, STORE, "space.yaml", "search.log"})  # there before the study is


@dataclass(frozen=True)
class RunFolder:
    """`results/NAME/`; see the README there for what each file is."""

    path: Path
    # Of a new run: what this process alone has written, until there is a study.
    own: Set[str] = field(default=frozenset(), compare=False)
    made: bool = field(default=False, compare=False)  # the folder too

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
        path = self.path / STORE
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def set_origin(self, uri: str) -> None:
        content = f"{uri}\n{secrets.token_hex(8)}\n"
        (self.path / STORE).write_text(content, encoding="utf-8")

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
        """Delete what a new run wrote before its study began; bad input leaves nothing behind."""
        if self.journal.exists():
            return
        for name in self.own:
            (self.path / name).unlink(missing_ok=True)
        if self.made:
            with suppress(OSError):  # the user has put something into it
                self.path.rmdir()

    @property
    def holder(self) -> str:
        """Whose lock it is or was last, as a message names it."""
        path = self.path / LOCK
        content = path.read_text(encoding="utf-8") if path.exists() else ""
        *host, pid = content.split() or ["unknown"]
        return f"process {pid}{' on ' * bool(host)}{' '.join(host)}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; the system lets go when the process ends, however it ends.

        Raises:
            BadInput: another driver holds it, or the file system has no locks.
        """
        with open(self.path / LOCK, "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput(
                    f"{self.path}: another search is writing here ({self.holder}); "
                    "wait for it or stop it"
                ) from None
            except OSError as error:
                self.take_back()
                raise BadInput(
                    f"{self.path}: cannot be locked ({error.strerror}); mount its file system with "
                    "locks (Lustre: -o flock, not localflock), or put the run on another"
                ) from None
            lock.truncate(0)
            lock.write(f"{socket.gethostname()} {os.getpid()}")
            lock.flush()
            yield


def new_run(space_name: str, out: Path | None, space: Path | None = None) -> RunFolder:
    """Make the folder of a new run: `out`, or results/SPACE-DATE-TIME.

    `space`: the file that the space was read from; the run writes one of its own.

    Raises:
        BadInput: `out` holds something already.
    """
    there: set[str] = set()
    if out is None:
        stem = f"{space_name}-{datetime.now():%Y%m%d-%H%M%S}"
        names = [stem, *(f"{stem}-{k}" for k in range(2, 100))]
        out = next(RESULTS / name for name in names if not (RESULTS / name).exists())
    elif (out / "study.journal").exists():
        raise BadInput(f"{out}: holds a search; go on with --resume {out}, or name another --out")
    elif space is not None and space.resolve().is_relative_to(out.resolve()):
        raise BadInput(f"{out}: is where --space {space} lies, which stays as it is; "
                       "name another --out")  # fmt: skip
    elif out.exists():
        there = {path.name for path in out.iterdir()} if out.is_dir() else {"a file"}
        if there and not left_early(there, FIRST_FILES):
            raise BadInput(f"{out}: exists and is not empty; name another --out")
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({error.strerror})") from None
    return RunFolder(out, FIRST_FILES - there, made)


def left_early(names: Set[str], first: Set[str]) -> bool:
    """Whether `names` are what a search that died before its study began left in a folder.

    Its lock is its mark: without one a space.yaml is the user's own. `first`: what may be there.
    """
    return names <= first and (LOCK in names or names <= {STORE})


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
