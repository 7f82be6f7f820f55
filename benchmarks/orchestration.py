"""What the search itself costs: seconds a trial where a trial does nothing but report.

`python benchmarks/orchestration.py` runs on one Ray, one after the other: a plain Tuner without
and with `reuse_actors` (its loggers off), and our loop with each sampler: searcher, recorder,
ASHA and journal as in a search, every report synced. A trial makes REPORTS reports. With
`--data` (a prepared folder) it first starts the command there and waits for its first report.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
from tune.health import Health
from tune.log import logged_to
from tune.resources import Share
from tune.samplers import make_sampler
from tune.scheduler import StudyASHA
from tune.searcher import Bridge
from tune.sittings import Clock
from tune.space import SearchSpace, load_space, parse_space
from tune.stop import Stop
from tune.store import Store
from tune.study import SEARCH, open_study
from tune.trial import REPORT_KEYS

CORES = 2
REPORTS = 4
BLOCK = 200  # trials a line of the table
NEW_ACTORS = 20  # trials of the plain Tuner that starts a process for each
STARTS = 3  # of the command


def our_trial(spec: dict[str, Any], data: None, order: None) -> None:
    """Later trials are better, so that ASHA stops none."""
    values = dict.fromkeys(REPORT_KEYS, 1 - 1 / (spec["number"] + 2))
    for step in range(1, REPORTS + 1):
        epoch = spec["train"]["epochs"] * step / REPORTS
        ray.tune.report({**values, "step": step, "epoch": epoch, "note": ""})


def plain_trial(config: dict[str, Any]) -> None:
    for step in range(1, REPORTS + 1):
        ray.tune.report({**dict.fromkeys(REPORT_KEYS, config["x"]), "step": step})


@dataclass
class Watch(ray.tune.Callback):  # type: ignore[misc]
    """When trials end, and what the driver has used by then: a Callback and our listener."""

    began: float = field(default_factory=time.perf_counter)
    first_report: float = 0.0
    sampling: float = 0.0  # seconds
    marks: list[tuple[float, float, float, float]] = field(default_factory=list)

    def on_trial_result(self, **info: Any) -> None:
        self.first_report = self.first_report or time.perf_counter()

    def on_trial_complete(self, **info: Any) -> None:
        used = psutil.Process().memory_info().rss / 2**20
        self.marks.append((time.perf_counter(), time.process_time(), self.sampling, used))

    def reported(self, number: int, report: dict[str, Any]) -> None:
        self.on_trial_result()

    def finished(self, number: int, state: Any, why: str) -> None:
        self.on_trial_complete()

    def started(self, number: int, config: Any) -> None: ...
    def retried(self, number: int, why: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self) -> None: ...

    def sampler(self, space: SearchSpace, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of a search, its time taken."""
        sampler = make_sampler(space, number)
        for name in ("infer_relative_search_space", "sample_relative", "sample_independent"):
            setattr(sampler, name, self._timed(getattr(sampler, name)))
        return sampler

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            before = time.perf_counter()
            found = call(*args)
            self.sampling += time.perf_counter() - before
            return found

        return timed

    def rows(self, what: str) -> Iterator[str]:
        """A line for each BLOCK of trials, from its first end to its last."""
        ended, last = time.perf_counter(), len(self.marks)
        for first in range(0, last, BLOCK):
            block = self.marks[first : first + BLOCK]
            a_trial = [(b - a) / (len(block) - 1) for a, b in zip(block[0], block[-1], strict=True)]
            wall, busy, sampling, _ = a_trial
            cells = [what, f"{first + 1} to {first + len(block)}", f"{wall - sampling:.3f}",
                     f"{sampling:.3f}", f"{busy:.3f}", f"{block[-1][3]:.0f}"]  # fmt: skip
            cells.append(f"{self.first_report - self.began:.1f}" if not first else "")
            cells.append(f"{ended - self.marks[-1][0]:.1f}" if first + BLOCK >= last else "")
            yield f"| {' | '.join(cells)} |"


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


def run_ours(trials: int, sampler: str, folder: Path) -> Watch:
    raw = {**load_space("full").to_dict(), "sampler": sampler, "budget": {"trials": trials}}
    space = parse_space(raw, "full.yaml")
    assert space.asha is not None
    watch = Watch()
    study = open_study(folder / f"{sampler}.journal", SEARCH, space.objective)
    bridge = Bridge(
        study=study,
        objective=space.objective,
        suggest=space.suggest,
        sampler=functools.partial(watch.sampler, space),
        trials=trials,
        listener=watch,
        stop=Stop(space.objective),
        checkpoints=Store(str(folder.resolve() / "checkpoints")),
        clock=Clock([study], time.monotonic()),
        health=Health(Share(1, 0, CORES)),
    )
    asha = StudyASHA(space.asha, space.objective, space.max_epochs)
    with patch.object(loop, "train_trial", our_trial):
        run: Any = loop.run_trials  # of a trial that takes no order and no data
        run(bridge, None, None, Share(1, 0, CORES), asha)
    return watch


def seconds_to_first_report(data: Path) -> float:
    """From the start of the command to the line of its first report."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "tune.search", "--data", str(data), "--out", f"{folder}/run"]
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as search:
            assert search.stderr is not None
            next(line for line in search.stderr if b" epoch " in line)
            seconds = time.perf_counter() - began
            search.terminate()
            search.stderr.read()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    args = parser.parse_args()
    print(f"{described()}\n")
    if args.data:
        times = sorted(seconds_to_first_report(args.data) for _ in range(STARTS))
        print(f"first report of the command: {', '.join(f'{t:.1f}' for t in times)} s\n")
    print("| search | trials | s a trial | and sampling, s | driver CPU, s | driver, MB "
          "| to the first report, s | after the last trial, s |")  # fmt: skip
    print(f"|{' --- |' * 8}", flush=True)
    # The journal on this disk, not in memory: syncs take what they take.
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        with logged_to(Path(scratch) / "search.log"):
            start_ray(None)
            lines = [*run_plain(NEW_ACTORS, False).rows("plain Tuner")]
            lines += run_plain(args.trials, True).rows("with reuse_actors")
            for sampler in args.samplers:
                watch = run_ours(args.trials, sampler, Path(scratch))
                lines += watch.rows(f"ours, {sampler}")
            ray.shutdown()
        print(*lines, sep="\n")


if __name__ == "__main__":
    main()
