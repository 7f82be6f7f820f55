"""Texts a second of lstmcls.predict from file to file, beside two simpler ways to the same numbers.

In turn, in one process: `python benchmarks/predicting.py MODEL FILE`. "Streamed" is all that
`lstmcls.predict MODEL --file FILE --out CSV` does once it has started. "In the file's order"
computes the same batches without sorting by length. "One at a time" calls the model for every
text. Both are given tokenizer, model and texts in memory, and write nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from lstmcls.artifact import CHUNK, Artifact, load_artifact
from lstmcls.dataset import unlabelled
from lstmcls.model import EVAL_BATCH
from lstmcls.predict import main as predict
from lstmcls.reading import open_file
from lstmcls.tokenizer import encode


def streamed(model: Path, file: Path, out: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        predict([str(model), "--file", str(file), "--out", str(out), "--device", "cpu"])


def in_the_files_order(artifact: Artifact, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), CHUNK):
        data = unlabelled(encode(artifact.tokenizer, list(texts[start : start + CHUNK])))
        rows = data.on("cpu")
        for first in range(0, len(data), EVAL_BATCH):
            batch = np.arange(first, min(first + EVAL_BATCH, len(data)))
            ids, lengths, _ = rows.batch(batch, artifact.pad_to)
            with torch.inference_mode():
                artifact.model(ids, lengths).softmax(dim=1).numpy()


def one_at_a_time(artifact: Artifact, texts: Sequence[str]) -> None:
    for text in texts:
        artifact.probabilities([text])


def rate(work: Callable[[], None], texts: int) -> float:
    """Texts a second."""
    started = time.perf_counter()
    work()
    return texts / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path, help="texts, as lstmcls.predict --file takes them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=1000, help="texts for the one-at-a-time way")
    args = parser.parse_args()
    artifact = load_artifact(args.model)
    batches = open_file(args.file, labelled=False).batches()
    texts = [text for batch in batches for text in batch.texts]
    few = texts[:: max(1, len(texts) // args.few)][: args.few]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "labels.csv"
        ways: dict[str, tuple[Callable[[], None], int]] = {
            "streamed, file to file": (lambda: streamed(args.model, args.file, out), len(texts)),
            "in the file's order": (lambda: in_the_files_order(artifact, texts), len(texts)),
            "one at a time": (lambda: one_at_a_time(artifact, few), len(few)),
        }
        for _ in range(args.rounds):
            for name, (work, count) in ways.items():
                rates.setdefault(name, []).append(rate(work, count))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    slowest = medians["one at a time"]
    print(
        f"{len(texts):,} texts, {torch.get_num_threads()} threads, median of {args.rounds} rounds:"
        "\n\n| way | texts a second | times one at a time |\n| --- | --- | --- |"
    )
    for name, median in medians.items():
        print(f"| {name} | {median:,.0f} | {median / slowest:.1f} |")


if __name__ == "__main__":
    main()
