"""What goes to the cluster with a job, and what stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import reviews, write_csv

from lstmcls.cli import BadInput
from tune.space import load_space, parse_space
from tune.submit import package
from tune.submit.package import pack, size


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    write_csv(tmp_path / "shop.csv", reviews(40))
    return tmp_path


def packed(data: str | None) -> str | None:
    space = parse_space({**load_space("smoke").to_dict(), "data": data}, "smoke")
    return pack(Path("package"), space)


def test_code_and_space_alone(home: Path) -> None:
    assert packed("reviews") is None
    folder = home / "package"
    assert {path.name for path in folder.iterdir()} == {
        "lstmcls", "tune", "search_spaces", "space.yaml",
    }  # fmt: skip
    assert (folder / "tune" / "space" / "reading.py").is_file()
    assert not [path for path in folder.rglob("*") if path.suffix == ".pyc"]
    assert size(folder) < 2_000_000
    assert load_space(str(folder / "space.yaml")).data == "reviews"


def test_a_small_file_goes_along_under_its_content(home: Path) -> None:
    data = packed("shop.csv")
    assert data is not None
    assert (home / "package" / data).read_bytes() == (home / "shop.csv").read_bytes()
    assert data.startswith("data/")
    assert data.endswith("/shop.csv")
    assert load_space("package/space.yaml").data == data
    write_csv(home / "shop.csv", reviews(50))
    (home / "package").rename("before")
    (home / "package").mkdir()
    assert packed("shop.csv") != data


def test_a_small_prepared_folder_goes_along(home: Path, prepared_folder: Path) -> None:
    shutil.copytree(prepared_folder, home / "shop")
    data = packed("shop")
    assert data is not None
    names = {path.name for path in (home / "package" / data).iterdir()}
    assert names == {path.name for path in prepared_folder.iterdir()}
    (home / "package").rename("before")
    (home / "package").mkdir()
    (home / "shop" / "raw").mkdir()  # a user's own, which stays where it is
    (home / "shop" / "raw" / "customers.csv").write_text("name,address")
    (home / "shop" / "secrets.env").write_bytes(bytes(package.LARGEST))
    assert packed("shop") == data
    assert {path.name for path in (home / "package" / data).iterdir()} == names


def test_a_path_of_the_cluster_is_left_to_it(home: Path) -> None:
    assert packed("/on/the/cluster/shop.csv") is None
    assert load_space("package/space.yaml").data == "/on/the/cluster/shop.csv"


def test_data_in_an_object_store_is_left_to_the_driver(home: Path) -> None:
    assert packed("s3://bucket/shop.csv") is None
    assert load_space("package/space.yaml").data == "s3://bucket/shop.csv"


def test_large_data_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "LARGEST", 10)
    assert packed(str(home / "shop.csv")) is None  # the cluster may have it under that path
    (home / "package").rename("before")
    (home / "package").mkdir()
    with pytest.raises(BadInput, match="copy it to storage that the cluster's nodes share"):
        packed("shop.csv")


@pytest.mark.parametrize(("data", "hint"), [("none.csv", ""), ("review", "did you mean 'reviews'")])
def test_no_such_data(home: Path, data: str, hint: str) -> None:
    with pytest.raises(BadInput, match=f"--data {data}: no such file or folder here.*{hint}"):
        packed(data)


def test_a_folder_that_is_not_prepared(home: Path) -> None:
    with pytest.raises(BadInput, match="not a prepared folder"):
        packed(".")
