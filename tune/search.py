"""`python -m tune.search`, and `tune.search()` from Python: the driver, read from top to bottom.

Functions only: this module runs as `__main__`, so nothing in it may cross a process.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
import ray
import torch
from optuna.trial import TrialState

from lstmcls.artifact import load_artifact
from lstmcls.cli import INTERRUPTED, OK, BadInput, Parser, RunFailed, nearest, run
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.files import replacing
from tune.budget import require_no_less
from tune.cluster import nodes, start_ray
from tune.data import prepared_folder, remarks, require_same_data, stored_frame
from tune.journal import AnotherWriter, repair_journal
from tune.live import Display
from tune.log import logged_to
from tune.mirror import Mirror, at_home, mirrored
from tune.mlflow import MLflow, connect
from tune.options import add_search_options, with_options
from tune.probe import probe
from tune.report.document import try_report
from tune.resources import divide, in_turns
from tune.run_folder import RunFolder, existing_run, new_run
from tune.searcher import Tracker
from tune.session import Outcome, Session
from tune.space import SearchSpace, load_space, parse_space
from tune.stop import interrupt_on_signals
from tune.storage import check_storage
from tune.store import as_place
from tune.study import CONFIRMATION, SEARCH, read_study
from tune.summary import comparison, example, summary
from tune.tensorboard import TensorBoard, require_tensorboard
from tune.warm_start import warm_start_points


def main() -> int:
    args = _parser().parse_args()
    interrupt_on_signals()
    try:
        outcome = run_search(args, _command())
    except KeyboardInterrupt as stopped:
        if not stopped.args:  # nothing to go on with
            raise
        print(stopped)
        return INTERRUPTED
    return _tell(outcome, args.address)


def arguments(options: Mapping[str, Any]) -> argparse.Namespace:
    """The command line's options from Python, named with _ for -; values as they are there.

    `space` may also be a mapping, `data` a pandas DataFrame, `set` a mapping.

    Raises:
        BadInput: no such option.
    """
    args = _parser().parse_args([])
    for name, value in options.items():
        if not hasattr(args, name):
            raise BadInput(f"{name}: no such option of a search{nearest(name, vars(args))}")
        setattr(args, name, str(value) if isinstance(value, PurePath) else value)
    for name in ("out", "resume", "warm_start"):
        path = getattr(args, name)
        setattr(args, name, None if path is None else as_place(path))
    if isinstance(args.set, Mapping):
        args.set = [f"{name}={value}" for name, value in args.set.items()]
    if isinstance(args.data, pd.DataFrame):
        args.data = str(stored_frame(args.data, args.text, args.label))
    return args


def run_search(args: argparse.Namespace, command: str = "") -> Outcome:
    """The search that `args` asks for, to its end or to the first Ctrl-C; `command` is recorded.

    Raises:
        BadInput: the input cannot be used; nothing was started.
        RunFailed: the search failed, or not one trial reported.
        KeyboardInterrupt: the second Ctrl-C, saying how to go on.
    """
    if ray.is_initialized():
        raise BadInput("this process uses Ray already; ray.shutdown() frees it for a search")
    if args.tensorboard:
        require_tensorboard()
    mlflow = connect(args.mlflow) if args.mlflow else None
    _require_no_changes(args)
    store = at_home(args)
    space, said = (_resumed(args), []) if args.resume is not None else _new(args)
    if args.auto_resume and _goes_on(args.out, space):
        args.resume = args.out
    prepared = load_prepared(Path(str(space.data)))
    # Only now, when all input has been found good, is a folder made.
    if args.resume is not None:
        folder = RunFolder(args.resume)
    else:
        folder = new_run(_name(args), args.out, _space_file(args))
    if store is not None and folder.origin != store.place:
        folder.set_origin(store.place)
    display = Display(space, args.quiet)
    for note in said:
        display.note(note)
    with folder.locked(), mirrored(folder, prepared.folder, display.note) as mirror:
        trackers: list[Tracker] = []
        if args.tensorboard:
            trackers.append(TensorBoard(folder, space.objective))
        if mlflow is not None:
            trackers.append(MLflow(mlflow, folder, space.objective, display.note))
        try:
            return _search(folder, space, prepared, display, trackers, args, command, mirror)
        except BadInput:  # of another run, the cluster or its resources
            folder.take_back()
            raise


def _new(args: argparse.Namespace) -> tuple[SearchSpace, list[str]]:
    """The space, and what the options make of it that one may not expect."""
    name = _name(args)
    stated = args.space or name
    found = parse_space(stated, name) if isinstance(stated, Mapping) else load_space(stated)
    space = with_options(found, args, name)
    if args.warm_start is not None:
        existing_run(args.warm_start)
    data = prepared_folder(space.data or "reviews", args.text, args.label, not args.quiet)
    notes = []
    if gone := len(found.enqueue) - len(space.enqueue):
        notes.append(f"--set: {gone} of {len(found.enqueue)} enqueued points do not go with it")
    return parse_space({**space.to_dict(), "data": str(data)}, name), notes


def _name(args: argparse.Namespace) -> str:
    return "search" if isinstance(args.space, Mapping) else Path(args.space or "full").stem


def _space_file(args: argparse.Namespace) -> Path | None:
    """The user's own file of the space; None where `--space` names one that comes with this."""
    if args.space is None or isinstance(args.space, Mapping):
        return None
    path = Path(args.space)
    return path if path.is_file() else None


_KEPT = ("space", "data", "text", "label", "out", "objective", "seed", "set", "warm_start")


def _require_no_changes(args: argparse.Namespace) -> None:
    if args.resume is None:
        return
    for option in _KEPT:
        if getattr(args, option) not in (None, []):
            raise BadInput(
                f"--{option.replace('_', '-')}: a resumed search keeps what it was started with; "
                "only its budget and its resources can change"
            )


def _resumed(args: argparse.Namespace) -> SearchSpace:
    folder = existing_run(args.resume)
    space = with_options(load_space(str(folder.space)), args, str(folder.space))
    if folder.data.is_dir():  # it came home from an object store
        space = dataclasses.replace(space, data=str(folder.data.resolve()))
    return space


def _goes_on(out: Path | None, space: SearchSpace) -> bool:
    """Whether `out` holds this very search, so that the same command again goes on with it."""
    if out is None:
        raise BadInput("--auto-resume: name the run's folder with --out")
    folder = RunFolder(out)
    if not folder.journal.exists():
        return False
    before, now = load_space(str(existing_run(out).space)).to_dict(), space.to_dict()
    if folder.data.is_dir():  # from another machine; `require_same_data` looks at what is in them
        before["data"] = now["data"]
    differ = [name for name in now if now[name] != before.get(name)]
    if others := [name for name in differ if name not in ("budget", "resources")]:
        raise BadInput(
            f"{out}: holds a search that differs in {', '.join(others)}; name another --out"
        )
    return True


def _search(
    folder: RunFolder,
    space: SearchSpace,
    prepared: Prepared,
    display: Display,
    trackers: list[Tracker],
    args: argparse.Namespace,
    command: str,
    mirror: Mirror | None,
) -> Outcome:
    if folder.journal.exists():
        if dropped := repair_journal(folder.journal):
            name = folder.journal.name
            display.note(f"{name}: a last line cut short ({dropped} bytes) was dropped")
        if study := read_study(folder.journal, SEARCH):
            require_same_data(study, prepared.folder)
            studies = [study, *filter(None, [read_study(folder.journal, CONFIRMATION)])]
            require_no_less(space.budget, load_space(str(folder.space)).budget, studies)
    points: list[dict[str, Any]] = []
    if args.warm_start is not None:
        points, left_out = warm_start_points(space, existing_run(args.warm_start))
        then = " after the space's first point" if space.enqueue else ""
        tried = f"{len(points)} configurations of {args.warm_start} are tried first{then}"
        tried = tried if points else f"no configuration of {args.warm_start} fits this space"
        for line in [tried, *left_out]:
            display.note(f"warm start: {line}")
    with replacing(folder.space) as path:
        path.write_text(space.to_yaml(), encoding="utf-8")
    threads = torch.get_num_threads()
    with logged_to(folder.log):
        try:
            joins = f"joining Ray at {args.address}"
            display.note(joins if args.address else "starting Ray, on this machine")
            start_ray(args.address)
            if args.address is not None:
                check_storage(folder.store)
            found = nodes()
            gpus = any(node.gpus for node in found) and space.resources.gpu == "auto"
            needs = probe(space, prepared, display.note) if gpus else []
            share = divide(space.resources, found, needs)
            turns = in_turns(share) if args.address is None else ()
            for note in [*share.notes, *turns, *remarks(prepared, space, share)]:
                display.note(note)
            session = Session(
                folder, space, prepared, share, display, trackers, points, command, mirror
            )
            outcome = session.conduct()
            if outcome.winner is not None:
                try_report(folder, display.note)
        except KeyboardInterrupt:
            if not folder.journal.exists():
                folder.take_back()
                raise
            again = _resume(folder, args.address)
            raise KeyboardInterrupt(f"stopped at once; go on with: {again}") from None
        except AnotherWriter as fault:
            again = _resume(folder, args.address)
            raise RunFailed(f"{fault}; stop one of them, then go on with: {again}") from None
        finally:
            display.close()
            ray.shutdown()
            torch.set_num_threads(threads)  # the process may go on with something else
    if outcome.winner is None and not outcome.interrupted:
        raise RunFailed(_nothing(outcome, args.address))
    return outcome


def _nothing(outcome: Outcome, address: str | None) -> str:
    """Why there is no winner, and what to do."""
    failed = outcome.search.get_trials(states=(TrialState.FAIL,))
    if failed:
        why = failed[-1].user_attrs.get("stopped", "")
        return f"no trial reported, {len(failed)} failed; the last: {why}; see {outcome.run.log}"
    return (
        f"no trial came to its first report within the budget; see {outcome.run.log}; a larger "
        f"one goes on with: {_resume(outcome.run, address)} --minutes M"
    )


def _tell(outcome: Outcome, address: str | None) -> int:
    folder = outcome.run
    if outcome.interrupted:
        if outcome.winner is not None:
            print(f"best so far: {folder.best}")
            print(f"report:  {folder.report}")
        print(f"interrupted; resume with: {_resume(folder, address)}")
        return INTERRUPTED
    print(summary(outcome))
    if compared := comparison(outcome.space, outcome.search):
        print(compared)
    print(example(load_artifact(folder.best), outcome.prepared))
    print(f'predict: python -m lstmcls.predict {shlex.quote(str(folder.best))} "some text"')
    print(f"report:  {folder.report}")
    print(f"run:     {folder.path}{f', mirrored to {folder.origin}' if folder.origin else ''}")
    return OK


def _resume(folder: RunFolder, address: str | None) -> str:
    words = ["--resume", folder.named, *(["--address", address] if address else [])]
    return f"python -m tune.search {shlex.join(words)}"


def _command() -> str:
    """This sitting's command line, for the record; a password in an address stays out of it."""
    line = shlex.join(["python", "-m", "tune.search", *sys.argv[1:]])
    return re.sub(r"//[^/@\s]+@", "//", line)


_EPILOG = """\
examples:
  python -m tune.search --space full.yaml
  python -m tune.search --data shop.csv --text comment --label stars --minutes 30
  python -m tune.search --resume results/full-20260101-120000 --minutes 60   # 60 in all

A bare name of a space is looked up in search_spaces/; copy one of them to make your own.
The run's folder holds the study, the tables, the best configuration and the model; the command
prints its path. Ctrl-C ends the search and saves all; a second Ctrl-C stops at once."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune.search",
        description="Search for the best LSTM text classifier for your data.",
        epilog=_EPILOG,
    )
    add_search_options(parser)
    add = parser.add_argument
    add(
        "--out",
        type=as_place,
        metavar="DIR",
        help="the run's folder, or one in an object store, s3://BUCKET/.../NAME, with a copy in "
        "results/NAME (default: results/SPACE-TIME)",
    )
    add("--resume", type=as_place, metavar="DIR", help="go on with the run in DIR or s3://...")
    add("--auto-resume", action="store_true", help="go on with what --out holds, or begin there")
    add("--warm-start", type=Path, metavar="RUN", help="try another run's best five first")
    add("--address", metavar="A", help="a Ray cluster to run on, auto inside one (default: here)")
    add("--tensorboard", action="store_true", help="write RUN/tensorboard/, live")
    add("--mlflow", metavar="URI", help="write to an MLflow server or database")
    add("--quiet", action="store_true", help="print the result only")
    return parser


if __name__ == "__main__":
    run(main)
