"""What the search itself costs: seconds a trial where a trial does nothing but report.

`python benchmarks/orchestration.py` runs on one Ray, one after the other: a plain Tuner without
and with `reuse_actors` (its loggers off), and our loop with each sampler: searcher, recorder,
ASHA and journal as in a search, every report synced. A trial makes REPORTS reports. With DATA
(a prepared folder) it also starts the command there and waits for its first report.
"""

from __future__ import annotations

import argparse
import functools
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import psutil
import ray
import ray.tune
from machine import described

from tune import loop
from tune.cluster import start_ray
from tune.resources import Share
from tune.scheduler import StudyASHA
from tune.searcher import Bridge
from tune.space import load_space, parse_space
from tune.stop import Stop
from tune.study import SEARCH, make_sampler, open_study
from tune.trial import REPORT_KEYS

CORES = 2
REPORTS = 4
BLOCK = 200  # trials a line
NEW_ACTORS = 20  # trials of the plain Tuner that starts a process for each


def our_trial(spec: dict[str, Any], data: None, order: None) -> None:
    """Later trials are better, so that ASHA stops none."""
    values = dict.fromkeys(REPORT_KEYS, 1 - 1 / (spec["number"] + 2))
    for step in range(1, REPORTS + 1):
        ray.tune.report({**values, "step": step, "epoch": step / REPORTS, "note": ""})


def plain_trial(config: dict[str, Any]) -> None:
    for step in range(1, REPORTS + 1):
        ray.tune.report({**dict.fromkeys(REPORT_KEYS, config["x"]), "step": step})


@dataclass
class Watch(ray.tune.Callback):
    """When trials end, and what the driver has used by then; a Callback and our listener."""

    sampling: float = 0.0  # seconds
    reported_at: float = 0.0  # the first time
    marks: list[tuple[float, float, float, int]] = field(default_factory=list)

    began: float = field(default_factory=time.perf_counter)

    def mark(self) -> None:
        now, busy = time.perf_counter(), time.process_time()
        self.marks.append((now, busy, self.sampling, psutil.Process().memory_info().rss))

    def on_trial_result(self, **info: Any) -> None:
        self.reported_at = self.reported_at or time.perf_counter()

    def on_trial_complete(self, **info: Any) -> None:
        self.mark()

    def reported(self, number: int, report: dict[str, Any]) -> None:
        self.on_trial_result()

    def finished(self, number: int, state: Any, why: str) -> None:
        self.mark()

    def started(self, number: int, config: dict[str, Any]) -> None: ...
    def retried(self, number: int, why: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self) -> None: ...

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            before = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.sampling += time.perf_counter() - before

        return timed_call

    def sampler(self, space: Any, number: int) -> optuna.samplers.BaseSampler:
        sampler = make_sampler(space, number)
        for name in ("infer_relative_search_space", "sample_relative", "sample_independent"):
            setattr(sampler, name, self.timed(getattr(sampler, name)))
        return sampler

    def rows(self, what: str) -> list[str]:
        """A line for each BLOCK of trials: between its first end and its last."""
        ended, found = time.perf_counter(), []
        for first in range(0, len(self.marks) - 1, BLOCK):
            block = self.marks[first : first + BLOCK]
            n = len(block) - 1
            wall, busy, sampling, _ = (b - a for a, b in zip(block[0], block[-1], strict=True))
            found.append(
                f"| {what} | {first + 1} to {first + len(block)} | {(wall - sampling) / n:.3f} "
                f"| {sampling / n:.3f} | {busy / n:.3f} | {block[-1][3] / 2**20:.0f} |"
            )
        starting, ending = self.reported_at - self.began, ended - self.marks[-1][0]
        return [*found, f"| {what} | first report, end | {starting:.1f}, {ending:.1f} | | | |"]


def run_plain(trials: int, reuse: bool) -> Watch:
    watch = Watch()
    with tempfile.TemporaryDirectory() as scratch:
        ray.tune.Tuner(
            ray.tune.with_resources(plain_trial, {"cpu": 1}),
            param_space={"x": ray.tune.uniform(0, 1)},
            tune_config=ray.tune.TuneConfig(num_samples=trials, reuse_actors=reuse),
            run_config=ray.tune.RunConfig(storage_path=scratch, callbacks=[watch], verbose=0),
        ).fit()
    return watch


def run_ours(trials: int, sampler: str) -> Watch:
    raw = {**load_space("full").to_dict(), "sampler": sampler, "budget": {"trials": trials}}
    space = parse_space(raw, "full.yaml")
    assert space.asha is not None
    watch = Watch()
    # The journal on this disk, not in memory: syncs cost what they cost.
    with (
        tempfile.TemporaryDirectory(dir=".") as scratch,
        patch.object(loop, "train_trial", our_trial),
    ):
        bridge = Bridge(
            study=open_study(Path(scratch) / "study.journal", SEARCH, space.objective),
            objective=space.objective,
            suggest=space.suggest,
            sampler=functools.partial(watch.sampler, space),
            trials=trials,
            listener=watch,
            stop=Stop(space.objective),
            checkpoints=Path(scratch) / "checkpoints",
        )
        asha = StudyASHA(space.asha, space.objective, space.max_epochs)
        loop.run_trials(bridge, None, None, Share(1, 0, CORES), asha)
    return watch


def seconds_to_first_report(data: Path) -> float:
    """From the start of the command to its first report."""
    with tempfile.TemporaryDirectory(dir=".") as out:
        command = ["-m", "tune.search", "--data", str(data), "--trials", "2", "--out", out]
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as search:
            assert search.stderr is not None
            for line in search.stderr:
                if b" epoch " in line:
                    break
            seconds = time.perf_counter() - began
            search.terminate()
            search.stderr.read()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    args = parser.parse_args()
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it misses files that nobody reads
    print(f"{described()}; a trial reports {REPORTS} times\n")
    if args.data:
        times = [seconds_to_first_report(args.data) for _ in range(3)]
        print(f"command to first report: {statistics.median(times):.1f} s (of {len(times)})\n")
    print("| search | trials | s a trial | sampler, s a trial | driver CPU, s a trial | RSS, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    start_ray(None)
    ray_only = {"plain Tuner": (NEW_ACTORS, False), "with reuse_actors": (BLOCK, True)}
    for what, (trials, reuse) in ray_only.items():
        print(*run_plain(trials, reuse).rows(what), sep="\n", flush=True)
    for sampler in args.samplers:
        print(*run_ours(args.trials, sampler).rows(f"ours, {sampler}"), sep="\n", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
