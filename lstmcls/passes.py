"""The three passes of `prepare` over its sources, batch by batch.

What to keep (`survey`), what the tokenizer learns from (`texts`), the ids (`write`). Between
them only arrays with one entry a row are held, most of them while duplicates are looked for.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from lstmcls.characters import A_TOKEN, encode_characters
from lstmcls.cli import BadInput
from lstmcls.labels import label_order
from lstmcls.reading import Batch, Source
from lstmcls.splitting import NO_LABEL, NO_TEXT, SPLITS, TEST, Array, fates
from lstmcls.tokenizer import encode, normal_form

T = TypeVar("T")

MANY_LABELS = 1000
GROUP_ROWS = 16_384  # rows of one Parquet row group, at least
SCHEMA = pa.schema(
    {"input_ids": pa.list_(pa.int32()), "label": pa.int32(), "characters": pa.string()}
)


@dataclass(frozen=True)
class Survey:
    """Per row of all sources: its label's id (negative: none) and its fate, both (rows,)."""

    labels: list[str]
    codes: Array
    fate: Array


def shown(
    batches: Iterable[T], what: str, rows: int | None, count: Callable[[T], int], progress: bool
) -> Iterable[T]:
    """`batches` under a bar of `rows` rows on stderr; one plain line where that is no terminal.

    `count` gives the rows of a batch; without `rows` the bar only tells how many there were.
    """
    if not progress:
        return batches
    if not sys.stderr.isatty():
        print(what, file=sys.stderr)
        return batches
    return _under_a_bar(batches, what, rows, count)


def _under_a_bar(
    batches: Iterable[T], what: str, rows: int | None, count: Callable[[T], int]
) -> Iterator[T]:
    time = TimeRemainingColumn() if rows else TimeElapsedColumn()
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed:,.0f} rows"), time)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=rows)
        for batch in batches:
            yield batch
            bar.advance(task, count(batch))


def survey(sources: Sequence[Source], official: Source | None, progress: bool) -> Survey:
    """Labels and duplicates of every row of `sources`, then of the `official` test set.

    Texts are compared in their `normal_form`: what a network cannot tell apart is one text.

    Raises:
        BadInput: no usable row, a single class or far too many, a label only in the test set.
    """
    digests, names = bytearray(), dict[str, int]()
    pieces: list[Array] = [np.zeros(0, np.int32)]
    first_test, known = 0, 0
    for source in [*sources, *([official] if official else [])]:
        if source is official:
            first_test, known = sum(map(len, pieces)), len(names)
        what = f"reading {source.name}"
        for batch in shown(source.batches(), what, None, lambda b: len(b.texts), progress):
            pieces.append(_look(batch, digests, names))
            if len(names) > MANY_LABELS:
                raise BadInput(
                    f"{source.name}: column '{source.label_column}' has more than {MANY_LABELS} "
                    "different labels; name the label column with --label"
                )
    if official and len(names) > known:
        raise BadInput(
            f"{official.name}: label '{list(names)[known]}' is not among those of the training "
            f"data ({', '.join(list(names)[:known][:20])})"
        )
    codes = np.concatenate(pieces)
    first_test = first_test if official else len(codes)
    _check_usable(sources, official, codes, first_test, list(names))
    labels = label_order(names)
    ids = np.array([labels.index(name) for name in names], np.int32)
    codes[codes >= 0] = ids[codes[codes >= 0]]
    fate = fates(np.frombuffer(digests, np.uint64).reshape(-1, 2), codes, first_test)
    return Survey(labels, codes, fate)


def _look(batch: Batch, digests: bytearray, names: dict[str, int]) -> Array:
    codes = np.empty(len(batch.texts), np.int32)
    for at, (text, label) in enumerate(zip(*batch, strict=True)):
        normal = normal_form(text)
        digests += hashlib.blake2b(normal.encode(), digest_size=16).digest()
        if label is None:
            codes[at] = NO_LABEL
        elif not normal:
            codes[at] = NO_TEXT
        else:
            codes[at] = names.setdefault(label, len(names))
    return codes


def _check_usable(
    sources: Sequence[Source],
    official: Source | None,
    codes: Array,
    first_test: int,
    names: list[str],
) -> None:
    given = ", ".join(source.name for source in sources)
    if not (codes[:first_test] >= 0).any():
        raise BadInput(f"{given}: no row with both a text and a label ({first_test} rows read)")
    if len(names) == 1:
        raise BadInput(f"{given}: every label is '{names[0]}'; expected two classes or more")
    if official and not (codes[first_test:] >= 0).any():
        raise BadInput(f"{official.name}: no row with both a text and a label")


def texts(sources: Sequence[Source], chosen: Array) -> Iterator[list[str]]:
    """The texts of the rows that `chosen`, (rows,) bool, marks; one list a batch.

    Raises:
        BadInput: a source no longer has the rows it had.
    """
    for batch, rows in _numbered(sources, len(chosen)):
        yield [text.strip() for text in compress(batch.texts, chosen[rows])]


def _numbered(sources: Sequence[Source], rows: int) -> Iterator[tuple[Batch, slice]]:
    start = 0
    for source in sources:
        for batch in source.batches():
            end = start + len(batch.texts)
            if end > rows:
                raise _changed(sources)
            yield batch, slice(start, end)
            start = end


def _changed(sources: Sequence[Source]) -> BadInput:
    return BadInput(f"{', '.join(s.name for s in sources)}: changed while it was read; try again")


def write(
    folder: Path,
    sources: Sequence[Source],
    seen: Survey,
    tokenizer: Tokenizer,
    max_length: int,
    progress: bool,
) -> tuple[dict[str, int], int]:
    """Write the kept rows of all `sources` as `folder`/{train,val,test}.parquet.

    Returns:
        Tokens of each split after truncation, and how many rows were truncated.
    """
    tokens, truncated = dict.fromkeys(SPLITS, 0), 0
    with ExitStack() as stack:
        outputs = [
            _Output(
                stack.enter_context(
                    pq.ParquetWriter(folder / f"{name}.parquet", SCHEMA, compression="zstd")
                )
            )
            for name in SPLITS
        ]
        total, done = len(seen.fate), 0
        numbered = _numbered(sources, total)
        for batch, rows in shown(
            numbered, "writing the ids", total, lambda item: len(item[0].texts), progress
        ):
            fate, done = seen.fate[rows], rows.stop
            kept = fate <= TEST
            found = [text.strip() for text in compress(batch.texts, kept)]
            ids = encode(tokenizer, found)
            characters = encode_characters(tokenizer, found, A_TOKEN * max_length)
            truncated += sum(len(row) > max_length for row in ids)
            for place, name in enumerate(SPLITS):
                here = fate[kept] == place
                mine = [row[:max_length] for row in compress(ids, here)]
                labels = seen.codes[rows][fate == place]
                tokens[name] += outputs[place].add(mine, labels, list(compress(characters, here)))
        if done != total:
            raise _changed(sources)
        for output in outputs:
            output.flush()
    return tokens, truncated


class _Output:
    """One split's file, written in row groups that are neither tiny nor held for long."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer = writer
        self.waiting: list[pa.Table] = []

    def add(self, ids: list[list[int]], labels: Array, characters: list[str]) -> int:
        """Rows of ids with their (rows,) labels and texts; returns the number of tokens."""
        ends = np.cumsum([0, *map(len, ids)])
        flat = np.fromiter(chain.from_iterable(ids), np.int32, int(ends[-1]))
        lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat))
        columns = [lists, pa.array(labels, pa.int32()), pa.array(characters, pa.string())]
        self.waiting.append(pa.table(columns, schema=SCHEMA))
        if sum(table.num_rows for table in self.waiting) >= GROUP_ROWS:
            self.flush()
        return len(flat)

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting))
        self.waiting = []
