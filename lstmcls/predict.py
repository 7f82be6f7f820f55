"""Label and probability of texts: arguments, lines of standard input, or a file of any size.

On standard output a line is `label`, `probability` and `text`, separated by tabs. The file that
--out names has the rows and columns of --file, and the columns label, probability and a
probability_... of every label; where the file has such a column, it is called given_label there.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track

from lstmcls.allocator import keep_freed_memory
from lstmcls.artifact import CHUNK, DEVICES, Artifact, choose_device, finite, load_artifact
from lstmcls.cli import OK, BadInput, Parser, RunFailed, parse_in_any_order, run
from lstmcls.files import replacing
from lstmcls.reading import BATCH_CHARACTERS, Source, open_file

OUT_ENDINGS = (".csv", ".jsonl", ".parquet")

Row = dict[str, Any]
Writer = Callable[[list[Row]], object]


def predictions(artifact: Artifact, texts: Sequence[str]) -> list[Row]:
    """For each text, in order: `text`, `label`, `probability` (of that label),
    `probabilities` (of every label, by name)."""
    names, scores = artifact.labels, artifact.probabilities(texts)
    return [
        {
            "text": text,
            "label": names[best],
            "probability": values[best],
            "probabilities": dict(zip(names, values, strict=True)),
        }
        for text, best, values in zip(
            texts, scores.argmax(axis=1).tolist(), scores.tolist(), strict=True
        )
    ]


def _names(source: Source, labels: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(the file's columns and what they are called beside ours, the names of ours)."""
    ours = ["label", "probability", *(f"probability_{label}" for label in labels)]
    theirs: dict[str, str] = {}
    columns = source.columns()
    for column in columns:
        name = column
        while name in (*ours, "probabilities") or (name != column and name in columns):
            name = f"given_{name}"
        theirs[column] = name
    return theirs, ours


@contextmanager
def _writing(out: Path, labels: Sequence[str], source: Source) -> Iterator[Writer]:
    """A function that appends rows to `out`, which appears whole when all are written."""
    theirs, ours = _names(source, labels)
    rows_of_file = source.rows()

    def beside(row: Row) -> Row:
        """What the file says in the row of which `row` is the prediction."""
        given = next(rows_of_file)
        return {name: given.get(column) for column, name in theirs.items()}

    def flat(row: Row) -> list[Any]:
        given = [
            value if column in source.types else _plain(value)
            for column, value in zip(theirs, beside(row).values(), strict=True)
        ]
        return [*given, row["label"], row["probability"], *row["probabilities"].values()]

    with replacing(out) as path:
        if out.suffix.lower() == ".parquet":
            kinds = [source.types.get(column, pa.string()) for column in theirs]
            kinds += [pa.string()] + [pa.float64()] * (len(ours) - 1)
            schema = pa.schema(list(zip([*theirs.values(), *ours], kinds, strict=True)))
            with pq.ParquetWriter(path, schema) as parquet:
                yield lambda rows: parquet.write_table(
                    pa.Table.from_pylist(
                        [dict(zip(schema.names, flat(row), strict=True)) for row in rows], schema
                    )
                )
            return
        with open(path, "w", encoding="utf-8", newline="") as file:
            if out.suffix.lower() == ".csv":
                writer = csv.writer(file)
                writer.writerow([*theirs.values(), *ours])
                yield lambda rows: writer.writerows(map(flat, rows))
            else:
                yield lambda rows: file.writelines(
                    _json_line(beside(row) | {k: v for k, v in row.items() if k != "text"}) + "\n"
                    for row in rows
                )


def _plain(value: Any) -> str | None:
    """A value of a JSON object, as the text that a table holds."""
    value = finite(value)
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


@contextmanager
def _printing(as_json: bool) -> Iterator[Writer]:
    def plain(row: Row) -> str:
        return f"{row['label']}\t{row['probability']:.4f}\t{' '.join(row['text'].split())}"

    def as_line(row: Row) -> str:
        # JSON has codes of its own for what the terminal cannot show.
        return _json_line(row, ascii_only=not sys.stdout.encoding.lower().startswith("utf"))

    show = as_line if as_json else plain
    yield lambda rows: print("\n".join(map(show, rows)), flush=True)


def _json_line(row: Row, ascii_only: bool = False) -> str:
    # `default`: a time, say
    write = partial(json.dumps, ensure_ascii=ascii_only, allow_nan=False, default=str)
    try:
        return write(row)
    except ValueError:  # NaN or an infinity, in some column of the file
        return write(finite(row))


def _chunks(source: Source) -> Iterator[list[str]]:
    """The texts in lists long enough to put those of like length together, and bounded."""
    chunk, characters = list[str](), 0
    for batch in source.batches():
        chunk += batch.texts
        characters += sum(map(len, batch.texts))
        if len(chunk) >= CHUNK or characters >= BATCH_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _stdin() -> Iterator[list[str]]:
    # A person at a keyboard waits for each answer; a pipe does not.
    size = 1 if sys.stdin.isatty() else CHUNK
    if size == 1:
        print("a text a line; Ctrl-D ends", file=sys.stderr)
    lines = map(_decoded, enumerate(iter(sys.stdin.buffer.readline, b""), 1))
    while chunk := list(islice(lines, size)):
        yield chunk


def _decoded(numbered: tuple[int, bytes]) -> str:
    number, line = numbered
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput(f"standard input: line {number}: not valid UTF-8") from None


def _number_of_texts(source: Source) -> int:
    """Read the whole file once: a damaged row is found before the work, and the bar has an end."""
    batches = track(
        source.batches(),
        f"reading {source.name}",
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    return sum(len(batch.texts) for batch in batches)


def _counted(chunks: Iterable[list[str]], total: int | None) -> Iterator[list[str]]:
    """`chunks`, with a progress bar on a terminal where the `total` of texts is known."""
    bar = Progress(
        TextColumn("predicting"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} texts"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=total is None or not sys.stderr.isatty(),
        speed_estimate_period=600,  # seconds; a chunk may take more than the usual 30
    )
    with bar:
        task = bar.add_task("", total=total)
        for chunk in chunks:
            yield chunk
            bar.advance(task, len(chunk))


def _check(options: argparse.Namespace) -> None:
    if options.file and options.texts:
        raise BadInput("give texts or --file, not both")
    if (options.out or options.text) and not options.file:
        raise BadInput(f"{'--out' if options.out else '--text'} needs --file")
    if options.out and options.json:
        raise BadInput("--json is for standard output; name --out with the ending .jsonl instead")
    if options.out:
        out = Path(options.out)
        if out.suffix.lower() not in OUT_ENDINGS:
            raise BadInput(f"--out {out}: expected a file ending in {', '.join(OUT_ENDINGS)}")
        if out.is_dir() or not out.absolute().parent.is_dir():
            raise BadInput(f"--out {out}: {'is a folder' if out.is_dir() else 'no such folder'}")
        if out.exists() and Path(options.file).exists() and out.samefile(options.file):
            raise BadInput(f"--out {out}: is the file that --file names; name another")


_EPILOG = """\
examples:
  python -m lstmcls.predict models/shop "came late, works well"
  python -m lstmcls.predict models/shop --json < comments.txt
  python -m lstmcls.predict models/shop --file new.csv --text comment --out labelled.csv"""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m lstmcls.predict",
        description=__doc__,
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "texts",
        nargs="*",
        default=[],
        metavar="TEXT",
        help="texts (default: lines of standard input)",
    )
    parser.add_argument(
        "--file", type=Path, metavar="F", help="CSV, TSV, JSON lines or Parquet file of texts"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="F",
        help=f"file to write ({', '.join(OUT_ENDINGS)}); an earlier one is replaced",
    )
    parser.add_argument(
        "--text", metavar="COL", help="column of the texts (default: the training's, or detected)"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, with every probability"
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="default: a GPU if there is one"
    )
    return parse_in_any_order(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and print or write; the exit status.

    Raises:
        BadInput: the model, the texts or --out cannot be used.
        RunFailed: --out could not be written.
    """
    options = _arguments(argv)
    _check(options)
    keep_freed_memory()
    artifact = load_artifact(options.model, choose_device(options.device))
    total: int | None = None
    if options.file:
        source = open_file(
            options.file, options.text, labelled=False, trained_on=artifact.trained_on
        )
        print(f"{options.file}: {source.read_from()}", file=sys.stderr)
        batches: Iterable[list[str]] = _chunks(source)
        total = _number_of_texts(source) if options.out else None
    else:
        # An argument that is not valid UTF-8 holds surrogates, which no tokenizer accepts.
        given = [
            t.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for t in options.texts
        ]
        batches = [given] if given else _stdin()
    writing = (
        _writing(options.out, artifact.labels, source) if options.out else _printing(options.json)
    )
    done = 0
    try:
        with writing as write:
            for chunk in _counted(batches, total):
                write(predictions(artifact, chunk))
                done += len(chunk)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunFailed(
            f"{options.out or 'output'}: cannot be written ({error.strerror})"
        ) from None
    if options.out:
        print(f"{options.out}: {done} texts")
    return OK


if __name__ == "__main__":
    run(main)
