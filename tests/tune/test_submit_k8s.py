"""The Kubernetes resource against KubeRay's own schema.

rayjob-schema.json.gz is the RayJob v1 schema of KubeRay 1.7.0 (Apache License 2.0,
helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml) without its descriptions and its status.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lstmcls.cli import BadInput
from tune.space import parse_space
from tune.submit import k8s
from tune.submit.run import read_run


def manifest(*words: str) -> str:
    parser = argparse.ArgumentParser()
    k8s.add_options(parser)
    args = parser.parse_args(
        ["--image", "here/tune:1", "--claim", "disk", "--name", "shop", *words]
    )
    return k8s.manifest(read_run(args), args)


def resources(*words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    config_map, job = yaml.safe_load_all(manifest(*words))
    return config_map, job


def _closed(schema: Any) -> Any:
    """The schema without room for unknown keys, which Kubernetes would drop without a word."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


@pytest.fixture(scope="module")
def schema() -> Any:
    packed = Path(__file__).with_name("rayjob-schema.json.gz")
    found = _closed(json.loads(gzip.decompress(packed.read_bytes())))
    found["properties"]["metadata"] = {"type": "object"}
    return found


@pytest.mark.parametrize("words", [[], ["--nodes", "9", "--gpus-per-node", "4"]])
def test_the_job_is_what_kuberay_takes(words: list[str], schema: Any) -> None:
    _, job = resources(*words)
    jsonschema.Draft202012Validator(schema).validate(job)


@pytest.mark.parametrize(
    "path",
    [
        ["entrypiont"],
        ["rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "workDir"],
        ["rayClusterSpec", "authOptions", "mod"],
    ],
)
def test_a_misspelt_key_would_be_seen(path: list[Any], schema: Any) -> None:
    _, job = resources()
    place = job["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "x"
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        jsonschema.Draft202012Validator(schema).validate(job)


def test_the_cluster_asks_for_a_token_and_has_what_was_asked_for() -> None:
    _, job = resources("--nodes", "3", "--cpus-per-node", "16", "--gpus-per-node", "2")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 3
    asked = {"cpu": "16", "memory": "8Gi", "nvidia.com/gpu": "2"}
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": asked, "limits": asked}


def test_every_pod_mounts_the_volume_and_the_space() -> None:
    config_map, job = resources("--space", "smoke", "--trials", "7", "--shared", "/data")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["workingDir"] == "/data"
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted == {"shared": "/data", "space": "/space"}
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == "disk"
        assert volumes["space"]["configMap"]["name"] == config_map["metadata"]["name"]
    assert job["spec"]["entrypoint"] == (
        "python -P -m tune.search --out results/shop --auto-resume "
        "--space /space/space.yaml --address auto"
    )
    space = parse_space(yaml.safe_load(config_map["data"]["space.yaml"]), "ConfigMap")
    assert space.budget.trials == 7


def test_the_space_reads_as_it_does_in_a_file() -> None:
    assert "\n    space:\n      variant:\n" in manifest("--space", "smoke")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--name", "Shop"], "--name Shop: expected at most 47 lower-case"),
        (["--name", "a" * 48], "at most 47"),
        (["--nodes", "0"], "--nodes: expected 1 or more"),
        (["--memory-per-node", "much"], "--memory-per-node much: expected such as 8Gi"),
        (["--data", "shop.csv"], "expected a path on the volume, such as /shared/shop.csv"),
    ],
)
def test_bad_options(words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        manifest(*words)
