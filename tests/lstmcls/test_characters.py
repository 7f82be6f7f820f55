"""Characters from raw text to arrays, in prepared data and for predictions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmcls.characters import A_TOKEN, code_units, encode_characters
from lstmcls.cli import BadInput
from lstmcls.dataset import TokenDataset, load_prepared, tokenized
from lstmcls.prepare import prepare
from lstmcls.splitting import SPLITS
from lstmcls.tokenizer import KINDS, load_tokenizer, train_tokenizer


def texts_of(data: TokenDataset) -> list[str]:
    assert data.characters is not None
    assert data.character_offsets is not None
    pieces = np.split(data.characters, data.character_offsets[1:-1])
    return [piece.astype("<u2").tobytes().decode("utf-16-le") for piece in pieces]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_normalized_bordered_and_cut(kind: str) -> None:
    tokenizer = train_tokenizer(kind, [["a text"]], 100)
    found = encode_characters(tokenizer, ["  Ａ<br />B\n\n c ", "", "long text"], 8)
    assert found == [" a b c ", "  ", " long te"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=4))
def test_code_units_are_the_texts_end_to_end(batches: list[list[str]]) -> None:
    texts = [text for batch in batches for text in batch]
    units, offsets = code_units(batches)
    assert units.dtype == np.uint16
    assert offsets.tolist() == [
        sum(len(t.encode("utf-16-le")) // 2 for t in texts[:end]) for end in range(len(texts) + 1)
    ]
    assert units.astype("<u2").tobytes().decode("utf-16-le") == "".join(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_characters_are_what_raw_texts_give_again(kind: str, tmp_path: Path) -> None:
    raw = [f"Ｔext\u3000{i}, 好看 \U0001f600 it is <BR/> as  long as {'x' * i}" for i in range(60)]
    table = pa.table({"text": raw, "label": [i % 2 for i in range(60)]})
    pq.write_table(table, tmp_path / "a.parquet")
    folder = tmp_path / "data"
    prepare([str(tmp_path / "a.parquet")], folder, tokenizer=kind, max_length=9, progress=False)
    data = load_prepared(folder, SPLITS)
    assert data.max_characters == 9 * A_TOKEN
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    again = tokenized(tokenizer, raw, data.max_characters)
    rows = {
        tuple(again.ids[a:b].tolist()): text
        for a, b, text in zip(again.offsets[:-1], again.offsets[1:], texts_of(again), strict=True)
    }
    written: list[str] = []
    for split in data.splits.values():
        texts = texts_of(split)
        written += texts
        assert all(len(text) <= data.max_characters for text in texts)
        if kind == "char":  # each of whose rows has ids of its own
            ends = zip(split.offsets[:-1], split.offsets[1:], strict=True)
            ids = [tuple(split.ids[a:b].tolist()) for a, b in ends]
            assert {i: rows[i] for i in ids} == dict(zip(ids, texts, strict=True))
    assert sorted(written) == sorted(texts_of(again))
    assert tokenized(tokenizer, raw, 0).characters is None


def test_data_prepared_without_characters_are_read(prepared_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(prepared_folder, folder)
    for name in SPLITS:
        table = pq.read_table(folder / f"{name}.parquet")
        pq.write_table(table.drop_columns(["characters"]), folder / f"{name}.parquet")
    new, old = load_prepared(prepared_folder), load_prepared(folder)
    assert old.splits["train"].characters is None
    assert np.array_equal(old.splits["train"].ids, new.splits["train"].ids)
    info = (folder / "dataset.json").read_text().replace("max_characters", "another")
    (folder / "dataset.json").write_text(info)
    assert load_prepared(folder).max_characters == 0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1], [2]]), "'characters' is list<.*>, expected string"),
        (pa.array(["a", None]), "'characters' has a missing or damaged text"),
        (
            pa.StringArray.from_buffers(
                2, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")
            ),
            "'characters' has a missing or damaged text",
        ),
    ],
)
def test_damage_is_told(
    column: pa.Array, message: str, prepared_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared_folder, folder)
    ids = pa.array([[2], [3]], pa.list_(pa.int32()))
    table = pa.table({"input_ids": ids, "label": [0, 1], "characters": column})
    pq.write_table(table, folder / "train.parquet")
    with pytest.raises(BadInput, match=message):
        load_prepared(folder)


def test_chosen_rows_keep_their_characters(prepared_folder: Path) -> None:
    train = load_prepared(prepared_folder).splits["train"]
    rows = np.array([7, 0, 7])
    texts = texts_of(train)
    assert texts_of(train.chosen(rows)) == [texts[row] for row in rows]
    assert train.chosen(rows).nbytes < train.nbytes
