"""`--data`: a prepared folder, or a file that is prepared once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import reviews, write_csv
from fakes import small_space
from stores import environment, new_bucket, s3_server

from lstmcls.cli import BadInput
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.prepare import prepare
from tune import data
from tune.data import (
    LATE,
    RATE,
    data_digest,
    prepared_folder,
    remarks,
    require_same_data,
    stored_frame,
)
from tune.resources import Share
from tune.store import Store

CPU = Share(1, 0, 2)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "shop.csv", reviews(60))
    return tmp_path


def made(name: str, text: str | None = None, label: str | None = None) -> Path:
    return prepared_folder(name, text, label, progress=False)


def test_a_prepared_folder_is_taken_as_it_is(home: Path, prepared_folder: Path) -> None:
    relative = os.path.relpath(prepared_folder)
    assert made(relative) == prepared_folder.resolve()
    assert not (home / "results").exists()


def test_a_folder_that_is_not_prepared(home: Path) -> None:
    with pytest.raises(BadInput, match="not a prepared folder"):
        made(str(home))


def test_a_built_in_name_is_not_the_folder_that_happens_to_have_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instead(sources: list[str], folder: Path, **options: object) -> None:
        prepare(["shop.csv"], folder, progress=False)
        asked.extend(sources)

    asked: list[str] = []
    monkeypatch.setattr(data, "prepare", instead)  # the built-in reviews take seconds
    (home / "reviews").mkdir()
    made("reviews")
    assert asked == ["reviews"]
    prepare(["shop.csv"], home / "imdb", progress=False)
    with pytest.raises(BadInput, match=r"--data imdb: a built-in name, and .* ./imdb is"):
        made("imdb")
    assert made("./imdb") == home / "imdb"


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("nothing.csv", ""),
        ("review", "; did you mean 'reviews'?"),
        ("shopp.csv", "; did you mean 'shop.csv'?"),
    ],
)
def test_no_such_data(home: Path, data: str, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        made(data)
    assert str(caught.value).startswith(f"--data {data}: no such file or folder")
    assert str(caught.value).endswith(hint)
    assert not (home / "results").exists()


def test_a_file_is_prepared_once_and_again_when_it_changes(home: Path) -> None:
    folder = made("shop.csv")
    assert folder.parent == home / "results" / "prepared"
    assert folder.name.startswith("shop-")
    assert load_prepared(folder).labels == ["neg", "pos"]
    before = (folder / "dataset.json").stat().st_mtime_ns
    assert made("shop.csv") == folder
    assert (folder / "dataset.json").stat().st_mtime_ns == before
    # Other columns or other rows are other data.
    assert made("shop.csv", "text", "label") != folder
    write_csv(home / "shop.csv", reviews(70))
    assert made("shop.csv") != folder
    assert len({path.name for path in folder.parent.iterdir()}) == 3


def test_a_file_is_prepared_again_when_what_is_made_of_it_has_changed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "VERSION", data.VERSION - 1)
    old = made("shop.csv")
    monkeypatch.undo()
    monkeypatch.chdir(home)
    assert made("shop.csv") != old
    assert load_prepared(old).labels == ["neg", "pos"]  # a search on it can be resumed


def test_two_files_of_one_name_are_two_data_sets(home: Path) -> None:
    (home / "a").mkdir()
    write_csv(home / "a" / "shop.csv", reviews(60))
    os.utime(home / "a" / "shop.csv", ns=(1, 1))
    os.utime(home / "shop.csv", ns=(1, 1))
    assert made("shop.csv") != made("a/shop.csv")


def test_what_cannot_be_prepared_leaves_nothing_that_looks_prepared(home: Path) -> None:
    (home / "empty.csv").write_text("text,label\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(BadInput):
            made("empty.csv")
    assert not list((home / "results").rglob("dataset.json"))


def test_a_damaged_preparation_is_named(home: Path) -> None:
    folder = made("shop.csv")
    (folder / "val.parquet").unlink()
    with pytest.raises(BadInput, match=r"val\.parquet missing; prepare the data again"):
        made("shop.csv")


def test_a_frame_is_stored_once_for_one_content(home: Path) -> None:
    frame = pd.read_csv("shop.csv")
    path = stored_frame(frame)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    before = path.stat().st_mtime_ns
    assert stored_frame(frame.copy()) == path
    assert path.stat().st_mtime_ns == before
    others = [frame[:-1], frame.rename(columns={"text": "review"}), frame[["label", "text"]]]
    assert len({path, *map(stored_frame, others)}) == 4
    assert load_prepared(made(str(path))).labels == ["neg", "pos"]


def test_a_frame_whose_columns_are_not_known_is_told_in_words_of_python(home: Path) -> None:
    frame = pd.DataFrame({"comment": ["good"], "stars": [1]})
    with pytest.raises(BadInput, match=r"^data: no text column; .*name it with the argument text"):
        stored_frame(frame)
    with pytest.raises(BadInput, match=r"data: no column 'star' .*did you mean 'stars'"):
        stored_frame(frame, "comment", "star")
    assert not (home / "results").exists()
    assert stored_frame(frame, "comment", "stars").is_file()


def test_a_frame_with_an_index_and_missing_texts(home: Path) -> None:
    frame = pd.read_csv("shop.csv").set_index(pd.Index(range(100, 160)))
    frame.loc[103, "text"] = None
    prepared = load_prepared(made(str(stored_frame(frame))))
    rows = prepared.info["rows"]
    assert (rows["read"], rows["empty"], rows["train"]) == (60, 1, 47)


def test_a_search_goes_on_with_the_data_that_it_began_with_alone(home: Path) -> None:
    data = home / "data"
    prepare(["shop.csv"], data, progress=False)
    study = optuna.create_study()
    require_same_data(study, data)
    study.set_user_attr("data", data_digest(data))
    prepare(["shop.csv"], data, progress=False)
    require_same_data(study, data)
    for changed in ({"seed": 1}, {"max_length": 5}, {"vocab_size": 20}):
        prepare(["shop.csv"], data, progress=False, **changed)
        with pytest.raises(BadInput, match="was prepared anew"):
            require_same_data(study, data)


@pytest.fixture(params=["file", "s3"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Where data may lie: a folder by its URI, and a bucket."""
    if request.param == "file":
        yield Store((tmp_path / "away").as_uri())
        return
    with s3_server(tmp_path) as variables, environment(**variables):
        yield Store(f"s3://{new_bucket()}/away")


def test_data_by_their_uri(home: Path, prepared_folder: Path, away: Store) -> None:
    away.make()
    away.write("shop.csv", (home / "shop.csv").read_bytes())
    folder = made(f"{away}/shop.csv")
    assert folder.parent == home / "results" / "prepared"
    assert load_prepared(folder).labels == ["neg", "pos"]
    before = (folder / "dataset.json").stat().st_mtime_ns
    assert made(f"{away}/shop.csv") == folder
    assert (folder / "dataset.json").stat().st_mtime_ns == before
    away.write("shop.csv", write_csv(home / "more.csv", reviews(80)).read_bytes())
    assert made(f"{away}/shop.csv") != folder

    for path in prepared_folder.iterdir():
        away.write(path.name, path.read_bytes())
    folder = made(str(away))
    assert {path.name for path in folder.iterdir()} == {p.name for p in prepared_folder.iterdir()}
    assert data_digest(folder) == data_digest(prepared_folder)
    assert made(str(away)) == folder
    with pytest.raises(BadInput, match="--text and --label are for files"):
        made(str(away), text="comment")


def test_no_such_data_at_a_uri(home: Path, away: Store) -> None:
    away.make()
    (away / "other").make()
    away.write("other/readme", b"")
    for name in ("none.csv", "other"):
        with pytest.raises(BadInput, match=f"--data {away}/{name}: no file or prepared folder"):
            made(f"{away}/{name}")
    with pytest.raises(
        BadInput, match=r"--data s3://b/shop.csv\?wrong=1: cannot be fetched \(.*wrong"
    ):
        made("s3://b/shop.csv?wrong=1")
    assert not (home / "results").exists()


def test_what_the_data_make_of_a_search_is_said(prepared: Prepared) -> None:
    few = "on 120 validation rows an accuracy is known to ±0.09 only"
    space = small_space()
    (said,) = remarks(prepared, space, CPU)  # balanced, and no text is cut
    assert said.startswith(few)
    train = prepared.splits["train"]
    rare = np.arange(len(train)) % 10 == 0
    splits = {
        "train": dataclasses.replace(train, labels=rare.astype(train.labels.dtype)),
        "val": train,
    }
    info = {**prepared.info, "truncated_share": 0.5}
    other = dataclasses.replace(prepared, splits=splits, info=info)
    unbalanced, cut = remarks(other, space, CPU)
    assert unbalanced.startswith(f"90% of the texts are {prepared.labels[0]}: ")
    assert cut.startswith("50% of the texts are cut after 12 tokens; ")
    space = small_space(objective={"metric": "val_f1", "mode": "max"}, budget={"minutes": 1})
    assert list(remarks(other, space, CPU)) == [cut]
    seconds = len(train.ids) / RATE
    short = small_space(budget={"minutes": seconds / 60 / LATE * 0.9})
    assert "a first report takes 1 epoch, " in list(remarks(prepared, short, CPU))[-1]
    assert list(remarks(prepared, short, Share(1, 0.5, 2))) == [said]
    longer = small_space(budget={"minutes": seconds / 60 / LATE * 1.1})
    assert list(remarks(prepared, longer, CPU)) == [said]
