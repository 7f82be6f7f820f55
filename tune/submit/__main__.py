"""`python -m tune.submit`: the search on a cluster instead of here."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from lstmcls.cli import INTERRUPTED, OK, Parser, RunFailed, run
from tune.submit import k8s, slurm
from tune.submit.fetch import fetch
from tune.submit.jobs import ADDRESS, Jobs
from tune.submit.package import pack, size
from tune.submit.run import add_run_options, read_run


def main() -> int:
    words = sys.argv[1:]
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words = ["job", *words]
    args = _parser().parse_args(words)
    logging.disable(logging.WARNING)  # Ray's own chat
    try:
        status: int = args.command(args)
    except requests.RequestException as error:
        raise RunFailed(f"{args.address}: the connection is lost ({error})") from None
    return status


def _job(args: argparse.Namespace) -> int:
    run = read_run(args)
    jobs = _jobs(args)
    with tempfile.TemporaryDirectory() as folder:
        data = pack(Path(folder), run.space)
        sent = size(Path(folder)) / 1e6
        id_ = jobs.submit(run, Path(folder), data)
    print(f"job {id_}: {sent:.1f} MB sent{' with the data' if data else ''}, run {run.folder}")
    return OK if args.detach else _follow(jobs, id_)


def _logs(args: argparse.Namespace) -> int:
    return _follow(_jobs(args), args.id)


def _follow(jobs: Jobs, id_: str) -> int:
    try:
        status = jobs.follow(id_, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(f"no longer followed, the job goes on: {_words('logs', jobs, id_)}")
        print(f"to stop it: {_words('stop', jobs, id_)}")
        return INTERRUPTED
    if status == OK:
        print(f"fetch:   {_words('fetch', jobs, id_)} --to DIR")
    return status


def _words(verb: str, jobs: Jobs, id_: str) -> str:
    address = "" if jobs.address == ADDRESS else f" --address {jobs.address}"
    return f"python -m tune.submit {verb} {id_}{address}"


def _status(args: argparse.Namespace) -> int:
    print(_line(_jobs(args).get(args.id)))
    return OK


def _list(args: argparse.Namespace) -> int:
    for job in _jobs(args).all():
        print(_line(job))
    return OK


def _line(job: Any) -> str:
    started = datetime.fromtimestamp(job.start_time / 1000)
    status, where = job.status.value.lower(), job.metadata["run"]
    return f"{job.submission_id}: {status}, sent {started:%Y-%m-%d %H:%M}, run {where}"


def _stop(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    if not jobs.stop(args.id):
        print(f"{args.id} had ended")
        return OK
    print(f"{args.id} is stopped; the command that began it, with its --name, goes on with it")
    return OK


def _fetch(args: argparse.Namespace) -> int:
    fetch(_jobs(args), args.id, args.to)
    print(f"fetched: {args.to}")
    return OK


def _slurm(args: argparse.Namespace) -> int:
    _print_file(slurm.script(read_run(args), args))
    return OK


def _k8s(args: argparse.Namespace) -> int:
    _print_file(k8s.manifest(read_run(args), args))
    return OK


def _print_file(content: str) -> None:
    """Print a file in UTF-8, whatever the terminal: it is for another program."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    print(content, end="")


def _jobs(args: argparse.Namespace) -> Jobs:
    jobs = Jobs(args.address)
    if jobs.open_to_all:
        print(
            f"warning: {jobs.address} asks for no token: whoever reaches it can run code there",
            file=sys.stderr,
        )
    return jobs


# Every command: what calls it, what it does, an example.
_COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], str, str]] = {
    "job": (
        _job,
        "send the search to a Ray cluster and follow it",
        "--address http://127.0.0.1:8265 --shared /shared --data shop.csv --name shop",
    ),
    "logs": (_logs, "follow a job's log", "shop"),
    "status": (_status, "one line on a job", "shop"),
    "stop": (_stop, "end a job as Ctrl-C does: all is saved", "shop"),
    "list": (_list, "the searches that a cluster has seen", ""),
    "fetch": (_fetch, "bring a job's run folder here", "shop --to results/shop"),
    "slurm": (
        _slurm,
        "print a Slurm batch script",
        "--shared /shared --data shop.csv --name shop --nodes 4 --cpus-per-node 16 "
        "--time 4:00:00 > shop.sbatch",
    ),
    "k8s": (
        _k8s,
        "print a Kubernetes resource (KubeRay's RayJob)",
        "--image REGISTRY/lstm-tune --claim shared --data /shared/shop.csv --name shop "
        "--nodes 4 > shop.yaml",
    ),
}
_NOTE = """\
Without a subcommand it is `job`. The same command with the same --name goes on with its search.
A cluster answers only to its token: see docs/clusters.md."""


def _example(name: str) -> str:
    return f"  python -m tune.submit {name} {_COMMANDS[name][2]}".rstrip() + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune.submit",
        description="Run the search on a cluster.",
        epilog=f"examples:\n{''.join(map(_example, _COMMANDS))}\n{_NOTE}",
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    commands = {}
    for name, (function, text, _) in _COMMANDS.items():
        commands[name] = subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n{_example(name)}",
        )
        commands[name].set_defaults(command=function, address="")
    commands["job"].add_argument(
        "--detach", action="store_true", help="print the job's id and leave"
    )
    add_run_options(commands["job"], shared=None)
    for name in ("logs", "status", "stop", "fetch"):
        commands[name].add_argument("id", metavar="ID", help="the job's id, as `list` shows it")
    commands["fetch"].add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="a new folder"
    )
    default = os.environ.get("RAY_API_SERVER_ADDRESS", ADDRESS)
    for name in ("job", "logs", "status", "stop", "list", "fetch"):
        commands[name].add_argument(
            "--address",
            default=default,
            metavar="URL",
            help=f"Ray's dashboard (default: {default})",
        )
    slurm.add_options(commands["slurm"])
    k8s.add_options(commands["k8s"])
    return parser


if __name__ == "__main__":
    run(main)
