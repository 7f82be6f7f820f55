"""A Slurm batch script that makes a Ray cluster of its nodes and runs a search on it.

Ray starts once a node and ends with the job. Nodes join as they come and may be lost: the search
begins when the first one is up. Before the time limit the search saves, and the job is queued
again; after a preemption Slurm queues it again. Either way the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

import tune
from lstmcls.builtin import NAMES
from lstmcls.cli import BadInput
from tune.submit.run import Run, add_run_options

NOTICE = 120  # seconds before the time limit in which the search saves
_TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--nodes", type=int, default=1, metavar="N", help="exactly so many (default: 1)")
    add("--cpus-per-node", type=int, required=True, metavar="N", help="CPU cores of each")
    add("--gpus-per-node", type=int, default=0, metavar="N", help="GPUs of each (default: 0)")
    add("--time", required=True, metavar="T", help="limit of one sitting, as D-HH:MM:SS")
    add_run_options(parser, shared=os.getcwd())


def script(run: Run, args: argparse.Namespace) -> str:
    """The text of the script.

    Raises:
        BadInput: a number or the time cannot be used, or the data is not here.
    """
    for option, least in (("nodes", 1), ("cpus_per_node", 1), ("gpus_per_node", 0)):
        if getattr(args, option) < least:
            raise BadInput(f"--{option.replace('_', '-')}: expected {least} or more")
    if not _TIME.fullmatch(args.time):
        raise BadInput(f"--time {args.time}: expected minutes, HH:MM:SS or D-HH:MM:SS")
    directives = {
        "job-name": run.name,
        "output": f"{run.name}-%j.log",
        "open-mode": "append",
        "nodes": args.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": args.cpus_per_node,
        **({"gpus-per-node": args.gpus_per_node} if args.gpus_per_node else {}),
        "time": args.time,
        "signal": f"B:TERM@{NOTICE}",
        "requeue": None,
        "no-kill": None,
    }
    lines = [f"#SBATCH --{k}" + ("" if v is None else f"={v}") for k, v in directives.items()]
    paths = {
        "PATH": Path(sys.executable).parent,
        "PYTHONPATH": Path(str(tune.__file__)).parents[1],
    }
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "set -u",
            *([] if run.in_store else [f"cd {shlex.quote(run.shared)} || exit 1"]),
            *(f"export {k}={shlex.quote(str(v))}${{{k}:+:${k}}}" for k, v in paths.items()),
            f"node=(--num-cpus={args.cpus_per_node} --num-gpus={args.gpus_per_node})",
            f"search=({shlex.join(run.command())})",
            "space=$(mktemp)",
            "cat > \"$space\" <<'SPACE'",
            run.with_data(_seen_by_all(run.space.data)).space.to_yaml().rstrip(),
            "SPACE",
            _BODY,
        ]
    )


def _seen_by_all(data: str | None) -> str | None:
    if data is None or data in NAMES:
        return data
    if not Path(data).exists():
        raise BadInput(f"--data {data}: no such file or folder; the nodes read it where it lies")
    return str(Path(data).resolve())


_BODY = """\

# Whoever lacks this token cannot use this Ray, though the nodes' ports are open to others.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(umask 077; ray get-auth-token --generate 2> /dev/null) || exit 1
export RAY_AUTH_TOKEN

# This script runs on the first node.
ip=$(hostname -I | cut -d ' ' -f 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export ip port

start_node() {
    if [ "$SLURM_NODEID" = 0 ]; then
        exec ray start --head --node-ip-address="$ip" --port="$port" --include-dashboard=false \\
            --temp-dir="/tmp/ray-$SLURM_JOB_ID" --disable-usage-stats --block "$@"
    fi
    until ray health-check --address "$ip:$port" > /dev/null 2>&1; do sleep 1; done
    exec ray start --address="$ip:$port" --disable-usage-stats --block "$@"
}
export -f start_node

srun --no-kill bash -c 'start_node "$@"' start_node "${node[@]}" &
cluster=$!
until ray health-check --address "$ip:$port" > /dev/null 2>&1; do
    kill -0 "$cluster" || exit 1
    sleep 1
done

"${search[@]}" --space "$space" --address "$ip:$port" &
driver=$!
out_of_time=
trap 'out_of_time=yes; kill -TERM "$driver"' TERM
wait "$driver"
status=$?
if [ -n "$out_of_time" ]; then
    wait "$driver"
    status=$?
    scontrol requeue "$SLURM_JOB_ID"
fi
kill "$cluster"
wait "$cluster"
srun --no-kill rm -rf "/tmp/ray-$SLURM_JOB_ID"
rm "$space"
exit "$status"
"""
