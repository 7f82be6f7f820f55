"""What a job takes along to the cluster: the code, the space, and the data where it is small."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import lstmcls
import search_spaces
import tune
from lstmcls.builtin import NAMES
from lstmcls.cli import BadInput, nearest
from lstmcls.dataset import read_info
from lstmcls.prepare import OWN_FILES
from tune.space import SearchSpace
from tune.store import is_uri

LARGEST = 50_000_000  # bytes of data that go with a job; Ray keeps the package in its head's memory
PACKAGES = (lstmcls, tune, search_spaces)


def pack(folder: Path, space: SearchSpace) -> str | None:
    """Fill `folder` with what the job takes along; the data's path in it, None if it stays out.

    Raises:
        BadInput: there is no such data here, and none that the cluster could have.
    """
    for package in PACKAGES:
        source = Path(str(package.__file__)).parent
        shutil.copytree(
            source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    data = _data(folder, space.data) if space.data else None
    if data is not None:
        space = dataclasses.replace(space, data=data)
    (folder / "space.yaml").write_text(space.to_yaml(), encoding="utf-8")
    return data


def _data(folder: Path, data: str) -> str | None:
    if data in NAMES or not _goes_along(data):
        return None
    source = Path(data)
    # Under a name of its content: another job's file of the same name is another file.
    packed = Path("data", _digest(source), source.name)
    (folder / packed).parent.mkdir(parents=True)
    if source.is_dir():
        (folder / packed).mkdir()
        for file in _own_files(source):
            shutil.copy(file, folder / packed)
    else:
        shutil.copy(source, folder / packed)
    return str(packed)


def size(path: Path) -> int:
    """Bytes in a folder."""
    return _bytes([file for file in path.rglob("*") if file.is_file()])


def _goes_along(data: str) -> bool:
    if is_uri(data):
        return False  # the driver fetches it
    path = Path(data)
    if not path.exists():
        if path.is_absolute():
            return False  # the cluster may have it
        raise BadInput(
            f"--data {data}: no such file or folder here, and not the absolute path of one on the "
            f"cluster; the built-in names are {', '.join(NAMES)}{nearest(data, NAMES)}"
        )
    if path.is_dir():
        read_info(path)
    bytes_ = _bytes(_own_files(path))
    if bytes_ <= LARGEST:
        return True
    if path.is_absolute():
        return False
    raise BadInput(
        f"--data {data}: {bytes_ / 1e6:.0f} MB, at most {LARGEST / 1e6:.0f} MB go with a job; "
        "copy it to storage that the cluster's nodes share and name its absolute path there"
    )


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    for file in _own_files(path):
        found.update(str(file.relative_to(path.parent)).encode())
        found.update(file.read_bytes())
    return found.hexdigest()[:8]


def _own_files(path: Path) -> list[Path]:
    """A file; of a prepared folder those that are the data, not what else a user keeps there."""
    return [path] if path.is_file() else sorted(path / name for name in OWN_FILES)


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)
