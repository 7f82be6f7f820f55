"""Parquet files of texts, read in small pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstmcls.cli import BadInput
from lstmcls.labels import label_name

ROWS = 1000  # at once
BUFFER = 1 << 20  # bytes


def column_types(path: Path) -> dict[str, pa.DataType]:
    """The columns in order; raises BadInput where the file is none or is cut short."""
    try:
        with pq.ParquetFile(path) as file:
            return {column.name: column.type for column in file.schema_arrow}
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: not a whole Parquet file ({_first_line(error)})") from None


def labelled_texts(path: Path, text: str, label: str | None) -> Iterator[tuple[str, str | None]]:
    """(text, label name) of each row, a missing text as an empty one, a missing label as None.

    Raises:
        BadInput: the file is damaged, or a column is no such thing.
    """
    columns = [text] if label is None else [text, label]
    try:
        # As pages, where it would else hold the whole file, or a whole row group.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            _check_types(path, file.schema_arrow, text, label)
            for batch in file.iter_batches(ROWS, columns=columns, use_threads=False):
                texts = batch.column(text).to_pylist()
                labels = [None] * len(texts) if label is None else batch.column(label).to_pylist()
                names = [label_name(_plain(value)) for value in labels]
                yield from zip((t or "" for t in texts), names, strict=True)
    except UnicodeDecodeError:
        named = "' or '".join(columns)
        raise BadInput(f"{path}: column '{named}': not valid UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: damaged Parquet file ({_first_line(error)})") from None


def whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row with all its columns; raises BadInput where one cannot be read."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            for batch in file.iter_batches(ROWS, use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: a column cannot be read ({_first_line(error)})") from None


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else float(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_types(path: Path, schema: pa.Schema, text: str, label: str | None) -> None:
    def value_type(name: str) -> Any:
        kind = schema.field(name).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    is_label = (*is_text, *is_number, pa.types.is_boolean, pa.types.is_null)
    for name, kinds, wanted in (
        (text, is_text, "text"),
        (label, is_label, "text, whole numbers or booleans"),
    ):
        if name is not None and not any(is_kind(value_type(name)) for is_kind in kinds):
            raise BadInput(
                f"{path}: column '{name}' holds {schema.field(name).type}, expected {wanted}"
            )
