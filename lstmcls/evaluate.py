"""All metrics of a trained classifier on labelled files or on a prepared split."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from lstmcls.artifact import Artifact, finite, load_artifact, read_metrics, trained_on
from lstmcls.cli import OK, BadInput, Parser, nearest, parse_in_any_order, run
from lstmcls.dataset import TokenDataset, load_prepared
from lstmcls.metrics import classification_metrics, confusion, per_class
from lstmcls.reading import Source, open_file
from lstmcls.splitting import SPLITS
from lstmcls.tokenizer import load_tokenizer

SHOWN_LABELS = 10  # of a model's labels in a message


def evaluate_prepared(artifact: Artifact, folder: Path, split: str = "test") -> dict[str, Any]:
    """The metrics on one split of a prepared folder, computed as while training.

    On the machine of the training they are the recorded ones; another kind of CPU, or another
    release of PyTorch, may round a probability differently. Sums depend on the number of threads
    too, so it is set to that of the training.

    Returns:
        `rows` (texts), `skipped` (texts), `metrics` (METRICS), `per_class`, `confusion`.

    Raises:
        BadInput: the folder is damaged, or has other labels or another tokenizer.
    """
    data = matching_split(artifact, folder, split)
    torch.set_num_threads(int(artifact.metrics.get("threads") or torch.get_num_threads()))
    return _judged(artifact, artifact.row_probabilities(data), data.labels, skipped=0)


def matching_split(artifact: Artifact, folder: Path, split: str) -> TokenDataset:
    """One split of a prepared folder, whose ids and classes are those of the model.

    Raises:
        BadInput: the folder is damaged, or has other labels or another tokenizer.
    """
    prepared = load_prepared(folder, (split,))
    if prepared.labels != artifact.labels:
        raise BadInput(
            f"{folder}: its labels ({_listed(prepared.labels)}) are not the model's "
            f"({_listed(artifact.labels)})"
        )
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    tokenizer.enable_truncation(min(artifact.max_length, prepared.max_length))
    if tokenizer.to_str() != artifact.tokenizer.to_str():
        raise BadInput(
            f"{folder}: its tokenizer is not the model's; evaluate the raw file instead, "
            "or the folder that the model was trained on"
        )
    return prepared.splits[split]


def evaluate_files(
    artifact: Artifact,
    paths: Sequence[Path],
    text: str | None = None,
    label: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """The metrics on labelled files, read as a stream; as `evaluate_prepared` returns them.

    Rows without a text or a label are left out and counted as `skipped`. Columns that are not named
    are those of the model's training where a file has them, and detected otherwise.

    Raises:
        BadInput: a file cannot be read, has a label that the model does not know, or no rows.
    """
    return _evaluated(artifact, _opened(artifact, paths, text, label), progress)


def _opened(
    artifact: Artifact, paths: Sequence[Path], text: str | None, label: str | None
) -> list[Source]:
    return [open_file(path, text, label, trained_on=artifact.trained_on) for path in paths]


def _evaluated(artifact: Artifact, sources: Sequence[Source], progress: bool) -> dict[str, Any]:
    probabilities, labels, skipped = [], [], 0
    for texts, names in _batches(sources, artifact.labels, progress):
        rows = [i for i, name in enumerate(names) if name is not None and texts[i].strip()]
        skipped += len(names) - len(rows)
        labels += [artifact.labels.index(str(names[i])) for i in rows]
        probabilities.append(artifact.probabilities([texts[i] for i in rows]))
    if not labels:
        files = ", ".join(str(path) for source in sources for path in source.files)
        raise BadInput(f"{files}: no row has both a text and a label")
    return _judged(artifact, np.concatenate(probabilities), np.array(labels), skipped)


def _batches(
    sources: Sequence[Source], known: Sequence[str], progress: bool
) -> Iterator[tuple[list[str], list[str | None]]]:
    for source in sources:
        batches = source.batches()
        if progress:
            title = f"evaluating {source.name}"
            batches = iter(track(batches, title, console=Console(stderr=True), transient=True))
        for texts, names in batches:
            for name in names:
                if name is not None and name not in known:
                    raise BadInput(
                        f"{source.files[0]}: the model knows no label '{name}', only "
                        f"{_listed(known)}{nearest(name, known)}"
                    )
            yield texts, names


def _judged(
    artifact: Artifact,
    probabilities: NDArray[np.float32],
    labels: NDArray[np.integer[Any]],
    skipped: int,
) -> dict[str, Any]:
    return {
        "rows": len(labels),
        "skipped": skipped,
        "metrics": classification_metrics(probabilities, labels),
        "per_class": per_class(probabilities, labels, artifact.labels),
        "confusion": confusion(probabilities, labels),
    }


def _listed(labels: Sequence[str]) -> str:
    more = ["…"] if len(labels) > SHOWN_LABELS else []
    return ", ".join([*labels[:SHOWN_LABELS], *more])


def _show(result: Mapping[str, Any], labels: Sequence[str], data: str) -> None:
    skipped = f" ({result['skipped']} left out: no text or no label)" if result["skipped"] else ""
    print(f"{data}: {result['rows']} texts{skipped}")
    metrics = result["metrics"].items()
    _show_table("metrics", ["metric", "value"], [[k, _figure(v)] for k, v in metrics])
    rows = [
        [name, *(_figure(row[c]) for c in ("precision", "recall", "f1")), f"{row['support']:.0f}"]
        for name, row in result["per_class"].items()
    ]
    _show_table("per class", ["class", "precision", "recall", "f1", "texts"], rows)
    counts = [[name, *map(str, row)] for name, row in zip(labels, result["confusion"], strict=True)]
    _show_table("confusion: true class down, predicted across", ["", *labels], counts)


def _figure(value: float) -> str:
    # All digits that are recorded, so that two evaluations can be compared by eye.
    return f"{value:.6f}" if np.isfinite(value) else "not defined (a class has no texts)"


def _show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty():
        table = Table()
        for number, name in enumerate(header):
            table.add_column(Text(name), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # a label may look like markup
        print(f"\n{title}")
        Console().print(table)
        return
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}")
    for row in (header, *rows):
        padded = [c + " " * (w - cell_len(c)) for c, w in zip(row, widths, strict=True)]
        print("  ".join(padded).rstrip())


_EPILOG = """\
examples:
  python -m lstmcls.evaluate models/shop checked.csv --text comment --label stars
  python -m lstmcls.evaluate models/one data/shop --json   # which it was trained on"""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m lstmcls.evaluate",
        description=__doc__,
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "data",
        type=Path,
        nargs="+",
        metavar="DATA",
        help="labelled files (CSV, TSV, JSON lines, Parquet), or one prepared folder",
    )
    parser.add_argument("--split", choices=SPLITS, help="of a prepared folder (default: test)")
    parser.add_argument(
        "--text", metavar="COL", help="column of the texts (default: the training's, or detected)"
    )
    parser.add_argument("--label", metavar="COL", help="column of the labels (default: likewise)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return parse_in_any_order(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one model and print its metrics; the exit status.

    Raises:
        BadInput: the model or the data cannot be used.
    """
    options = _arguments(argv)
    artifact = load_artifact(options.model, trained_on(_recorded(options.model)))
    folders = [path for path in options.data if path.is_dir()]
    if folders and len(options.data) > 1:
        raise BadInput(f"{folders[0]}: a prepared folder is evaluated alone, without other data")
    if folders:
        if options.text or options.label:
            raise BadInput("--text and --label are for files; a prepared folder has no columns")
        split = options.split or "test"
        if split in trained_splits(artifact.metrics):
            print(
                f"{folders[0]}: the model was trained on its split {split}, so that these figures "
                "are too good; its model card and other labelled texts tell what to expect",
                file=sys.stderr,
            )
        result = evaluate_prepared(artifact, folders[0], split)
        data = f"{folders[0]}, split {split}"
    else:
        if options.split:
            raise BadInput("--split is for a prepared folder; a file is evaluated whole")
        shown = sys.stderr.isatty() and not options.json
        sources = _opened(artifact, options.data, options.text, options.label)
        for source in sources:
            print(f"{source.files[0]}: {source.read_from()}", file=sys.stderr)
        result = _evaluated(artifact, sources, shown)
        data = ", ".join(map(str, options.data))
    if options.json:
        print(json.dumps(finite({"data": data, **result, "labels": artifact.labels})))
    else:
        _show(result, artifact.labels, data)
    return OK


def trained_splits(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits with rows that a model's weights were fitted on."""
    if (metrics.get("out_of_fold") or {}).get("trained_on_test"):
        return ("train", "val", "test")
    both = {"out_of_fold", "trained_on", "divided_anew"} & metrics.keys()
    return ("train", "val") if both else ("train",)


def _recorded(folder: Path) -> dict[str, Any]:
    """The metrics of a model, nothing where load_artifact is about to say what is wrong."""
    return read_metrics(folder) if (folder / "metrics.json").is_file() else {}


if __name__ == "__main__":
    run(main)
