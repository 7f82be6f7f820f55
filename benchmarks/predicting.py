"""Texts a second of lstmcls.predict from file to file, beside two simpler ways to the same numbers.

In turn, in one process: `python benchmarks/predicting.py MODEL FILE`. "Streamed" is all that
`lstmcls.predict MODEL --file FILE --out CSV` does once it has started. "In the file's order" pads
batches of texts as they come. "One at a time" calls the model for every text. These two are given
model and texts in memory, write nothing, and have one thread, with which they are fastest.
CPU seconds stand beside wall seconds: other processes on the machine disturb them less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import described

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
        pad_to = artifact.config.pad_to(artifact.max_length)
        for first in range(0, len(data), EVAL_BATCH):
            batch = np.arange(first, min(first + EVAL_BATCH, len(data)))
            ids, lengths, _ = rows.batch(batch, pad_to)
            with torch.inference_mode():
                artifact.model(ids, lengths).softmax(dim=1).numpy()


def one_at_a_time(artifact: Artifact, texts: Sequence[str]) -> None:
    for text in texts:
        artifact.probabilities([text])


def seconds(work: Callable[[], None], threads: int) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    torch.set_num_threads(threads)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path, help="texts, as lstmcls.predict --file takes them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=1000, help="texts for the one-at-a-time way")
    args = parser.parse_args()
    artifact, cores = load_artifact(args.model), torch.get_num_threads()
    batches = open_file(args.file, labelled=False).batches()
    texts = [text for batch in batches for text in batch.texts]
    few = texts[:: max(1, len(texts) // args.few)][: args.few]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "labels.csv"
        ways: dict[str, tuple[Callable[[], None], int, int]] = {
            f"streamed, {cores} threads": (
                lambda: streamed(args.model, args.file, out), len(texts), cores
            ),
            "streamed, 1 thread": (lambda: streamed(args.model, args.file, out), len(texts), 1),
            "in the file's order": (lambda: in_the_files_order(artifact, texts), len(texts), 1),
            "one at a time": (lambda: one_at_a_time(artifact, few), len(few), 1),
        }  # fmt: skip
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, (work, _, threads) in ways.items():
                taken[name].append(seconds(work, threads))
    print(described())
    print(f"{len(texts):,} texts, median of {args.rounds} rounds\n")
    print("| way | texts/s | texts/CPU s |")
    print("| --- | ---: | ---: |")
    for name, (_, count, _) in ways.items():
        wall, cpu = np.median(taken[name], axis=0)
        print(f"| {name} | {count / wall:,.0f} | {count / cpu:,.0f} |")


if __name__ == "__main__":
    main()
