"""Where a run's checkpoints lie: a folder of this machine or, by its URI, one of an object store.

One path for both, pyarrow's file systems: S3 and what speaks as it does (s3://BUCKET/FOLDER),
gs://, abfss://, and file:/// for a folder. Credentials and the endpoint are each process's own:
the AWS_* variables, as boto reads them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pyarrow import ArrowException
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from lstmcls.cli import BadInput
from lstmcls.files import replacing

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "file")


class StoreFault(RuntimeError):
    """The object store does not do what it is asked."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.why = why

    def __str__(self) -> str:
        return ": ".join(self.args)


def is_uri(place: object) -> bool:
    return isinstance(place, str) and "://" in place


def as_place(words: str | Path) -> str | Path:
    """What a user names: the URI of a folder in an object store, or a folder here."""
    return words if is_uri(words) else Path(words)


@dataclass(frozen=True)
class Store:
    """The folder `below` the `place`, an absolute path or a URI; only these two cross a process.

    Faults of an object store are StoreFault, those of a folder here OSError with its errno. What
    is not there is FileNotFoundError in both.
    """

    place: str
    below: str = ""

    def __truediv__(self, name: str) -> Store:
        return dataclasses.replace(self, below=f"{self.below}/{name}".strip("/"))

    def __str__(self) -> str:
        place = self.place.split("?")[0] if self.remote else self.place
        return "/".join(filter(None, (place, self.below)))

    @property
    def name(self) -> str:
        return PurePosixPath(str(self)).name

    @property
    def remote(self) -> bool:
        return is_uri(self.place)

    def make(self, parents: bool = False) -> None:
        """Make it in a folder that is there; an object store has no folders."""
        system, path = self._system()
        if isinstance(system, LocalFileSystem):
            Path(path).mkdir(parents=parents, exist_ok=True)

    def names(self) -> list[str]:
        """What lies directly in it, sorted; nothing where it is not there."""
        return sorted(info.base_name for info in self._list(recursive=False))

    def written(self) -> dict[str, datetime]:
        """When each file directly in it was written, by the clock of the store."""
        found = [info for info in self._list(recursive=False) if info.type == FileType.File]
        return {info.base_name: info.mtime for info in found}

    def files(self) -> list[str]:
        """The files in it at any depth, as names for `read`, sorted."""
        _, path = self._system()
        found = [info.path for info in self._list(recursive=True) if info.type == FileType.File]
        return sorted(str(PurePosixPath(file).relative_to(path)) for file in found)

    def read(self, name: str) -> bytes:
        with self._asked() as (system, path), system.open_input_file(f"{path}/{name}") as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file that appears whole or not at all."""
        with self._asked() as (system, path):
            if isinstance(system, LocalFileSystem):
                # Written by Python, whose OSError tells a full disk from other faults.
                with replacing(Path(path) / name) as temporary:
                    temporary.write_bytes(content)
            else:
                with system.open_output_stream(f"{path}/{name}", compression=None) as file:
                    file.write(content)

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there is no fault."""
        with self._asked() as (system, path), suppress(FileNotFoundError):
            system.delete_file(f"{path}/{name}")

    def delete_all(self) -> None:
        """Delete the folder with all that is in it; one that is not there is no fault."""
        with self._asked() as (system, path), suppress(FileNotFoundError):
            system.delete_dir(path)

    def _list(self, recursive: bool) -> list[FileInfo]:
        with self._asked() as (system, path):
            selector = FileSelector(path, recursive=recursive, allow_not_found=True)
            infos: list[FileInfo] = system.get_file_info(selector)
        return infos

    def _system(self) -> tuple[FileSystem, str]:
        system, path = open_place(self.place)
        return system, f"{path}/{self.below}".rstrip("/")

    @contextmanager
    def _asked(self) -> Iterator[tuple[FileSystem, str]]:
        try:
            yield self._system()
        except FileNotFoundError:
            raise
        except (OSError, ArrowException) as error:
            if not self.remote or self.place.startswith("file:"):
                raise
            raise StoreFault(f"{self}, from node {socket.gethostname()}", reason(error)) from None


@functools.cache
def open_place(place: str) -> tuple[FileSystem, str]:
    """The file system of a place and the path in it; in S3's one request a small file."""
    if place.startswith("s3://") and "allow_delayed_open" not in place:
        place += ("&" if "?" in place else "?") + "allow_delayed_open=true"
    system, path = FileSystem.from_uri(place)
    return system, path.rstrip("/")


def reason(error: Exception) -> str:
    """Why a store did not, in one line, without what Arrow puts before it."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^.*?(?=AWS Error )|; Details: .*| \(Request ID: \S+\)", "", said)


def checked(uri: str) -> str:
    """The URI without a slash at its end.

    Raises:
        BadInput: it is not the URI of a folder, or holds credentials.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise BadInput(
            f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path}: no credentials "
            "in an address, which ends up in logs; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "on every node"
        )
    path = parts.path.rstrip("/")
    if parts.scheme not in SCHEMES or not path or path.rpartition("/")[2].startswith("."):
        raise BadInput(f"{uri}: expected s3://BUCKET/FOLDER; {', '.join(SCHEMES[1:])} go too")
    return parts._replace(path=path).geturl()


def open_store(uri: str) -> Store:
    """The folder of an object store that a user names.

    Raises:
        BadInput: no such store, or it cannot be reached from here.
    """
    store = Store(checked(uri))
    try:
        system, path = open_place(store.place)
        bucket = path.split("/")[0]  # of a folder here, nothing
        found = not bucket or system.get_file_info(bucket).type != FileType.NotFound
    except (OSError, ArrowException) as error:
        raise BadInput(f"{store}: {reason(error)}") from None
    if not found:
        raise BadInput(f"{store}: no such bucket, {bucket}")
    return store
