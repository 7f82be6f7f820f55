"""A Kubernetes resource that makes a Ray cluster and runs a search on it: KubeRay's RayJob.

The space travels in it as a ConfigMap; the code is in the image (see the Dockerfile); the data and
the run lie on a volume that all pods share, or in an object store. When the head pod is lost,
KubeRay makes a new cluster and runs the same command, which goes on. Needs KubeRay 1.5.1, for its
tokens.
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
from tune.resources import Node, divide
from tune.store import is_uri
from tune.submit.run import Run, add_run_options

SHARED = "/shared"  # where the pods see the volume
SPACE = "/space"
GROUP = 1000  # of the image's user, who must write to the volume
RETRIES = 3  # new clusters, when one is lost
PATIENCE = 30  # seconds until a head on a node that does not answer is given up, not the usual 300
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")  # KubeRay's limit is 47 characters
_OBJECT = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_QUANTITY = re.compile(r"(?=.*[1-9])\d+(\.\d+)?[MGT]i?")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--image", required=True, metavar="IMAGE", help="made from the Dockerfile, for all pods")
    add("--claim", metavar="NAME", help="PersistentVolumeClaim, ReadWriteMany, for --shared")
    add("--secret", metavar="NAME", help="Secret with the AWS_* variables of an object store")
    add("--nodes", type=int, default=1, metavar="N", help="worker pods (default: 1)")
    add("--cpus-per-node", type=int, default=4, metavar="N", help="CPUs of each (default: 4)")
    add("--gpus-per-node", type=int, default=0, metavar="N", help="GPUs of each (default: 0)")
    add("--memory-per-node", default="8Gi", metavar="M", help="memory of each (default: 8Gi)")
    add_run_options(parser, shared=SHARED, what="where the pods see the volume, or s3://...")


def manifest(run: Run, args: argparse.Namespace) -> str:
    """The text of the resources.

    Raises:
        BadInput: a name or a number cannot be used, or the data is not the cluster's.
    """
    _check(run, args)
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
                    "template": _pod("ray-head", run, args, head, tolerations=_TOLERATIONS),
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


def _check(run: Run, args: argparse.Namespace) -> None:
    if not _LABEL.fullmatch(run.name):
        raise BadInput(
            f"--name {run.name}: expected at most 47 lower-case letters, digits and '-', "
            "beginning with a letter, as Kubernetes wants it"
        )
    for option, form, expected in (
        ("image", _IMAGE, "expected such as REGISTRY/lstm-tune:TAG"),
        ("claim", _OBJECT, "expected lower-case letters, digits, '-' and '.'"),
        ("secret", _OBJECT, "expected lower-case letters, digits, '-' and '.'"),
        ("memory_per_node", _QUANTITY, "expected such as 8Gi"),
    ):
        value = getattr(args, option)
        if value is not None and not form.fullmatch(value):
            raise BadInput(f"--{option.replace('_', '-')} {value}: {expected}")
    for option, least in (("nodes", 1), ("cpus_per_node", 1), ("gpus_per_node", 0)):
        if getattr(args, option) < least:
            raise BadInput(f"--{option.replace('_', '-')}: expected {least} or more")
    divide(run.space.resources, [Node(args.cpus_per_node, args.gpus_per_node)])
    if PurePosixPath(_volume(run)).is_relative_to(SPACE):
        raise BadInput(f"--shared {run.shared}: the pods see the search space there; name another")
    if args.claim is None and not run.in_store:
        raise BadInput(f"--claim: name that of {run.shared}, or --shared s3://BUCKET/FOLDER")
    _check_data(run, args)


def _check_data(run: Run, args: argparse.Namespace) -> None:
    data = run.space.data
    if data is None or data in NAMES or is_uri(data):
        return
    if args.claim is None:
        raise BadInput(f"--data {data}: no pod sees it; name its URI, or its volume with --claim")
    if not PurePosixPath(data).is_absolute():
        raise BadInput(
            f"--data {data}: expected a path on the volume, such as {_volume(run)}/{data}, a URI, "
            f"or one of {', '.join(NAMES)}; copy it there first"
        )


def _volume(run: Run) -> str:
    """Where the pods see the volume, or the folder that the image has in its place."""
    return SHARED if run.in_store else run.shared


_TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{taint}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": PATIENCE,
    }
    for taint in ("unreachable", "not-ready")
]


def _pod(
    name: str, run: Run, args: argparse.Namespace, resources: dict[str, str], **more: Any
) -> Any:
    """A pod's template: Ray's processes get what they ask for, no less and no more."""
    mounts = [{"name": "space", "mountPath": SPACE}]
    volumes: list[Any] = [{"name": "space", "configMap": {"name": run.name}}]
    if args.claim is not None:
        mounts.append({"name": "shared", "mountPath": _volume(run)})
        claim = {"claimName": args.claim}
        volumes.append({"name": "shared", "persistentVolumeClaim": claim})
    container = {
        "name": name,
        "image": args.image,
        "workingDir": _volume(run),  # the job stands there
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "volumeMounts": mounts,
    }
    if args.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": args.secret}}]
    access = {"fsGroup": GROUP}
    return {
        "spec": {"securityContext": access, "containers": [container], "volumes": volumes, **more}
    }


class _Dumper(yaml.SafeDumper):
    """A text of several lines as it reads: the space in the ConfigMap."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
