"""A Slurm batch script that makes a Ray cluster of its nodes and runs a search on it.

Ray starts once a node and ends with the job. Nodes join as they come and may be lost: the search
begins when the first one is up. Before the time limit the search saves, and the job is queued
again; after a preemption Slurm queues it again. Either way the same command goes on. `scancel`
ends it.
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
from tune.resources import Node, divide
from tune.store import is_uri
from tune.submit.run import Run, add_run_options

NOTICE = 120  # seconds before the time limit in which the search saves
START = 300  # seconds in which Ray's head must answer
LEAST = 10  # minutes of a sitting: less is gone before a trial reports, and queued again forever
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
    if _minutes(args.time) < LEAST:
        raise BadInput(f"--time {args.time}: expected {LEAST} minutes or more")
    divide(run.space.resources, [Node(args.cpus_per_node, args.gpus_per_node)])
    directives = {
        "job-name": run.name,
        "output": f"{run.name}-%j.log",
        "open-mode": "append",
        "nodes": args.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": args.cpus_per_node,
        **({"gpus-per-node": args.gpus_per_node} if args.gpus_per_node else {}),
        "time": args.time,
        "signal": f"B:USR1@{NOTICE}",  # not TERM, with which scancel and preemption come
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
            f"cpus={args.cpus_per_node}",
            f"node=(--num-cpus={args.cpus_per_node} --num-gpus={args.gpus_per_node})",
            f"export patience={START}",
            f"search=({shlex.join(run.command())})",
            "space=$(mktemp)",
            "cat > \"$space\" <<'SPACE'",
            run.with_data(_seen_by_all(run.space.data)).space.to_yaml().rstrip(),
            "SPACE",
            _BODY,
        ]
    )


def _minutes(time: str) -> float:
    """Of a limit as Slurm reads it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, _, clock = time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if not days and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + seconds / 60


def _seen_by_all(data: str | None) -> str | None:
    if data is None or data in NAMES or is_uri(data):
        return data
    if not Path(data).exists():
        raise BadInput(f"--data {data}: no such file or folder; the nodes read it where it lies")
    return str(Path(data).resolve())


_BODY = """\

cluster='' driver='' out_of_time=''
stop() {
    [ -n "$driver" ] || exit 1
    kill -TERM "$driver" 2> /dev/null
}
finish() {
    status=$?
    trap '' TERM USR1
    if [ -n "$cluster" ]; then
        kill "$cluster" 2> /dev/null
        wait "$cluster"
        # That killed the nodes' tasks before they tidied up.
        timeout 15 srun --no-kill rm -rf "/tmp/ray-$SLURM_JOB_ID"
    fi
    rm -f "$space"
    # Last, because it kills this script.
    [ "$out_of_time" != yes ] || [ "$status" != 130 ] || scontrol requeue "$SLURM_JOB_ID"
    exit "$status"
}
trap finish EXIT
trap stop TERM
trap 'out_of_time=yes; stop' USR1

# Whoever lacks this token cannot use this Ray, though the nodes' ports are open to others.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(umask 077; ray get-auth-token --generate 2> /dev/null) || exit 1
export RAY_AUTH_TOKEN

# This script runs on the first node. Each job has ports of its own: it may share the node.
ip=$(hostname -I | cut -d ' ' -f 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export ip port

# Until process $1 is gone, for `wait` also returns when a signal comes; its status.
wait_for() {
    local status
    while wait "$1"; status=$?; kill -0 "$1" 2> /dev/null; do :; done
    return "$status"
}

# For as long as process $1 is there.
wait_for_head() {
    until ray health-check --address "$ip:$port" > /dev/null 2>&1; do
        if [ "$SECONDS" -ge "$patience" ] || ! kill -0 "$1" 2> /dev/null; then
            echo "error: Ray's head does not answer at $ip:$port" >&2
            return 1
        fi
        sleep 1
    done
}

start_node() {
    # At a signal Ray would wait half a minute for its work to move; Slurm kills it by then.
    export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
    if [ "$SLURM_NODEID" = 0 ]; then
        set -- --head --node-ip-address="$ip" --port="$port" --include-dashboard=false \\
            --ray-client-server-port=$((port + 20000)) --temp-dir="/tmp/ray-$SLURM_JOB_ID" "$@"
    else
        wait_for_head $$ || exit 1
        set -- --address="$ip:$port" "$@"
    fi
    ray start --disable-usage-stats --block "$@" &
    ray=$!
    # Slurm signals this shell alone, and gives it some seconds.
    trap 'kill "$ray"' TERM
    wait_for "$ray"
    rm -rf "/tmp/ray-$SLURM_JOB_ID"
}
export -f wait_for wait_for_head start_node

srun --cpus-per-task="$cpus" --export=ALL --kill-on-bad-exit=0 --wait=0 --no-kill \\
    bash -c 'start_node "$@"' start_node "${node[@]}" &
cluster=$!
wait_for_head "$cluster" || exit 1

"${search[@]}" --space "$space" --address "$ip:$port" &
driver=$!
wait_for "$driver"
"""
