"""Label and probability of texts: arguments, lines of standard input, or a file of any size.

On standard output a line is `label`, `probability` and `text`, separated by tabs.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lstmcls import reading
from lstmcls.artifact import CHUNK, Artifact, load_artifact
from lstmcls.cli import OK, BadInput, RunFailed, run
from lstmcls.files import replacing

OUT_ENDINGS = (".csv", ".jsonl", ".parquet")

Row = dict[str, Any]
Writer = Callable[[list[Row]], object]


def predictions(artifact: Artifact, texts: Sequence[str]) -> list[Row]:
    """For each text, in order: `text`, `label`, `probability` (of that label),
    `probabilities` (of every label, by name)."""
    rows = []
    for text, scores in zip(texts, artifact.probabilities(texts), strict=True):
        named = dict(zip(artifact.labels, map(float, scores), strict=True))
        label = artifact.labels[int(scores.argmax())]
        rows.append(
            {"text": text, "label": label, "probability": named[label], "probabilities": named}
        )
    return rows


def open_texts(path: Path, text: str | None = None) -> Iterator[list[str]]:
    """The texts of a file that `reading.open_file` reads, in lists; no label column is needed.

    Raises:
        BadInput: no such file, an unknown ending, no text column, or a damaged row.
    """
    columns, read = _reader(path)
    column = reading._column(path, "text", text, reading.TEXT_NAMES, columns(path))
    # Every reader wants a label column too, and is content with the texts again.
    return (batch.texts for batch in read(path, column, column))


def _reader(
    path: Path,
) -> tuple[Callable[[Path], list[str]], Callable[[Path, str, str], Iterator[reading.Batch]]]:
    if not path.is_file():
        raise BadInput(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    name = path.name.lower()
    if name.endswith(reading._PARQUET):
        return reading._parquet_columns, reading._parquet_batches
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in reading._JSON:
        return reading._json_columns, reading._json_batches
    if suffix in reading._DELIMITERS:
        return reading._csv_columns, reading._csv_batches
    raise BadInput(f"{path}: unknown file ending; expected {reading.ENDINGS}")


@contextmanager
def _writing(out: Path, labels: Sequence[str]) -> Iterator[Writer]:
    """A function that appends rows to `out`, which appears whole when all are written."""
    names = ["text", "label", "probability", *(f"probability_{label}" for label in labels)]

    def flat(row: Row) -> list[Any]:
        return [row["text"], row["label"], row["probability"], *row["probabilities"].values()]

    with replacing(out) as path:
        if out.suffix.lower() == ".parquet":
            kinds = [pa.string(), pa.string()] + [pa.float64()] * (len(names) - 2)
            schema = pa.schema(list(zip(names, kinds, strict=True)))
            with pq.ParquetWriter(path, schema) as parquet:
                yield lambda rows: parquet.write_table(
                    pa.Table.from_pylist(
                        [dict(zip(names, flat(row), strict=True)) for row in rows], schema
                    )
                )
            return
        with open(path, "w", encoding="utf-8", newline="") as file:
            if out.suffix.lower() == ".csv":
                writer = csv.writer(file)
                writer.writerow(names)
                yield lambda rows: writer.writerows(map(flat, rows))
            else:
                yield lambda rows: file.writelines(_json_line(row) + "\n" for row in rows)


@contextmanager
def _printing(as_json: bool) -> Iterator[Writer]:
    def plain(row: Row) -> str:
        return f"{row['label']}\t{row['probability']:.4f}\t{' '.join(row['text'].split())}"

    show = _json_line if as_json else plain
    yield lambda rows: print("\n".join(map(show, rows)), flush=True)


def _json_line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _chunks(batches: Iterable[list[str]], size: int = CHUNK) -> Iterator[list[str]]:
    """The same texts in lists of `size`, large enough to put texts of like length together."""
    texts = (text for batch in batches for text in batch)
    while chunk := list(islice(texts, size)):
        yield chunk


def _stdin() -> Iterator[list[str]]:
    # A person at a keyboard waits for each answer; a pipe does not.
    size = 1 if sys.stdin.isatty() else CHUNK
    lines = map(_decoded, enumerate(iter(sys.stdin.buffer.readline, b""), 1))
    while chunk := list(islice(lines, size)):
        yield chunk


def _decoded(numbered: tuple[int, bytes]) -> str:
    number, line = numbered
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput(f"standard input: line {number}: not valid UTF-8") from None


def _counted(chunks: Iterable[list[str]], title: str, shown: bool) -> Iterator[list[str]]:
    """`chunks`, with the number of texts done on a terminal (a stream has no known end)."""
    columns = (SpinnerColumn(), TextColumn(title), TextColumn("{task.completed:,.0f} texts"))
    console = Console(stderr=True)
    bar = Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not shown
    )
    with bar:
        task = bar.add_task("", total=None)
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


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lstmcls.predict", description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="texts (default: lines of standard input)"
    )
    parser.add_argument(
        "--file", type=Path, metavar="F", help="CSV, TSV, JSON lines or Parquet file of texts"
    )
    parser.add_argument(
        "--out", type=Path, metavar="F", help=f"write to a file ({', '.join(OUT_ENDINGS)})"
    )
    parser.add_argument("--text", metavar="COL", help="column of the texts (default: detected)")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, with every probability"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and print or write; the exit status.

    Raises:
        BadInput: the model, the texts or --out cannot be used.
        RunFailed: --out could not be written.
    """
    options = _arguments(argv)
    _check(options)
    artifact = load_artifact(options.model, _device(options.device))
    if options.file:
        batches: Iterable[list[str]] = _chunks(open_texts(options.file, options.text))
    else:
        # An argument that is not valid UTF-8 holds surrogates, which no tokenizer accepts.
        given = [
            t.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for t in options.texts
        ]
        batches = _chunks([given]) if given else _stdin()
    shown = options.file is not None and options.out is not None and sys.stderr.isatty()
    writing = _writing(options.out, artifact.labels) if options.out else _printing(options.json)
    done = 0
    try:
        with writing as write:
            for chunk in _counted(batches, "predicting", shown):
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


def _device(name: str) -> str:
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise BadInput("--device cuda: no usable GPU here; use --device cpu")
    return "cuda" if name != "cpu" and there else "cpu"


if __name__ == "__main__":
    run(main)
