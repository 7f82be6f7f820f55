"""A folder in the system's temporary folder that is deleted after use, or by the next search."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "lstm-tune-"
OWNER = ".owner"  # its lock is held while the folder is in use


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, and none left of this user's searches that were killed.

    A folder gets its name only with the lock in it, so that no other search can take it for one
    that was left.
    """
    _sweep()
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    folder = hidden.with_name(hidden.name[1:])
    with open(hidden / OWNER, "wb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        hidden.rename(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if not folder.is_symlink() and folder.lstat().st_uid == os.getuid():
                _delete_if_left(folder)


def _delete_if_left(folder: Path) -> None:
    with open(folder / OWNER, "rb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
