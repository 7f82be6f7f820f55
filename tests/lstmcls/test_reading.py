from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmcls.cli import BadInput
from lstmcls.labels import label_name, label_order
from lstmcls.reading import BATCH_ROWS, Source, open_file

ROWS = [('good, "very" good\nand long', "pos"), ("schlecht\tund böse", "neg"), ("很好", "pos")]


def rows(source: Source) -> list[tuple[str, str | None]]:
    return [pair for batch in source.batches() for pair in zip(*batch, strict=True)]


def as_csv(table: list[tuple[Any, ...]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("text", "label"), *table])
    return text.getvalue().encode()


def as_jsonl(table: list[tuple[Any, ...]]) -> bytes:
    return "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in table).encode()


def as_parquet(table: list[tuple[Any, ...]]) -> bytes:
    sink = io.BytesIO()
    texts, labels = [t for t, _ in table], [n for _, n in table]
    pq.write_table(pa.table({"text": texts, "label": labels}), sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[list[tuple[Any, ...]]], bytes]] = {
    "a.csv": as_csv,
    "a.tsv": lambda table: as_csv(table, "\t"),
    "a.jsonl": as_jsonl,
    "a.ndjson": as_jsonl,
    "a.json": as_jsonl,
    "a.parquet": as_parquet,
    "A.CSV": as_csv,
    "a.csv.gz": lambda table: gzip.compress(as_csv(table)),
    "a.v2.tsv.gz": lambda table: gzip.compress(as_csv(table, "\t")),
    "a.jsonl.gz": lambda table: gzip.compress(as_jsonl(table)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_again_and_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name](ROWS))
    source = open_file(path)
    assert rows(source) == ROWS
    assert rows(source) == ROWS
    assert (source.text_column, source.label_column) == ("text", "label")


def test_labels_of_any_kind_are_passed_over_where_none_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"], "label": [[1]]}), path)
    assert rows(open_file(path, labelled=False)) == [("x", None)]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": {}}\n')
    assert rows(open_file(path, labelled=False)) == [("x", None)]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=6))
def test_any_text_survives(
    name: str, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = [(text, "x") for text in texts]
    path = tmp_path_factory.mktemp("r") / name
    path.write_bytes(FORMATS[name](table))
    assert rows(open_file(path)) == table


def test_bom_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfText,LABEL\r\n\r\nfine,1\r\n")
    assert rows(open_file(path)) == [("fine", "1")]


def test_batches_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(as_parquet([(f"text {i}", i % 2) for i in range(2 * BATCH_ROWS + 1)]))
    assert [len(b.texts) for b in open_file(path).batches()] == [BATCH_ROWS, BATCH_ROWS, 1]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "true"), (False, "false"), ("True", "true"), (1, "1"), (1.0, "1"), ("1.0", "1"),
        (" 1 ", "1"), (-1, "-1"), ("-0", "0"), (2.5, "2.5"), ("2.50", "2.5"), ("007", "007"),
        ("pos", "pos"), (None, None), (float("nan"), None), ("", None), ("  ", None),
        ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
def test_label_names(value: bool | int | float | str | None, name: str | None) -> None:
    assert label_name(value) == name


def test_label_order() -> None:
    assert label_order(["true", "false"]) == ["false", "true"]
    assert label_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert label_order(["positive", "negative", "1"]) == ["1", "negative", "positive"]


@pytest.mark.parametrize("values", [[1, 0], [1.0, 0.0], [True, False], ["1", "0"]])
def test_types_of_parquet_labels(values: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"Review": ["x", "y"], "Class": values}).to_parquet(path)
    expected = ["true", "false"] if values[0] is True else ["1", "0"]
    assert [label for _, label in rows(open_file(path))] == expected


def test_parquet_with_categories_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"content": ["x", None, "z"], "target": [1, 0, None]})
    frame["content"] = frame["content"].astype("category")
    frame.to_parquet(path)
    assert rows(open_file(path)) == [("x", "1"), ("", "0"), ("z", None)]


def test_half_a_surrogate_pair_in_json_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\\ud83d", "label": 1}\n{"text": "\\ud83d\\ude00", "label": 0}\n')
    assert rows(open_file(path)) == [("a\ufffd", "1"), ("😀", "0")]


def test_half_a_surrogate_pair_in_a_label_is_replaced_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "\\ud83d"}\n{"text": "b", "label": true}\n')
    assert rows(open_file(path)) == [("a", "\ufffd"), ("b", "true")]


@pytest.mark.parametrize("group_rows", [BATCH_ROWS, 40 * BATCH_ROWS])
def test_a_parquet_file_is_not_held_in_memory(group_rows: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [os.urandom(300).hex() for _ in range(40 * BATCH_ROWS)]
    table = pa.table({"text": texts, "label": [1] * len(texts)})
    pq.write_table(table, path, row_group_size=group_rows)
    del table
    before, most = pa.total_allocated_bytes(), 0
    for _ in open_file(path).batches():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < path.stat().st_size / 4


def test_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,comment,stars,label\n1,fine,5,x\n")
    assert rows(open_file(path, "comment", "stars")) == [("fine", "5")]


BAD_COLUMNS = [
    (None, None, r"no text column; .*\(columns: id, comment, reviews, stars\).*'reviews'\?"),
    ("coment", "stars", r"no column 'coment' .*did you mean 'comment'\?"),
    ("comment", None, "no label column; expected one of label, sentiment, class, target"),
    ("comment", "comment", "cannot be both"),
]


@pytest.mark.parametrize(("text", "label", "message"), BAD_COLUMNS)
def test_bad_columns(text: str | None, label: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,comment,reviews,stars\n1,fine,x,5\n")
    with pytest.raises(BadInput, match=message):
        open_file(path, text, label)


def test_a_column_that_is_hardly_alike_is_not_proposed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Kommentar,Sterne\nfein,5\n")
    with pytest.raises(BadInput, match=r"name it with --text$"):
        open_file(path)


GOOD_GZ = gzip.compress(as_csv([(f"text {i} {i * i}", i % 2) for i in range(3000)]))
GOOD_PARQUET = as_parquet([(f"text {i} {i * i}", i % 2) for i in range(3000)])
BAD_FILES = {
    "empty.csv": (b"", "is empty; expected a header line"),
    "empty.jsonl": (b"\n\n", "is empty; expected one JSON object a line"),
    "empty.parquet": (b"", "not a whole Parquet file"),
    "what.xlsx": (b"x", "unknown file ending; expected .csv"),
    "what.parquet.gz": (b"x", "unknown file ending"),
    "none": (b"x", "unknown file ending"),
    "numbers.csv": (b"good film,1\nbad film,0\n", "no text column"),
    "ragged.csv": (b'text,label\n"a\nb",1\nc\n', "line 4: 1 fields, expected 2"),
    "comma.csv": (b"text,label\na,b,1\n", "line 2: 3 fields, expected 2 .*put quotes"),
    "open.csv": (b'text,label\nx,1\n"never closed,1\ny,0\n', "line 3: bad quoting"),
    "inner.csv": (b'text,label\n"a "b" c",1\n', "line 2: bad quoting"),
    "latin.csv": ("text,label\ngut,1\nböse,0\n".encode("latin-1"), "line 3: not valid UTF-8"),
    "list.jsonl": (b'{"text": "a", "label": 1}\n[1]\n', "line 2: expected a JSON object.*list"),
    "cut.jsonl": (b'{"text": "a", "label": 1}\n{"text": \n', "line 2: not valid JSON"),
    "deep.jsonl": (b"[" * 100_000, "line 1: not valid JSON"),
    "number.jsonl": (b'{"text": 5, "label": 1}\n', "line 1: 'text' is not a text: 5"),
    "object.jsonl": (b'{"text": "a", "label": {}}\n', "line 1: 'label' is neither"),
    "cut.csv.gz": (GOOD_GZ[:-2000], "cut or damaged gzip"),
    "plain.csv.gz": (b"text,label\na,1\n", "cut or damaged gzip"),
    "cut.parquet": (GOOD_PARQUET[:-100], "not a whole Parquet file"),
    "hole.parquet": (GOOD_PARQUET[:50] + b"\xff" * 2000 + GOOD_PARQUET[2050:], "damaged Parquet"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        rows(open_file(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n")
    with pytest.raises(BadInput, match=r"no such file; did you mean 'train.csv'\?"):
        open_file(tmp_path / "trian.csv")
    with pytest.raises(BadInput, match="no such file"):
        open_file(tmp_path / "no" / "trian.csv")
    with pytest.raises(BadInput, match="is a folder"):
        open_file(tmp_path)


def test_wrong_parquet_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [1], "label": [1]}), path)
    with pytest.raises(BadInput, match="column 'text' holds int64, expected text"):
        rows(open_file(path))
    pq.write_table(pa.table({"text": ["x"], "label": [[1]]}), path)
    with pytest.raises(BadInput, match="column 'label' holds list"):
        rows(open_file(path))
