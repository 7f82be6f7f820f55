"""A Kubernetes resource that makes a Ray cluster and runs a search on it: KubeRay's RayJob.

The space travels in it as a ConfigMap; the code is in the image (see the Dockerfile); the data and
the run lie on a volume that all pods share. When the head pod is lost, KubeRay makes a new cluster
and runs the same command, which goes on. Needs KubeRay 1.5.1, for its tokens.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import PurePosixPath
from typing import Any

import ray
import yaml

from lstmcls.builtin import NAMES
from lstmcls.cli import BadInput
from tune.submit.run import Run, add_run_options

SHARED = "/shared"  # where the pods see the volume
SPACE = "/space"
GROUP = 1000  # of the image's user, who must write to the volume
RETRIES = 3  # new clusters, when one is lost
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")  # KubeRay's limit is 47 characters

_QUANTITY = re.compile(r"\d+(\.\d+)?([KMGT]i?)?")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--image", required=True, metavar="IMAGE", help="made from the Dockerfile, for all pods")
    add("--claim", required=True, metavar="NAME", help="PersistentVolumeClaim, ReadWriteMany")
    add("--nodes", type=int, default=1, metavar="N", help="worker pods (default: 1)")
    add("--cpus-per-node", type=int, default=4, metavar="N", help="CPUs of each (default: 4)")
    add("--gpus-per-node", type=int, default=0, metavar="N", help="GPUs of each (default: 0)")
    add("--memory-per-node", default="8Gi", metavar="M", help="memory of each (default: 8Gi)")
    add_run_options(parser, shared=SHARED, what="where the pods see the volume")


def manifest(run: Run, args: argparse.Namespace) -> str:
    """The text of the resources.

    Raises:
        BadInput: the name or a number cannot be used, or the data is not the cluster's.
    """
    if not _LABEL.fullmatch(run.name):
        raise BadInput(
            f"--name {run.name}: expected at most 47 lower-case letters, digits and '-', "
            "beginning with a letter, as Kubernetes wants it"
        )
    if run.in_store:
        raise BadInput(f"--shared {run.shared}: expected a path, where the pods see the volume")
    if not _QUANTITY.fullmatch(args.memory_per_node):
        raise BadInput(f"--memory-per-node {args.memory_per_node}: expected such as 8Gi")
    for option, least in (("nodes", 1), ("cpus_per_node", 1), ("gpus_per_node", 0)):
        if getattr(args, option) < least:
            raise BadInput(f"--{option.replace('_', '-')}: expected {least} or more")
    data = run.space.data
    if data is not None and data not in NAMES and not PurePosixPath(data).is_absolute():
        raise BadInput(
            f"--data {data}: expected a path on the volume, such as {run.shared}/{data}, or one of "
            f"{', '.join(NAMES)}; copy it there first"
        )
    search = [*run.command(), "--space", f"{SPACE}/space.yaml", "--address", "auto"]
    worker = {"cpu": str(args.cpus_per_node), "memory": args.memory_per_node}
    if args.gpus_per_node:
        worker["nvidia.com/gpu"] = str(args.gpus_per_node)
    head = {"cpu": "2", "memory": "8Gi"}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": run.name},
        "data": {"space.yaml": run.space.to_yaml()},
    }
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": run.name},
        "spec": {
            "entrypoint": shlex.join(search),
            "backoffLimit": RETRIES,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": {
                "rayVersion": ray.__version__,
                "authOptions": {"mode": "token"},  # KubeRay makes the token, a Secret
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},  # the driver alone
                    "template": _pod("ray-head", run, args, head),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": args.nodes,
                        "minReplicas": args.nodes,
                        "maxReplicas": args.nodes,
                        "rayStartParams": {},
                        "template": _pod("ray-worker", run, args, worker),
                    }
                ],
            },
        },
    }
    return yaml.dump_all([config_map, job], Dumper=_Dumper, sort_keys=False, width=1000)


def _pod(name: str, run: Run, args: argparse.Namespace, resources: dict[str, str]) -> Any:
    """A pod's template: Ray's processes get what they ask for, no less and no more."""
    container = {
        "name": name,
        "image": args.image,
        "workingDir": run.shared,  # the job stands there
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "volumeMounts": [
            {"name": "shared", "mountPath": run.shared},
            {"name": "space", "mountPath": SPACE},
        ],
    }
    volumes = [
        {"name": "shared", "persistentVolumeClaim": {"claimName": args.claim}},
        {"name": "space", "configMap": {"name": run.name}},
    ]
    access = {"fsGroup": GROUP}
    return {"spec": {"securityContext": access, "containers": [container], "volumes": volumes}}


class _Dumper(yaml.SafeDumper):
    """A text of several lines as it reads: the space in the ConfigMap."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
