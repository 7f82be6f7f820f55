"""Real tokens a second inside fit(), over those of a bare nn.LSTM at the same shapes.

One thread, one process, the two measured in turn: `python benchmarks/training.py DATA`.
The bare LSTM reads full batches without padding, has no embedding, loss or optimizer, and is
never validated: it is the ceiling that PyTorch's LSTM sets on this machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from lstmcls.config import TrainConfig, config_from
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.fit import TrainingState, fit


def bare_rate(config: TrainConfig, length: int, seconds: float) -> float:
    """Tokens a second of forward and backward through nn.LSTM on random input [B, T, E]."""
    lstm = nn.LSTM(
        config.embedding_dim,
        config.hidden_size,
        batch_first=True,
        bidirectional=config.bidirectional,
    )
    x = torch.randn(config.batch_size, length, config.embedding_dim, requires_grad=True)
    tokens, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        lstm.zero_grad()
        lstm(x)[0].amax(dim=1).sum().backward()
        tokens += config.batch_size * length
    return tokens / (time.perf_counter() - started)


def fit_rate(config: TrainConfig, data: Prepared, reports: int) -> float:
    """Tokens a second of fit() over its first reports, validation included."""
    state = TrainingState.create(config, data.vocab_size, len(data.labels))
    run = fit(state, data.splits["train"], data.splits["val"])
    for _ in range(reports):
        next(run)
    return state.tokens / state.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument(
        "--optimizers", nargs="+", default=["sgd", "adam", "adamw", "rmsprop", "adagrad"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report-every", type=float, default=0.25)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_prepared(args.data)
    length = int(data.splits["train"].lengths.mean())
    print(f"{args.data.name}: mean length {length}, vocabulary {data.vocab_size}")
    for hidden in args.hidden:
        for optimizer in args.optimizers:
            config = config_from(
                {
                    "embedding_dim": hidden,
                    "hidden_size": hidden,
                    "optimizer": optimizer,
                    "lr": 1e-3,
                    "report_every": args.report_every,
                }
            )
            ours, bare = [], []
            for _ in range(args.rounds):
                bare.append(bare_rate(config, length, 2.0))
                ours.append(fit_rate(config, data, 1))
            ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
            print(
                f"hidden {hidden:3d} {optimizer:8s} fit {statistics.median(ours):8.0f} tok/s, "
                f"bare {statistics.median(bare):8.0f} tok/s, ratio {ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
