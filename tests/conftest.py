"""Small real data for every test: files of made-up reviews, and prepared folders of them."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from lstmcls.cli import run as run_main
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.prepare import prepare
from lstmcls.train import train

ROOT = Path(__file__).resolve().parents[1]
THREADS = int(os.environ.get("TEST_THREADS", "1"))  # PyTorch's, here and in commands; see isa.py
# Seconds after which a test takes a process for hung. No test waits that long, on any machine: it
# waits for what happens, and a machine may be busy with something else.
HANG = 600.0
# What is equal in exact arithmetic differs in its last digits where another kernel computes it: in
# a batch of another shape, at another place in a batch, on another number of threads or another
# CPU. Floats are compared bit by bit only where both come from the same kernels at the same shapes,
# in processes of one kind, or are only copied; a comment there says which.
LOGIT = 1e-5  # relative and absolute, also of gradients over a few steps
PROBABILITY = 1e-5  # absolute: what is shown has four digits
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": str(THREADS),
    "PYTHONIOENCODING": "utf-8",  # as the tests read it, whatever this machine's locale is
    # Ray gives way to everything else by 15: a busy test beside it would starve its workers.
    "RAY_worker_niceness": "0",
    # Nor does Ray give up on what starts slowly.
    "RAY_gcs_server_port_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
}
GOOD = ["good", "great", "lovely", "warm", "quick", "fresh", "sturdy", "bright"]
BAD = ["bad", "broken", "slow", "cold", "stale", "weak", "dull", "noisy"]
NEUTRAL = ["the", "a", "this", "box", "phone", "hotel", "book", "was", "it", "and", "very", "room"]

torch.set_num_threads(THREADS)
# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings.get_profile(hypothesis.settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=LOGIT, atol=LOGIT)


def assert_close_probabilities(found: ArrayLike, expected: ArrayLike) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=PROBABILITY)


def reviews(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) rows that a small network learns in an epoch or two."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < rows:
        label = ("neg", "pos")[len(found) % 2]
        words = draw.choices(NEUTRAL, k=draw.randint(3, 12))
        words[draw.randrange(len(words))] = draw.choice(BAD if label == "neg" else GOOD)
        found.setdefault(" ".join(words), label)
    return list(found.items())


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("raw") / "reviews.csv", reviews(400))


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory, reviews_csv: Path) -> Path:
    """A prepared folder: 2 classes, 320 / 40 / 40 texts of at most 12 tokens."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare([str(reviews_csv)], folder, max_length=12, progress=False)
    return folder


@pytest.fixture(scope="session")
def prepared(prepared_folder: Path) -> Prepared:
    return load_prepared(prepared_folder, ("train", "val", "test"))


@pytest.fixture(scope="session")
def tiny() -> TrainConfig:
    """Settings that learn the reviews above in a second or so."""
    return TrainConfig(
        embedding_dim=8,
        hidden_size=8,
        batch_size=16,
        epochs=1,
        lr=0.02,
        report_every=0.5,
        first_report=0.5,
    )


@pytest.fixture(scope="session")
def command(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m MODULE ARGUMENTS…` as a user does, from another folder, on THREADS."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(
        module: str, *arguments: object, stdin: str = "", cwd: Path = elsewhere
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=cwd,
            env=ENVIRONMENT,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=HANG,
            check=False,
        )

    return run


@pytest.fixture(autouse=True)
def heard_again() -> Iterator[None]:
    """A command may silence its process for good, which other tests are in as well."""
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command` in this process: the same arguments, output and status, without the imports.

    Every command has a test that runs it as a process of its own.
    """

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_main(importlib.import_module(module).main)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(
            sys.argv, int(str(ended.value.code)), printed.out, printed.err
        )

    return run


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared_folder: Path, tiny: TrainConfig
) -> Path:
    """An artifact that tells the two classes apart, trained on THREADS; do not change it."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    config = dataclasses.replace(tiny, epochs=6, dropout=0.1, lr=0.05)
    list(train(load_prepared(prepared_folder), config, folder))
    return folder
