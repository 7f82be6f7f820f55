"""Files and folders that appear whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from lstmcls.files import replacing, replacing_folder


def test_a_file_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with suppress(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_so_does_a_folder_with_all_that_it_held(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with suppress(ZeroDivisionError), replacing_folder(path) as temporary:
        (temporary / "half").touch()
        raise ZeroDivisionError
    assert [entry.name for entry in path.iterdir()] == ["old"]
    with replacing_folder(path) as temporary:
        (temporary / "new").touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", [".", "../here", "new/.."])
def test_the_folder_may_be_the_one_that_we_are_in(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with replacing_folder(Path(name)) as temporary:
        (temporary / "new").touch()
    assert [entry.name for entry in here.iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["here"]
