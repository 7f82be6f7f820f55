"""Raw files of labelled texts, read in small batches: CSV, TSV, JSON lines, Parquet.

Each file can be read several times, always with the same rows in the same order, and never
whole in memory.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa

from lstmcls import parquet
from lstmcls.cli import BadInput, nearest
from lstmcls.columns import find_columns
from lstmcls.labels import label_name

BATCH_ROWS = 1000
BATCH_CHARACTERS = 4_000_000
LONGEST_FIELD = 1 << 24  # characters; beyond it a quote was left open

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")
ENDINGS = ".csv, .tsv, .jsonl, .ndjson, .json (each also with .gz), .parquet"
_COLUMNS_FROM = 100  # JSON lines: objects looked at to learn the columns


Row = dict[str, Any]


class Batch(NamedTuple):
    """Texts (a missing one is empty) and label names (a missing one is None), equally many."""

    texts: list[str]
    labels: list[str | None]


@dataclass(frozen=True)
class Source:
    """Texts, labelled or not, that can be read again and again.

    `batches()` starts from the first row; it raises BadInput at the first row that is damaged.
    """

    name: str
    files: tuple[Path, ...]
    text_column: str
    label_column: str | None
    batches: Callable[[], Iterator[Batch]]
    rows: Callable[[], Iterator[Row]] = lambda: iter(())  # whole, as many as there are texts
    columns: Callable[[], Sequence[str]] = tuple  # of rows; of JSON lines the file is read for it
    types: Mapping[str, pa.DataType] = field(default_factory=dict)  # of columns, where known

    def read_from(self) -> str:
        """For people: which columns are read."""
        labels = f", labels from column {self.label_column!r}" if self.label_column else ""
        return f"texts from column {self.text_column!r}{labels}"


def open_file(
    path: Path,
    text: str | None = None,
    label: str | None = None,
    *,
    labelled: bool = True,
    trained_on: tuple[str | None, str | None] = (None, None),
) -> Source:
    """The file at `path` as a Source; its columns are detected where they are not named.

    Args:
        labelled: False: no label column is looked for, and every label is missing.
        trained_on: of a model's training the columns of texts and labels, which are taken where
            the file has them and no other is named.

    Raises:
        BadInput: no such file, an unknown ending, no rows at all, or a column is not found.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; expected a file ending in {ENDINGS}")
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadInput(f"{path}: no such file{nearest(path.name, there)}")
    suffixes = [s.lower() for s in path.suffixes]
    ending = "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    kind = ending.removesuffix(".gz")
    types: dict[str, pa.DataType] = {}
    if ending in _PARQUET:
        types = parquet.column_types(path)
        columns, read, rows = list(types), _parquet_batches, parquet.whole_rows
    elif kind in _JSON:
        columns, read, rows = _json_columns(path), _json_batches, _json_rows
    elif kind in _DELIMITERS:
        columns, read, rows = _csv_columns(path), _csv_batches, _csv_dicts
    else:
        raise BadInput(f"{path}: unknown file ending; expected {ENDINGS}")
    text, label = find_columns(path, columns, text, label, labelled, trained_on)
    return Source(
        path.name,
        (path,),
        text,
        label,
        lambda: read(path, text, label),
        lambda: rows(path),
        lambda: _json_columns(path, None) if kind in _JSON else _distinct(columns),
        types,
    )


def batched(rows: Iterable[tuple[str, str | None]]) -> Iterator[Batch]:
    """Rows in batches small enough to hold: by number and by characters."""
    batch, characters = Batch([], []), 0
    for text, label in rows:
        batch.texts.append(text)
        batch.labels.append(label)
        characters += len(text)
        if len(batch.texts) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = Batch([], []), 0
    if batch.texts:
        yield batch


def _lines(path: Path) -> Iterator[str]:
    number = 1
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: line {number}: not valid UTF-8; save the file as UTF-8") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise BadInput(f"{path}: cut or damaged gzip file; compress or download it again") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return open(path, "rb")


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line; blank lines are skipped."""
    delimiter = _DELIMITERS[Path(path.name.lower().removesuffix(".gz")).suffix]
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(
            f'{path}: line {start}: bad quoting ({error}); expected fields in "…" '
            'with inner quotes doubled ("")'
        ) from None


def _csv_columns(path: Path) -> list[str]:
    for _, row in _csv_rows(path):
        return row
    raise BadInput(f"{path}: is empty; expected a header line with the column names")


def _csv_batches(path: Path, text: str, label: str | None) -> Iterator[Batch]:
    rows = _csv_rows(path)
    _, header = next(rows)
    at_text, width = header.index(text), len(header)
    at_label = None if label is None else header.index(label)

    def fields() -> Iterator[tuple[str, str | None]]:
        for line, row in rows:
            if len(row) != width:
                raise BadInput(
                    f"{path}: line {line}: {len(row)} fields, expected {width} "
                    f"({', '.join(header)}); put quotes around a field that holds a delimiter"
                )
            yield row[at_text], None if at_label is None else label_name(row[at_label])

    return batched(fields())


def _csv_dicts(path: Path) -> Iterator[Row]:
    rows = _csv_rows(path)
    _, header = next(rows)
    names = _distinct(header)
    return (dict(zip(names, row, strict=True)) for _, row in rows)


def _distinct(header: Sequence[str]) -> list[str]:
    """`header`, a name that is there again with a number, as in pandas: id, id.1."""
    names: list[str] = []
    for name in header:
        again = (f"{name}.{k}" for k in count(1))
        names.append(name if name not in names else next(n for n in again if n not in header))
    return names


def _json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput(f"{path}: line {number}: not valid JSON; expected one object") from None
        if not isinstance(value, dict):
            raise BadInput(
                f"{path}: line {number}: expected a JSON object, one a line, "
                f"got {type(value).__name__}"
            )
        yield number, value


def _json_columns(path: Path, objects: int | None = _COLUMNS_FROM) -> list[str]:
    columns: dict[str, None] = {}
    for _, value in islice(_json_objects(path), objects):
        columns.update(dict.fromkeys(map(_whole_characters, value)))
    if not columns:
        raise BadInput(f"{path}: is empty; expected one JSON object a line")
    return list(columns)


def _json_batches(path: Path, text: str, label: str | None) -> Iterator[Batch]:
    def fields() -> Iterator[tuple[str, str | None]]:
        for number, value in _json_objects(path):
            content, name = value.get(text), None if label is None else value.get(label)
            if not isinstance(content, str | None):
                raise BadInput(f"{path}: line {number}: '{text}' is not a text: {content!r:.60}")
            if not isinstance(name, str | int | float | None):
                raise BadInput(
                    f"{path}: line {number}: '{label}' is neither text nor number: {name!r:.60}"
                )
            if isinstance(name, str):
                name = _whole_characters(name)
            yield _whole_characters(content or ""), label_name(name)

    return batched(fields())


def _json_rows(path: Path) -> Iterator[Row]:
    return (_whole(value) for _, value in _json_objects(path))


def _whole(value: Any) -> Any:
    """`value` with all its texts in whole characters."""
    if isinstance(value, str):
        return _whole_characters(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole(item) for key, item in value.items()}
    return value


def _whole_characters(text: str) -> str:
    r"""JSON may escape half of a surrogate pair ("\ud83d"), which no tokenizer accepts."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _parquet_batches(path: Path, text: str, label: str | None) -> Iterator[Batch]:
    return batched(parquet.labelled_texts(path, text, label))
