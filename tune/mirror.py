"""A run in an object store: the driver works in a folder here and mirrors it there.

Checkpoints are written there by the workers. All else is here first, and there some seconds
later, the study's journal too: so nothing is deleted there before the journal that says why has
arrived. One driver a run: `.lock` there names the folder that owns it, for as long as it is fresh.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePath, PurePosixPath

from lstmcls.cli import BadInput, RunFailed
from lstmcls.files import replacing_folder
from lstmcls.prepare import OWN_FILES
from tune.run_folder import FIRST_FILES, LOCK, RESULTS, RunFolder, left_early
from tune.store import Store, StoreFault, is_uri, open_store

EVERY = 10.0  # seconds between two mirrorings
FRESH = timedelta(seconds=60)  # what a driver's lock is good for; it is written anew each EVERY
_BEFORE_THE_STUDY = {*FIRST_FILES, "data", "checkpoints"}


def at_home(args: argparse.Namespace) -> Store | None:
    """Make --out or --resume, where it names a run in an object store, the run's folder here.

    Returns:
        Where the run lies; None where it lies in no store.

    Raises:
        BadInput: the store or the run cannot be used.
    """
    option = "out" if args.resume is None else "resume"
    place = getattr(args, option)
    uri = place if place is None or is_uri(place) else RunFolder(place).origin
    if uri is None:
        return None
    store = open_store(uri)
    folder = RunFolder(RESULTS / store.name if is_uri(place) else place)
    try:
        begun = folder.journal.exists() or "study.journal" in store.names()
        if option == "resume" or (args.auto_resume and begun):
            bring_home(store, folder)
        else:
            check_new(store)
    except (StoreFault, OSError) as fault:
        raise BadInput(str(fault)) from None
    setattr(args, option, folder.path)
    return store


def check_new(store: Store) -> None:
    """
    Raises:
        BadInput: there is a run in `store`, or something else.
    """
    names = set(store.names())
    if "study.journal" in names:
        raise BadInput(f"{store}: holds a search; go on with --resume {store.place}")
    if names and not left_early(names, _BEFORE_THE_STUDY):
        raise BadInput(f"{store}: is not empty; name another --out")


def bring_home(store: Store, folder: RunFolder) -> None:
    """Make `folder` a copy of the run in `store`, unless it is one that is as far or further.

    Raises:
        BadInput: no run there, another one in `folder`, or another driver is at work.
    """
    require_free(store, folder)
    there, here = None, None
    if "study.journal" in store.names():
        there = _whole_lines(store.read("study.journal"))
    if folder.origin == store.place and folder.journal.exists():
        here = _whole_lines(folder.journal.read_bytes())
        if here.startswith(there or b""):
            return  # its driver died before it had mirrored all of it
    if there is None:
        raise BadInput(f"{store}: not the folder of a search (study.journal missing)")
    if here is not None and not there.startswith(here):
        raise BadInput(
            f"{folder.path}: the search went on here, and from {store} elsewhere too; move the "
            "folder away to go on with the other"
        )
    if folder.origin != store.place and folder.path.exists() and any(folder.path.iterdir()):
        raise BadInput(f"{folder.path}: is another run than {store}; move it away")
    with replacing_folder(folder.path) as new:
        copy_run(store, new)
        _keep_others(folder.path, new)
        RunFolder(new).set_origin(store.place)


def _keep_others(old: Path, new: Path) -> None:
    """Copy what only the `old` folder has to the `new` one: a user may have put it there."""
    for path in old.iterdir() if old.exists() else ():
        if path.is_dir() and not (new / path.name).exists():
            shutil.copytree(path, new / path.name)
        elif not (new / path.name).exists():
            shutil.copy2(path, new / path.name)


def copy_run(store: Store, folder: Path) -> None:
    """Copy the run in `store`, less its checkpoints, to the folder."""
    for name in store.files():
        path = PurePosixPath(name)
        if not _hidden(path) and path.parts[0] != "checkpoints":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(store.read(name))


def _hidden(name: PurePath) -> bool:
    """Whether a part of it begins with a dot, as those that lead out of a folder do."""
    return any(part.startswith(".") for part in name.parts)


def _whole_lines(journal: bytes) -> bytes:
    return journal[: journal.rfind(b"\n") + 1]


def require_free(store: Store, folder: RunFolder) -> None:
    """
    Raises:
        BadInput: the driver of another folder than this one is at work on the run.
    """
    try:
        key, *holder = store.read(LOCK).decode().split()
    except FileNotFoundError:
        return
    if key == folder.key:
        return  # its driver is dead: flock says so
    clock = f".clock-{secrets.token_hex(4)}"
    store.write(clock, b"")
    written = store.written()  # both by the store's clock, whatever those of the drivers say
    store.delete(clock)
    age = written[clock] - written.get(LOCK, written[clock] - FRESH)
    if age < FRESH:
        raise BadInput(
            f"{store}: another search is writing there (process {' of '.join(holder)}, "
            f"{age.seconds} s ago); wait for it or stop it; of one that died, another may take "
            f"over after {FRESH.seconds} s"
        )


class Mirror:
    """Keeps a run's place in a store up with its folder here, from a thread."""

    def __init__(self, folder: RunFolder, data: Path, say: Callable[[str], None]) -> None:
        """
        Raises:
            BadInput: another driver is at work on the run.
            StoreFault: the store does not take its lock.
        """
        self.lost: str | None = None  # why this driver must stop: another has taken over
        self._folder, self._store, self._data, self._say = folder, folder.store, data, say
        self._key = folder.key  # the folder itself is taken back where the run cannot begin
        self._sent: dict[str, tuple[int, int]] = {}
        self._later: list[Callable[[], None]] = []
        self._fault: str | None = None
        self._held = 0.0
        self._store.make(parents=True)
        require_free(self._store, folder)
        self._store.write(LOCK, self._claim())
        self._data_names = [] if "dataset.json" in (self._store / "data").names() else _data(data)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def afterwards(self, task: Callable[[], None]) -> None:
        """Do `task` once the journal, as it is now, has arrived; it may be done twice."""
        self._later.append(task)

    def close(self) -> str | None:
        """Mirror all and let go of the run; why not, where that could not be done."""
        self._ended.set()
        self._thread.join()
        self._try()
        if self.lost is None:
            with suppress(StoreFault, OSError):
                self._store.delete(LOCK)
        return self.lost or self._fault

    def _work(self) -> None:
        while not self._ended.wait(EVERY):
            before = self._fault
            self._try()
            if self._fault and not before:
                self._say(f"{self._fault}; tried again every {EVERY:g} s")

    def _try(self) -> None:
        try:
            self._mirror()
            self._fault = None
        except (StoreFault, OSError) as error:
            self._fault = str(error)

    def _mirror(self) -> None:
        self._hold()
        if self.lost or not self._folder.journal.exists():
            return  # a run that has not begun leaves nothing
        tasks = list(self._later)
        for name, path in self._files():
            with suppress(FileNotFoundError):  # best/ is just being replaced
                found = path.stat()
                if self._sent.get(name) != (found.st_mtime_ns, found.st_size):
                    self._send(name, path.read_bytes())
                    self._sent[name] = (found.st_mtime_ns, found.st_size)
        for task in tasks:
            task()
        del self._later[: len(tasks)]

    def _hold(self) -> None:
        """Write the lock anew, unless another driver found it old and has written its own."""
        with suppress(FileNotFoundError):
            if self._store.read(LOCK).decode().split()[0] != self._key:
                self.lost = f"{self._store}: another search has taken over"
                return
        self._store.write(LOCK, self._claim())
        self._held = time.monotonic()

    def _claim(self) -> bytes:
        return f"{self._key} {os.getpid()} {socket.gethostname()}\n".encode()

    def _send(self, name: str, content: bytes) -> None:
        if time.monotonic() > self._held + EVERY:
            self._hold()
        (self._store / str(PurePosixPath(name).parent)).make(parents=True)
        self._store.write(name, content)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """What is to be in the store: the run's files, and its data so that it is whole."""
        root = self._folder.path
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and not _hidden(name) and name.parts[0] != "data":
                yield name.as_posix(), path
        for part in self._data_names:
            yield f"data/{part}", self._data / part


def _data(folder: Path) -> list[str]:
    """The files of a prepared folder; the one that says that all are there is the last."""
    there = {path.name for path in folder.iterdir()} & OWN_FILES
    return [*sorted(there - {"dataset.json"}), "dataset.json"]


@contextmanager
def mirrored(folder: RunFolder, data: Path, say: Callable[[str], None]) -> Iterator[Mirror | None]:
    """Mirror the run while inside, and all of it at the end; None where it lies in no store.

    Raises:
        BadInput: the run cannot be held there.
        RunFailed: not all of it could be mirrored.
    """
    if folder.origin is None:
        yield None
        return
    try:
        mirror = Mirror(folder, data, say)
    except (BadInput, StoreFault, OSError) as fault:
        folder.take_back()
        raise BadInput(str(fault)) from None
    try:
        yield mirror
    except BaseException:
        if (why := mirror.close()) and not mirror.lost:
            say(f"not all is in {folder.origin}: {why}")
        raise
    if why := mirror.close():
        raise RunFailed(
            f"{why}; the run is whole in {folder.path}, and from there "
            f"`python -m tune.search --resume {shlex.quote(str(folder.path))}` mirrors it"
        )
