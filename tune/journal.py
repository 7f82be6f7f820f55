"""The file `study.journal`: a line an event, whole and synced, whatever ends its writer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from lstmcls.cli import BadInput
from tune.run_folder import RunFolder

_PICKLED = ("cma:", "sepcma:", "cmawm:")  # CmaEsSampler's attributes
_OURS: set[str] = set()  # Optuna's names, unique ones, of what has written in this process


class AnotherWriter(OSError):
    """Another search writes the journal: the lock of its folder has not kept that out."""


class _SoleWriter(JournalFileOpenLock):
    """No lock of its own: the run folder's lock already keeps every other driver out."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Journal(JournalFileBackend):
    """Optuna's journal file, with what another process pickled into it left unread.

    CmaEsSampler keeps its state as a pickle in the study. A file must never run code, so only
    pickles that this very process wrote are handed back to it.

    What another search writes while this one has the file open is not read, and nothing is
    written behind it: both would train the same trials.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=_SoleWriter(str(path)))
        with open(path, "rb") as file:
            blocks = iter(lambda: file.read(1 << 20), b"")
            self._earlier = sum(block.count(b"\n") for block in blocks)  # lines
            self._seen = file.tell()  # bytes
        self.lines = self._earlier  # and those written here since
        self._deferred = False

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """
        Raises:
            AnotherWriter: another search has written since.
            OSError: such as a full disk; no part of `logs` is in the file.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        content = lines.encode("utf-8")
        self._seen = self._looked_through()
        _OURS.update(log["worker_id"] for log in logs)
        try:
            with open(self._file_path, "ab") as file:
                file.write(content)
            self._sync()
        except OSError:
            # On a full disk half a line may be there; the next line must not join it.
            os.truncate(self._file_path, self._seen)
            raise
        self._seen += len(content)
        self.lines += len(logs)

    def _looked_through(self) -> int:
        """The size in bytes, when all that came since the last look is of no other search: it is
        the other study's of this process, or a note from optuna-dashboard."""
        with open(self._file_path, "rb") as file:  # over NFS an open file's size is the true one
            size = os.fstat(file.fileno()).st_size
            file.seek(self._seen)
            lines = file.read(max(0, size - self._seen)).splitlines()
        if size < self._seen or any(_of_another_search(_parsed(line)) for line in lines):
            folder = RunFolder(Path(self._file_path).parent)
            raise AnotherWriter(
                f"{folder.path}: another search or program writes here too (its lock names "
                f"{folder.holder}); if that is a search, this file system has no locks between "
                "nodes (Lustre: -o flock, not localflock)"
            )
        return size

    @contextmanager
    def one_sync(self) -> Iterator[None]:
        """Sync once, at the end, what is written inside: lines that make one event together."""
        outer, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = outer
            self._sync()

    def _sync(self) -> None:
        if not self._deferred:
            with open(self._file_path, "rb") as file:
                os.fsync(file.fileno())

    def read_logs(self, log_number_from: int) -> Any:
        for number, log in enumerate(super().read_logs(log_number_from), start=log_number_from):
            since = number >= self._earlier  # it was opened
            if since and self._stops_at(log):
                return
            yield log if since and log["worker_id"] in _OURS else _without_pickles(log)

    def _stops_at(self, log: dict[str, Any]) -> bool:
        return _of_another_search(log)


class ReadOnly(Journal):
    """The journal for those who look at it, perhaps while its driver writes."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError(f"{self._file_path}: open for reading only; a search writes it")

    def _stops_at(self, log: dict[str, Any]) -> bool:
        return False


def _of_another_search(log: Any) -> bool:
    """Whether a line may change trials, and is not of this process."""
    return not isinstance(log, dict) or not ("system_attr" in log or log["worker_id"] in _OURS)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # half a line
        return None


def _without_pickles(log: dict[str, Any]) -> dict[str, Any]:
    """A line without CmaEsSampler's attributes: set one by one, or with a trial as it is made."""
    kept = dict(log)
    for key in {"system_attr", "system_attrs"} & log.keys():
        kept[key] = {
            (f"unread:{name}" if name.startswith(_PICKLED) else name): value
            for name, value in log[key].items()
        }
    return kept


def repair_journal(path: Path) -> int:
    """Drop a last line that was cut short when its writer died; the bytes dropped.

    Raises:
        BadInput: a line before the last is damaged.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except ValueError:
            if number == len(lines):
                whole -= len(line) + 1
                break
            raise BadInput(f"{path}: line {number} is damaged; restore it from a backup") from None
    if whole < len(content):
        with open(path, "r+b") as journal:
            journal.truncate(whole)
    return len(content) - whole
