"""`python -m tune.search`: the driver, read from top to bottom.

Functions only: this module runs as `__main__`, so nothing in it may cross a process.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import ray

from lstmcls.artifact import load_artifact
from lstmcls.cli import INTERRUPTED, OK, BadInput, RunFailed, run
from lstmcls.config import parse_settings
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.files import replacing
from tune.data import prepared_folder
from tune.live import Display
from tune.report.document import try_report
from tune.resources import available, divide, start_ray
from tune.run_folder import RunFolder, existing_run, new_run
from tune.session import Outcome, Session
from tune.space import SearchSpace, load_space, parse_space
from tune.study import repair_journal
from tune.summary import comparison, example, summary
from tune.warm_start import warm_start_points


def main() -> int:
    args = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C
    space = _resumed(args) if args.resume is not None else _new(args)
    prepared = load_prepared(Path(str(space.data)))
    # Only now, when all input has been found good, is a folder made.
    folder = RunFolder(args.resume) if args.resume is not None else new_run(_name(args), args.out)
    with folder.locked():
        return _search(folder, space, prepared, args)


def _new(args: argparse.Namespace) -> SearchSpace:
    name = args.space or "full"
    space = _with_options(load_space(name), args, name)
    if args.warm_start is not None:
        existing_run(args.warm_start)
    data = prepared_folder(space.data or "reviews", args.text, args.label, not args.quiet)
    return parse_space({**space.to_dict(), "data": str(data)}, name)


def _name(args: argparse.Namespace) -> str:
    return Path(args.space or "full").stem


def _resumed(args: argparse.Namespace) -> SearchSpace:
    folder = existing_run(args.resume)
    for option in ("space", "data", "text", "label", "out", "seed", "set", "warm_start"):
        if getattr(args, option):
            raise BadInput(
                f"--{option.replace('_', '-')}: a resumed search keeps what it was started with; "
                "only its budget and its resources can change"
            )
    return _with_options(load_space(str(folder.space)), args, str(folder.space))


def _search(
    folder: RunFolder, space: SearchSpace, prepared: Prepared, args: argparse.Namespace
) -> int:
    display = Display(space.objective, space.budget.minutes, args.quiet)
    if folder.journal.exists() and (dropped := repair_journal(folder.journal)):
        display.note(f"{folder.journal.name}: a last line cut short ({dropped} bytes) was dropped")
    points: list[dict[str, Any]] = []
    if args.warm_start is not None:
        points, left_out = warm_start_points(space, existing_run(args.warm_start))
        for line in [f"{len(points)} configurations of {args.warm_start} enqueued", *left_out]:
            display.note(f"warm start: {line}")
    with replacing(folder.space) as path:
        path.write_text(space.to_yaml(), encoding="utf-8")
    try:
        # Ray prints what befalls its processes; the display says it in its own words.
        with open(folder.log, "a", encoding="utf-8") as log, redirect_stdout(log):
            start_ray(args.address, folder.log)
            share = divide(space.resources, *available())
            for note in share.notes:
                display.note(note)
            session = Session(folder, space, prepared, share, display, points, _command())
            outcome = session.conduct()
            report = try_report(folder) if outcome.winner is not None else ""
    except KeyboardInterrupt:
        if not folder.journal.exists():  # nothing to go on with
            raise
        print(f"stopped at once; go on with: {_resume(folder)}")
        return INTERRUPTED
    finally:
        display.close()
        ray.shutdown()
    return _tell(folder, space, prepared, outcome, report)


def _tell(
    folder: RunFolder, space: SearchSpace, prepared: Prepared, outcome: Outcome, report: str
) -> int:
    resume = _resume(folder)
    if outcome.interrupted:
        if outcome.winner is not None:
            print(f"best so far: {folder.best}")
            print(report)
        print(f"interrupted; go on with: {resume}")
        return INTERRUPTED
    if outcome.winner is None:
        raise RunFailed(
            f"no trial came to its first report within the budget; see {folder.log}; a larger one "
            f"goes on with: {resume} --minutes M"
        )
    print(summary(space, prepared, outcome))
    if compared := comparison(space, outcome):
        print(compared)
    print(example(load_artifact(folder.best), prepared))
    print(f'predict: python -m lstmcls.predict {folder.best} "some text"')
    print(report)
    print(f"run:     {folder.path}")
    return OK


def _resume(folder: RunFolder) -> str:
    return f"python -m tune.search --resume {shlex.quote(str(folder.path))}"


def _command() -> str:
    """This sitting's command line, for the record; a password in an address stays out of it."""
    line = shlex.join(["python", "-m", "tune.search", *sys.argv[1:]])
    return re.sub(r"//[^/@\s]+@", "//", line)


def _with_options(space: SearchSpace, args: argparse.Namespace, source: str) -> SearchSpace:
    """The space with what the command line says over it; checked like a file."""
    mapping = space.to_dict()
    budget: dict[str, Any] = mapping["budget"]
    resources: dict[str, Any] = mapping["resources"]
    for section, name, value in (
        (budget, "trials", args.trials),
        (budget, "minutes", args.minutes),
        (budget, "target", args.target),
        (resources, "cpu", args.cpus_per_trial),
        (resources, "gpu", args.gpus_per_trial),
        (resources, "concurrency", args.concurrency),
        (mapping, "seed", args.seed),
        (mapping, "data", args.data),
    ):
        if value is not None:
            section[name] = value
    mapping["fixed"].update(parse_settings(args.set))
    return parse_space(mapping, source)


_EPILOG = """\
examples:
  python -m tune.search --space full.yaml
  python -m tune.search --data shop.csv --text comment --label stars --minutes 30
  python -m tune.search --resume results/full-20260101-120000 --trials 400

A bare name of a space is looked up in search_spaces/; copy one of them to make your own.
The run's folder holds the study, the tables, the best configuration and the model; the command
prints its path. Ctrl-C ends the search and saves all; a second Ctrl-C stops at once."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tune.search",
        description="Search for the best LSTM text classifier for your data.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--space", metavar="FILE", help="the search space (default: full)")
    add("--data", metavar="DATA", help="prepared folder, labelled file or built-in name")
    add("--text", metavar="COL", help="text column of a labelled file (default: detected)")
    add("--label", metavar="COL", help="label column of a labelled file (default: detected)")
    add("--trials", metavar="N", help="end after N trials")
    add("--minutes", metavar="M", help="end after M minutes, confirmation included")
    add("--target", metavar="X", help="end when the objective reaches X")
    add("--out", type=Path, metavar="DIR", help="the run's folder (default: results/SPACE-TIME)")
    add("--resume", type=Path, metavar="DIR", help="go on with the run in DIR")
    add("--warm-start", type=Path, metavar="RUN", help="enqueue another run's best configurations")
    add("--concurrency", metavar="N", help="trials at once (default: as many as fit)")
    add("--cpus-per-trial", metavar="X", help="CPU cores a trial (default: the space's)")
    add("--gpus-per-trial", metavar="X", help="GPUs a trial, a fraction or auto")
    add("--address", metavar="A", help="a Ray cluster to run on, auto inside one (default: here)")
    add("--seed", metavar="N", help="of the search (default: the space's)")
    add("--set", action="append", default=[], metavar="K=V", help="fix a training setting")
    add("--quiet", action="store_true", help="print the result only")
    return parser


if __name__ == "__main__":
    run(main)
