"""Private memory of eight workers that hold one data set and train on it, above idle ones.

`python benchmarks/memory.py DATA` (a prepared folder). The data goes the way of a search: into
Ray's object store, by `with_parameters`, and from there to `fit()`, with a network of two units
and, as the default search has them, n-grams of two tokens (`--ngrams 0`: without).
The idle workers do all the same with a single batch for data, so that both have what PyTorch
takes for itself. Private memory is the unique set size, without what the allocator holds free.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import ray.tune
import torch
from machine import described

from lstmcls.allocator import forget_shapes, keep_freed_memory
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, TokenDataset, load_prepared
from lstmcls.fit import TrainingState, fit
from tune.cluster import start_ray

BATCH = 128  # rows; validation's, too
CONFIG = TrainConfig(
    embedding_dim=2, hidden_size=2, bidirectional=False, batch_size=BATCH, ngrams=2
)
BATCHES = 50  # trained before the report, whatever the size of the data
MOMENTS = ("holding it", "training, arrays", "after a report")


def repeated(split: TokenDataset, times: int) -> TokenDataset:
    """The rows of `split`, `times` times over."""
    ends = np.arange(times)[:, None] * split.offsets[-1] + split.offsets[1:]
    offsets = np.concatenate([[0], ends.ravel()])
    return TokenDataset(np.tile(split.ids, times), offsets, np.tile(split.labels, times))


def train(
    spec: dict[str, Any], data: Prepared, config: TrainConfig, folder: Path, workers: int
) -> None:
    """One worker beside the others: its private bytes at each of MOMENTS."""
    keep_freed_memory()
    forget_shapes()
    torch.set_num_threads(1)
    batches = -(-len(data.splits["train"]) // BATCH)
    epochs = BATCHES / batches
    config = dataclasses.replace(config, epochs=epochs, report_every=epochs, first_report=epochs)
    state = TrainingState.create(config, data.vocab_size, len(data.labels))
    for split in data.splits.values():
        rows = split.on("cpu")
        assert all(int(array.max()) >= 0 for array in (rows.ids, rows.offsets, rows.labels))
    meet(folder, "holding", workers)
    holding = private()
    tracemalloc.start()
    next(fit(state, data.splits["train"], data.splits["val"]))
    _, arrays = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    meet(folder, "trained", workers)
    seen = (holding, arrays, private())
    meet(folder, "measured", workers)
    ray.tune.report(dict(zip(MOMENTS, seen, strict=True)))


def meet(folder: Path, where: str, workers: int) -> None:
    """Wait for the other workers: what one process alone maps would count as its own."""
    tempfile.mkstemp(prefix=where, dir=folder)
    while len(list(folder.glob(f"{where}*"))) < workers:
        time.sleep(0.05)


def private() -> int:
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_full_info().uss)


def measure(data: Prepared, config: TrainConfig, workers: int) -> dict[str, list[int]]:
    """The private bytes of each of `workers` at each of MOMENTS."""
    with tempfile.TemporaryDirectory() as folder:
        trainable = ray.tune.with_parameters(
            train, data=data, config=config, folder=Path(folder), workers=workers
        )
        share = {"cpu": (os.cpu_count() or 1) / workers, "gpu": 0}
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(trainable, share),
            tune_config=ray.tune.TuneConfig(num_samples=workers, max_concurrent_trials=workers),
            run_config=ray.tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = [result.metrics for result in tuner.fit()]
    return {moment: [result[moment] for result in results] for moment in MOMENTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--ngrams", type=int, default=CONFIG.ngrams)
    args = parser.parse_args()
    config = dataclasses.replace(CONFIG, ngrams=args.ngrams)
    prepared = load_prepared(args.data)
    start_ray(None)
    few = {name: split.longest(BATCH) for name, split in prepared.splits.items()}
    idle = measure(dataclasses.replace(prepared, splits=few), config, args.workers)
    print(f"{described()}; {args.workers} workers, {args.data.name}, n-grams {args.ngrams}\n")
    print(f"| data, MB | {' | '.join(MOMENTS)} |\n| ---: |{' ---: |' * len(MOMENTS)}")
    for times in args.times:
        splits = {name: repeated(split, times) for name, split in prepared.splits.items()}
        size = sum(split.nbytes for split in splits.values())
        seen = measure(dataclasses.replace(prepared, splits=splits), config, args.workers)
        more = [max(seen[moment]) - statistics.median(idle[moment]) for moment in MOMENTS]
        cells = [f"{extra / 1e6:.2f} MB, {extra / size:.1%}" for extra in more]
        print(f"| {size / 1e6:.1f} | {' | '.join(cells)} |", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
