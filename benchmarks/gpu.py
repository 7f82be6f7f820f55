"""What one GPU trains: a trial beside cuDNN's bare LSTM, and several trials at once.

`python benchmarks/gpu.py DATA` (a prepared folder). Every trial is a process of its own that is
held to its share of the memory, as in a search, and trains until time is up, a twentieth of an
epoch between two validations on 128 texts; all start together. The bare LSTM runs forward and
backward over random input of the shapes of fit()'s batches: as `nn.LSTM(bidirectional=True)`, and
as two of one direction, which is what the classifier has and cuDNN has faster kernels for. With
MPS the processes' kernels run side by side; without, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from machine import described
from torch import nn
from training import shapes_of

from lstmcls.config import TrainConfig
from lstmcls.dataset import load_prepared
from lstmcls.fit import TrainingState, fit
from lstmcls.model import EVAL_BATCH

CONFIG = TrainConfig(
    embedding_dim=256, hidden_size=256, epochs=1000, report_every=0.05, first_report=0.05
)
SECONDS = 10.0  # of one measurement
TRIALS = (1, 2, 4, 8, 16)


def trial(folder: Path, share: float) -> None:
    """Train a little, wait for a line on stdin, train SECONDS; rate and memory as JSON."""
    torch.cuda.set_per_process_memory_fraction(share)
    data = load_prepared(folder)
    state = TrainingState.create(CONFIG, data.vocab_size, len(data.labels), "cuda")
    run = fit(state, data.splits["train"], data.splits["val"].chosen(np.arange(EVAL_BATCH)))
    next(run)
    print("ready", flush=True)
    sys.stdin.readline()
    before, started = state.tokens, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        next(run)  # a report's numbers are on the CPU: nothing is left to wait for
    rate = (state.tokens - before) / (time.perf_counter() - started)
    print(json.dumps({"rate": rate, "memory": torch.cuda.max_memory_reserved()}))


def trials_at_once(folder: Path, count: int) -> tuple[float, float]:
    """(tokens a second of `count` trials together, peak MB of one); raises where one fails."""
    command = [sys.executable, __file__, str(folder), "--share", str(1 / count)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    seen = [json.loads(process.communicate()[0]) for process in running]
    return sum(one["rate"] for one in seen), max(one["memory"] for one in seen) / 1e6


def bare_rate(shapes: list[tuple[int, int]], in_one: bool) -> float:
    """Tokens a second through both directions, forward and backward, in fit()'s precision."""
    sizes = (CONFIG.embedding_dim, CONFIG.hidden_size)
    lstms = nn.ModuleList(
        nn.LSTM(*sizes, batch_first=True, bidirectional=in_one) for _ in range(1 if in_one else 2)
    ).cuda()
    tokens, started = 0, 0.0
    for step, (rows, length) in enumerate(cycle(shapes)):
        if step == 50:  # warm
            torch.cuda.synchronize()
            tokens, started = 0, time.perf_counter()
        x = torch.randn(rows, length, CONFIG.embedding_dim, device="cuda", requires_grad=True)
        lstms.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=CONFIG.mixed_precision):
            out = torch.cat([lstm(x)[0] for lstm in lstms], dim=2)
        torch.autograd.backward(out.amax(dim=1).float().sum())
        tokens += rows * length
        if started and step % 50 == 0:
            torch.cuda.synchronize()
            if time.perf_counter() - started > SECONDS:
                return tokens / (time.perf_counter() - started)
    raise AssertionError


@contextmanager
def mps() -> Iterator[bool]:
    """NVIDIA's multi-process service for the processes started inside; whether there is one."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        control = "nvidia-cuda-mps-control"
        try:
            subprocess.run([control, "-d"], env=os.environ | own, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            yield False
            return
        os.environ.update(own)
        try:
            yield True
        finally:
            subprocess.run([control], input="quit\n", text=True, check=False, capture_output=True)
            for name in own:
                del os.environ[name]


def table(folder: Path, service: str) -> None:
    for count in TRIALS:
        try:
            rate, memory = trials_at_once(folder, count)
        except (ValueError, OSError):  # a process died: no JSON, or nobody to tell to begin
            print(f"| {count} trials, {service} | does not run | |", flush=True)
        else:
            print(f"| {count} trials, {service} | {rate:,.0f} | {memory:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared folder")
    parser.add_argument("--share", type=float, help=argparse.SUPPRESS)  # one trial's process
    args = parser.parse_args()
    if args.share is not None:
        return trial(args.data, args.share)
    print(f"{described()}\n")
    if not torch.cuda.is_available():
        print("not measured on a GPU: there is none")
        return None
    print("| hidden 256, bidirectional | tokens/s | peak MB of one |\n| --- | ---: | ---: |")
    data = load_prepared(args.data)
    shapes = list(islice(shapes_of(CONFIG, data), 200))
    print(f"| bare nn.LSTM of two directions | {bare_rate(shapes, True):,.0f} | |")
    print(f"| two bare nn.LSTM | {bare_rate(shapes, False):,.0f} | |", flush=True)
    torch.cuda.empty_cache()
    table(args.data, "in turns")
    with mps() as there:
        if there:
            table(args.data, "MPS")
        else:
            print("| MPS | not available | |")
    return None


if __name__ == "__main__":
    main()
