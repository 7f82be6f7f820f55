"""The driver beyond this machine: more trials at once than it has cores, on recorded curves.

`python benchmarks/scale.py RUN`: a worker sleeps through a learning curve of RUN, FASTER times
as fast as it was trained, and reports it; the rest is the search itself, on the default space.
`--slots` starts Ray with as many CPUs as are named, whatever the machine has: the worker
processes are real, and share its cores with the driver. `--played` is for more slots than memory
holds processes: one event after the other goes through our searcher, ASHA, recorder and journal
without Ray and without waiting, so it tells what our part takes and how that grows.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pandas as pd
import psutil
import ray
import ray.tune
from machine import described
from ray.tune.schedulers import TrialScheduler

from tune import loop
from tune.cluster import members, start_ray
from tune.health import Health
from tune.recorder import StudyRecorder
from tune.resources import Share
from tune.samplers import make_sampler
from tune.scheduler import StudyASHA
from tune.searcher import Bridge, StudySearcher
from tune.sittings import Clock
from tune.space import SearchSpace, load_space, parse_space
from tune.stop import Stop
from tune.store import Store
from tune.study import SEARCH, open_study

Curve = list[dict[str, Any]]
LINES = 4  # of the table, for each search: how its cost grows


@dataclass(frozen=True)
class Recorded:
    """The learning curves of a run, and how much faster than they were trained to go through."""

    curves: list[Curve]
    faster: float

    def reports(self, spec: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        """(seconds of work, report) of a trial, over its own number of epochs."""
        curve = self.curves[spec["number"] * 7919 % len(self.curves)]
        before = 0.0
        for step, report in enumerate(curve, start=1):
            epoch = spec["train"]["epochs"] * step / len(curve)
            work, before = report["seconds"] - before, report["seconds"]
            yield work / self.faster, {**report, "step": step, "epoch": epoch, "note": ""}


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def recorded_curves(run: Path) -> list[Curve]:
    reports = pd.read_parquet(run / "reports.parquet").query("study == 'search'")
    table = reports.drop(columns=["study", "time"]).sort_values("step")
    curves = (curve.to_dict("records") for _, curve in table.groupby("trial"))
    return [[{str(k): v for k, v in report.items()} for report in curve] for curve in curves]


def replay(spec: dict[str, Any], data: Recorded, order: None) -> None:
    """A trial as Ray sees it; `tokens` carries the time at which the report was made."""
    for work, report in data.reports(spec):
        time.sleep(work)
        ray.tune.report({**report, "tokens": time.time()})


@dataclass
class Watch:
    """Our listener: what the driver has done and used after every report."""

    marks: list[tuple[float, ...]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # seconds from a report to its record

    def reported(self, number: int, report: dict[str, Any]) -> None:
        used = psutil.Process().memory_info().rss / 2**20
        self.marks.append((time.perf_counter(), time.process_time(), number + 1, used))
        self.delays.append(time.time() - report["tokens"])

    def started(self, number: int, config: Any) -> None: ...
    def finished(self, number: int, state: Any, why: str) -> None: ...
    def retried(self, number: int, why: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self) -> None: ...

    def rows(self, what: str) -> Iterator[str]:
        size = max(1, len(self.marks) // LINES)
        for first in range(0, size * LINES, size):
            block, delays = self.marks[first : first + size], self.delays[first : first + size]
            wall, busy, *_ = (b - a for a, b in zip(block[0], block[-1], strict=True))
            rate, each = (len(block) - 1) / wall, 1000 * busy / (len(block) - 1)
            waited = f"{1000 * statistics.median(delays):.0f}" if "played" not in what else ""
            trials = max(mark[2] for mark in block)
            yield row(what, f"{trials:.0f}", first + len(block), f"{rate:.0f}", f"{each:.1f}",
                      waited, f"{block[-1][3]:.0f}")  # fmt: skip


def played(bridge: Bridge, recorded: Recorded, slots: int, asha: StudyASHA) -> None:
    """The events of a search in the order of the trials' own clocks."""
    searcher, recorder = StudySearcher(bridge), StudyRecorder(bridge)
    events: list[tuple[float, int, Any, Any]] = []  # when, number, trial, its reports
    now, ids = 0.0, itertools.count()
    while True:
        while len(events) < slots and isinstance(spec := searcher.suggest(str(next(ids))), dict):
            trial = SimpleNamespace(config=spec, last_result=None)
            asha.on_trial_add(None, trial)
            heapq.heappush(events, (now, spec["number"], trial, recorded.reports(spec)))
        if not events:
            return
        now, number, trial, reports = heapq.heappop(events)
        work, report = next(reports, (0.0, None))
        decision = TrialScheduler.STOP
        if report is not None:
            decision = asha.on_trial_result(None, trial, report)
            recorder.on_trial_result(0, [], trial, report)
            trial.last_result = report
        if decision == TrialScheduler.STOP:
            asha.on_trial_complete(None, trial, trial.last_result)
            recorder.on_trial_complete(0, [], trial)
        else:
            heapq.heappush(events, (now + work, number, trial, reports))


def a_bridge(folder: Path, space: SearchSpace, watch: Watch, health: Health) -> Bridge:
    study = open_study(folder / "study.journal", SEARCH, space.objective)
    return Bridge(
        study=study,
        objective=space.objective,
        suggest=space.suggest,
        sampler=functools.partial(make_sampler, space),
        trials=space.budget.trials,
        listener=watch,
        stop=Stop(space.objective),
        checkpoints=Store(str(folder.resolve() / "checkpoints")),
        clock=Clock([study], time.monotonic()),
        health=health,
    )


def on_ray(bridge: Bridge, recorded: Recorded, slots: int, asha: StudyASHA) -> None:
    with patch.object(ray, "init", functools.partial(ray.init, num_cpus=slots)):
        start_ray(None)
    try:
        with patch.object(loop, "train_trial", replay):
            run: Any = loop.run_trials  # of a trial that takes recorded curves as its data
            run(bridge, None, recorded, Share(1, 0, slots), asha)
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--slots", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--played", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--trials", type=int, nargs=2, default=[400, 5000], help="on Ray, played")
    parser.add_argument("--faster", type=float, default=10.0)
    parser.add_argument("--sampler", default="random")
    args = parser.parse_args()
    recorded = Recorded(recorded_curves(args.run), args.faster)
    print(f"{described()}\n")
    print(row("search", "trials", "reports", "reports a second", "driver CPU ms a report",
              "ms to the record", "driver MB"))  # fmt: skip
    print(row(*["---"] * 7))
    runs = [("Ray", slots, args.trials[0]) for slots in args.slots]
    runs += [("played", slots, args.trials[1]) for slots in args.played]
    for kind, slots, trials in runs:
        raw = {**load_space("full").to_dict(), "sampler": args.sampler}
        space = parse_space({**raw, "budget": {"trials": trials}}, "full.yaml")
        assert space.asha is not None
        asha, watch = StudyASHA(space.asha, space.objective, space.max_epochs), Watch()
        with tempfile.TemporaryDirectory(dir=".") as scratch:
            folder = Path(scratch)
            health = Health(Share(1, 0, slots), members if kind == "Ray" else list)
            bridge = a_bridge(folder, space, watch, health)
            if kind == "Ray":
                on_ray(bridge, recorded, slots, asha)
            else:
                played(bridge, recorded, slots, asha)
        print(*watch.rows(f"{slots} slots, {kind}"), sep="\n", flush=True)


if __name__ == "__main__":
    main()
