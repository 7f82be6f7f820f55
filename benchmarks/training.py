"""Real tokens a second inside fit(), over those of a bare nn.LSTM at the same shapes.

One thread, one process, the two measured in turn: `python benchmarks/training.py DATA`.
The bare LSTM runs forward and backward over random input of the very [rows, tokens] shapes of
fit()'s batches, and each of its tokens counts. It has no embedding, loss or optimizer, pads
nothing and is never validated: it is the ceiling that PyTorch's LSTM sets on this machine. fit()
counts real tokens only, from its start to its last report, validation included.
CPU seconds are compared, not wall seconds: another process on the machine disturbs them less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import sklearn.metrics  # noqa: F401 (fit() imports it at its first validation)
import torch
from machine import described
from torch import nn

from lstmcls.allocator import forget_shapes, keep_freed_memory
from lstmcls.batches import shuffled_batches
from lstmcls.config import TrainConfig, config_from
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.fit import TrainingState, fit


def bare_rate(config: TrainConfig, shapes: list[tuple[int, int]], tokens: int) -> float:
    """Tokens a second of forward and backward through nn.LSTM, for `tokens` tokens or more."""
    lstm = nn.LSTM(
        config.embedding_dim,
        config.hidden_size,
        batch_first=True,
        bidirectional=config.bidirectional,
    )
    done, started = 0, time.process_time()
    for rows, length in cycle(shapes):
        x = torch.randn(rows, length, config.embedding_dim, requires_grad=True)
        lstm.zero_grad()
        lstm(x)[0].amax(dim=1).sum().backward()
        done += rows * length
        if done >= tokens:
            return done / (time.process_time() - started)
    raise AssertionError


def fit_rate(config: TrainConfig, data: Prepared) -> tuple[float, int]:
    """(tokens a second, tokens) of a whole fit()."""
    state = TrainingState.create(config, data.vocab_size, len(data.labels))
    started = time.process_time()
    for _ in fit(state, data.splits["train"], data.splits["val"]):
        pass
    return state.tokens / (time.process_time() - started), state.tokens


def shapes_of(config: TrainConfig, data: Prepared) -> list[tuple[int, int]]:
    """[rows, longest row] of the first epoch's batches."""
    lengths = data.splits["train"].lengths
    batches = shuffled_batches(lengths, config.batch_size, np.random.default_rng([config.seed, 0]))
    return [(len(batch), int(lengths[batch].max())) for batch in batches]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+", help="prepared folders")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument(
        "--optimizers", nargs="+", default=["sgd", "adam", "adamw", "rmsprop", "adagrad"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0, help="of a fit()")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    forget_shapes()  # both as a trial's process does
    print(described())
    print("| data | hidden | optimizer | fit(), tokens/s | bare nn.LSTM, tokens/s | ratio |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for folder in args.data:
        data = load_prepared(folder)
        for hidden in args.hidden:
            for optimizer in args.optimizers:
                sizes = {"embedding_dim": hidden, "hidden_size": hidden}
                rest = {"optimizer": optimizer, "lr": 1e-3, "epochs": args.epochs}
                config = config_from(sizes | rest)
                measured = []
                for _ in range(args.rounds):
                    ours, tokens = fit_rate(config, data)
                    measured.append((ours, bare_rate(config, shapes_of(config, data), tokens // 2)))
                ours, bare = (statistics.median(column) for column in zip(*measured, strict=True))
                ratio = statistics.median(o / b for o, b in measured)
                print(
                    f"| {folder.name} | {hidden} | {optimizer} | {ours:,.0f} | {bare:,.0f} "
                    f"| {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
