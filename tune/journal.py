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

_PICKLED = ("cma:", "sepcma:", "cmawm:")  # CmaEsSampler's attributes


class _SoleWriter(JournalFileOpenLock):
    """No lock of its own: the run folder's lock already keeps every other driver out."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Journal(JournalFileBackend):
    """Optuna's journal file, with what an earlier process pickled into it left unread.

    CmaEsSampler keeps its state as a pickle in the study. A file must never run code, so only
    pickles that this very process wrote are handed back to it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=_SoleWriter(str(path)))
        self._earlier = sum(1 for _ in super().read_logs(0))
        self._deferred = False

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        size = os.path.getsize(self._file_path)
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with open(self._file_path, "ab") as file:
                file.write(lines.encode("utf-8"))
            self._sync()
        except OSError:
            # On a full disk half a line may be there; the next line must not join it.
            os.truncate(self._file_path, size)
            raise

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
            yield _without_pickles(log) if number < self._earlier else log


class ReadOnly(Journal):
    """The journal for those who look at it, perhaps while its driver writes."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError(f"{self._file_path}: open for reading only; a search writes it")


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
