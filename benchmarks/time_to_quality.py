"""Best validation accuracy over wall time: this search beside what people would use instead.

`python benchmarks/time_to_quality.py --data DATA --out FOLDER`: every search of SEARCHES on the
same prepared rows, the same two cores and the same minutes, one after another, for every seed. The
clock starts with the command: Python's start counts for all, the preparation of the data for
none. When the minutes are over, a search is killed with all that it started. Finished pieces are
kept in FOLDER, and the same command goes on with the rest; `--draw FOLDER` only draws.

The peers (benchmarks/peers/) search the ranges of search_spaces/full.yaml, as far as each tool can
say them. `lstm_tune` is full.yaml without its enqueued points, its n-grams and its confirmation,
which no peer has; `as_shipped` is full.yaml itself: the confirmation takes half of the
time, and its runs do not count here. A best value is the best of many looks at one validation
split, so it flatters them all, and most the one that looked most often: the table says how often.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml
from curves import OURS, draw, read_pieces, table
from machine import described

from lstmcls.files import replacing
from tune.journal import repair_journal
from tune.study import SEARCH, read_study, reports_of

ROOT = Path(__file__).resolve().parents[1]
FULL = ROOT / "search_spaces" / "full.yaml"
PEERS = ("ray_tutorial", "optuna_alone", "syne_tune_asha", "random_search")
SEARCHES = (*OURS, *PEERS)
CORES = 2
MARK = "TIME_TO_QUALITY"  # in the environment of a search and of all that it starts


def command(search: str, args: argparse.Namespace, work: Path, seed: int) -> list[str]:
    """The command of one search; what it leaves goes to the folder `work`."""
    if search in PEERS:
        python = args.syne_python if search == "syne_tune_asha" else sys.executable
        script = ROOT / "benchmarks" / "peers" / f"{search}.py"
        return [python, *map(str, (script, args.data, work, args.minutes, seed))]
    space = work / "space.yaml"
    space.write_text(_space(search, args.minutes), encoding="utf-8")
    options = {
        "--space": space, "--data": args.data, "--out": work / "run", "--minutes": args.minutes,
        "--seed": seed, "--concurrency": CORES,
    }  # fmt: skip
    stated = [str(part) for option in options.items() for part in option]
    return [sys.executable, "-m", "tune.search", "--quiet", *stated]


def _space(search: str, minutes: float) -> str:
    space = yaml.safe_load(FULL.read_text(encoding="utf-8"))
    if search == "lstm_tune":
        space |= {"enqueue": [], "confirm": "off", "budget": {"minutes": minutes}}
        del space["space"]["ngrams"]  # which no peer's network has
    return yaml.safe_dump(space, sort_keys=False)


def run_piece(search: str, seed: int, args: argparse.Namespace) -> dict[str, Any] | None:
    """Run one search to its end; None when it failed of itself."""
    work = args.out / "work" / f"{search}-{seed}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    started = time.time()
    if status := run_killed(command(search, args, work, seed), args.minutes * 60, work):
        print(f"{search}, seed {seed}: failed with status {status}; see {work / 'output.log'}")
        return None
    results = _our_results(work) if search in OURS else _peer_results(work)
    return {
        "search": search,
        "seed": seed,
        "minutes": args.minutes,
        "data": args.data.name,
        "machine": described(),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "results": [
            {"seconds": round(at - started, 3), "value": value, "trial": trial}
            for at, value, trial in results
            if at - started <= args.minutes * 60 and not math.isnan(value)
        ],
    }


def run_killed(arguments: list[str], seconds: float, work: Path) -> int | None:
    """Run a command for `seconds` at most, then kill it; its status, None if it was killed."""
    mark = uuid.uuid4().hex
    with open(work / "output.log", "wb") as log:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env={**os.environ, MARK: mark}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill_marked(mark)
        process.wait()


def kill_marked(mark: str) -> None:
    """Kill every process whose environment holds `mark`: not all stay in one process group."""
    while family := list(_marked(mark)):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == mark:
                yield process
        except (psutil.Error, OSError):
            continue


def _our_results(work: Path) -> Iterator[tuple[float, float, str]]:
    """(Unix time, value, trial) of every report of the search, from its study."""
    journal = work / "run" / "study.journal"
    if not journal.exists():
        return
    repair_journal(journal)  # the kill may have cut its last line short
    study = read_study(journal, SEARCH)
    for trial in study.get_trials(deepcopy=False) if study else ():
        for report in reports_of(trial):
            yield report["time"], report["objective"], str(trial.number)


def _peer_results(work: Path) -> Iterator[tuple[float, float, str]]:
    path = work / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    for line in lines:
        if line.endswith("\n"):  # else the kill cut it short
            result = json.loads(line)
            yield result["time"], result["value"], result["trial"]


def run_missing(args: argparse.Namespace) -> bool:
    """Run the pieces that FOLDER lacks; whether all of them succeeded."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    succeeded = True
    for seed in range(args.seeds):
        for search in args.only or SEARCHES:
            path = args.out / f"{search}-{seed}.json"
            if path.exists():
                continue
            piece = run_piece(search, seed, args)
            if piece is None:
                succeeded = False
                continue
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(piece), encoding="utf-8")
            best = max((result["value"] for result in piece["results"]), default=math.nan)
            print(f"{search}, seed {seed}: {best:.4f}, {len(piece['results'])} validations")
    return succeeded


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="a prepared folder")
    add("--out", type=Path, default=ROOT / "results" / "time_to_quality", metavar="FOLDER")
    add("--minutes", type=float, default=10.0, help="of each search (default: 10)")
    add("--seeds", type=int, default=3, metavar="N", help="0 to N - 1 (default: 3)")
    add("--only", action="append", choices=SEARCHES, help="this search alone; may be repeated")
    add("--syne-python", default=sys.executable, help="a Python that has syne-tune")
    add("--draw", type=Path, metavar="FOLDER", help="run nothing, draw what FOLDER holds")
    add("--svg", type=Path, default=ROOT / "docs" / "time_to_quality.svg", help="the plot's file")
    args = parser.parse_args()
    succeeded = True
    if not args.draw:
        if not args.data:
            parser.error("--data: a prepared folder is needed; lstmcls.prepare makes one")
        args.data, args.out = args.data.resolve(), args.out.resolve()
        if any(args.out.glob("*.json")) and read_pieces(args.out)[1] != args.minutes:
            parser.error(f"--minutes: {args.out} holds runs of another budget")
        succeeded = run_missing(args)
    runs, minutes, machine = read_pieces(args.draw or args.out)
    print(f"{machine}\n\n{table(runs, minutes)}")
    draw(runs, minutes, args.svg)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
