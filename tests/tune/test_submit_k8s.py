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

STORE = ("--shared", "s3://bucket/runs")


def manifest(*words: str) -> str:
    parser = argparse.ArgumentParser()
    k8s.add_options(parser)
    claim = [] if words[: len(STORE)] == STORE else ["--claim", "disk"]
    args = parser.parse_args(["--image", "here/tune:1", "--name", "shop", *claim, *words])
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


@pytest.mark.parametrize(
    "words", [[], ["--nodes", "9", "--gpus-per-node", "4"], [*STORE, "--secret", "keys"]]
)
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


def test_in_an_object_store_the_pods_need_no_volume() -> None:
    words = (*STORE, "--secret", "keys", "--data", "s3://bucket/shop.csv")
    config_map, job = resources(*words)
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
        assert container["workingDir"] == "/shared"  # the image's own
        assert [mount["name"] for mount in container["volumeMounts"]] == ["space"]
        assert [volume["name"] for volume in group["template"]["spec"]["volumes"]] == ["space"]
    assert "--out s3://bucket/runs/results/shop --auto-resume" in job["spec"]["entrypoint"]
    assert yaml.safe_load(config_map["data"]["space.yaml"])["data"] == "s3://bucket/shop.csv"


def test_a_head_whose_node_is_lost_is_soon_given_up() -> None:
    _, job = resources()
    cluster = job["spec"]["rayClusterSpec"]
    tolerations = cluster["headGroupSpec"]["template"]["spec"]["tolerations"]
    assert {toleration["key"] for toleration in tolerations} == {
        "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready",
    }  # fmt: skip
    assert {toleration["tolerationSeconds"] for toleration in tolerations} == {30}
    (workers,) = cluster["workerGroupSpecs"]
    assert "tolerations" not in workers["template"]["spec"]


def test_the_space_reads_as_it_does_in_a_file() -> None:
    assert "\n    space:\n      variant:\n" in manifest("--space", "smoke")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--name", "Shop"], "--name Shop: expected at most 47 lower-case"),
        (["--name", "a" * 48], "at most 47"),
        (["--nodes", "0"], "--nodes: expected 1 or more"),
        (["--memory-per-node", "much"], "--memory-per-node much: expected such as 8Gi"),
        (["--memory-per-node", "0"], "--memory-per-node 0: expected such as 8Gi"),
        (["--memory-per-node", "0.0Gi"], "--memory-per-node 0.0Gi: expected such as 8Gi"),
        (["--memory-per-node", "8"], "--memory-per-node 8: expected such as 8Gi"),
        (["--claim", "S_bad!"], "--claim S_bad!: expected lower-case letters"),
        (["--secret", "a b"], "--secret a b: expected lower-case letters"),
        (["--image", "a b"], "--image a b: expected such as REGISTRY/lstm-tune:TAG"),
        (["--shared", "/"], "--shared /: expected an absolute path below /"),
        (["--shared", "/space"], "--shared /space: the pods see the search space there"),
        (["--shared", "/space/a"], "--shared /space/a: the pods see the search space there"),
        (["--cpus-per-trial", "5"], "resources.cpu: a trial wants 5 CPUs, there are 4"),
        ([*STORE, "--data", "/shared/shop.csv"], "shop.csv: no pod sees it; name its URI, or its"),
        (["--data", "shop.csv"], "expected a path on the volume, such as /shared/shop.csv"),
    ],
)
def test_bad_options(words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        manifest(*words)


def test_a_path_needs_the_claim_of_its_volume() -> None:
    parser = argparse.ArgumentParser()
    k8s.add_options(parser)
    args = parser.parse_args(["--image", "i", "--name", "shop"])
    with pytest.raises(BadInput, match="--claim: name that of /shared, or --shared s3://"):
        k8s.manifest(read_run(args), args)
