"""Labelled texts in other shapes, made from those of one file: do the defaults serve them?

`python benchmarks/shapes.py SHAPE TEXTS --to FILE.parquet`, then
`python -m tune.search --data FILE.parquet`.
TEXTS has two classes: a built-in name or a file. No text is used twice, but in `large`.

    five         four texts end to end; the class is how many of them are of the second class
    unbalanced   one row in twenty is of the first class
    documents    ten texts end to end, seven of them of the document's class
    tiny         200 rows
    large        500,000 rows of a file: copies in which one word in twenty is another's
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from preparing import write_copies

from lstmcls.builtin import NAMES, open_builtin
from lstmcls.reading import open_file

Row = tuple[str, str]  # a text and its label
TINY, LARGE = 200, 500_000


def rows_of(texts: str) -> list[Row]:
    """The distinct texts of a built-in name or a file, shuffled."""
    source = open_builtin(texts).source if texts in NAMES else open_file(Path(texts))
    labelled = {
        text: label for batch in source.batches() for text, label in zip(*batch, strict=True)
    }
    rows = [(text, str(label)) for text, label in labelled.items()]
    random.Random(0).shuffle(rows)
    return rows


def five(rows: list[Row]) -> Iterator[Row]:
    second = max(label for _, label in rows)
    for part in _parts(rows, 4):
        yield _joined(part), str(sum(label == second for _, label in part))


def unbalanced(rows: list[Row]) -> Iterator[Row]:
    first, second = _by_class(rows)
    yield from first[: len(second) // 19]
    yield from second


def documents(rows: list[Row]) -> Iterator[Row]:
    draw = random.Random(0)
    classes = [iter(rows) for rows in _by_class(rows)]
    while True:
        own = draw.randrange(2)
        part = [*islice(classes[own], 7), *islice(classes[1 - own], 3)]
        if len(part) < 10:
            return
        label = part[0][1]
        draw.shuffle(part)
        yield _joined(part), label


def tiny(rows: list[Row]) -> Iterator[Row]:
    yield from rows[:TINY]


def _parts(rows: list[Row], size: int) -> Iterator[list[Row]]:
    rest = iter(rows)
    while len(part := list(islice(rest, size))) == size:
        yield part


def _joined(rows: list[Row]) -> str:
    return "\n".join(text for text, _ in rows)


def _by_class(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    first, second = sorted({label for _, label in rows})
    return [row for row in rows if row[1] == first], [row for row in rows if row[1] == second]


SHAPES: dict[str, Callable[[list[Row]], Iterator[Row]]] = {
    "five": five, "unbalanced": unbalanced, "documents": documents, "tiny": tiny,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=[*SHAPES, "large"])
    parser.add_argument("texts", help="a built-in name or a labelled file with two classes")
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    if args.shape == "large":
        if args.texts in NAMES:
            parser.error("large: name a file")
        count = sum(len(batch.texts) for batch in open_file(Path(args.texts)).batches())
        print(f"{write_copies(Path(args.texts), -(-LARGE // count), args.to):,} rows")
        return
    texts, labels = zip(*SHAPES[args.shape](rows_of(args.texts)), strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), args.to)
    print(f"{len(texts):,} rows, {sum(map(len, texts)) / len(texts):,.0f} characters a text")


if __name__ == "__main__":
    main()
