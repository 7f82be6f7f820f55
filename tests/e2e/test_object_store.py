"""Runs in an object store: a real S3 server on loopback, the real commands, real Ray."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import reviews, write_csv
from driving import Driver, facts, search, trials, unfinished, write_space
from machines import Cluster
from stores import environment, new_bucket, s3_server

from tune.mirror import FRESH, LOCK, _whole_lines
from tune.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3")) as variables, environment(**variables):
        yield variables


def test_killed_here_and_gone_on_with_elsewhere(s3: dict[str, str], tmp_path: Path) -> None:
    uri = f"s3://{new_bucket()}/runs/shop"
    store = Store(uri)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    space = write_space(
        one / "s.yaml",
        write_csv(one / "shop.csv", reviews(400)),
        fixed={"epochs": 20, "batch_size": 8},
        budget={"trials": 10_000},
    )
    driver = Driver(one, "--space", space, "--out", uri, **s3)
    copy = tmp_path / "study.journal"

    def mirrored_ends() -> bool:
        if "study.journal" not in store.names():
            return False
        copy.write_bytes(_whole_lines(store.read("study.journal")))
        return any(trial.state.is_finished() for trial in trials(tmp_path))

    driver.until(mirrored_ends, "a trial's end in the store")
    os.killpg(driver.process.pid, signal.SIGKILL)
    driver.assert_gone()
    mirrored_ends()
    known = trials(tmp_path)
    assert unfinished(tmp_path)
    total = len(known) + 2
    shutil.rmtree(one)

    refused = search(two, "--resume", uri, **s3)
    assert refused.process.returncode == 2
    assert refused.err.count("\n") == 1
    assert f"error: {uri}: another search is writing there (process" in refused.err
    assert not (two / "results").exists()
    time.sleep(FRESH.total_seconds() + 1)
    resumed = search(two, "--resume", uri, "--trials", total, "--quiet", **s3)
    assert resumed.process.returncode == 0, resumed.err
    run = two / "results" / "shop"
    assert f"run:     results/shop, mirrored to {uri}" in resumed.out
    for old, new in zip(known, trials(run), strict=False):
        assert old.params.items() <= new.params.items()
        assert facts(old)["reports"].items() <= facts(new)["reports"].items()
        assert not old.state.is_finished() or facts(old) == facts(new)
    assert len(trials(run)) == total
    assert not unfinished(run)
    for trial in trials(run):
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
    # All of it is there, and nothing else.
    best = max(trials(run), key=lambda t: max(t.intermediate_values.values()))
    there = [name for name in store.files() if not name.startswith("checkpoints/")]
    assert there == [name for name in Store(str(run)).files() if not name.startswith(".")]
    assert {"report.html", "best/model.safetensors", "data/dataset.json"} <= set(there)
    assert all(store.read(name) == (run / name).read_bytes() for name in there)
    assert (store / "checkpoints").names() == [f"search-{best.number:05d}"]
    assert not any(name.endswith(".pt") for name in store.files())
    assert LOCK not in store.names()
    secret = s3["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [name for name in there if secret in store.read(name)]

    # A larger budget by the folder's name, and Ctrl-C.
    further = Driver(two, "--resume", "results/shop", "--trials", 10_000, **s3)
    further.until(lambda: further.err.count(" epoch ") > 4, "reports")
    further.signal(signal.SIGINT)
    assert further.wait() == 130, further.err
    again = f"interrupted; resume with: python -m tune.search --resume {uri}"
    assert further.out.strip().splitlines()[-1] == again
    assert store.read("study.journal") == (run / "study.journal").read_bytes()


def test_what_cannot_be_used_is_one_line(
    s3: dict[str, str], prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(tmp_path / "s.yaml", prepared_folder)

    def said(*arguments: object, **more: str) -> str:
        refused = search(tmp_path, "--space", space, *arguments, **{**s3, **more})
        assert refused.process.returncode == 2, refused.err
        assert refused.err.startswith("error: ")
        assert refused.err.count("\n") == 1
        assert {p.suffix for p in tmp_path.iterdir()} <= {".yaml", ".out", ".err", ".log"}
        return refused.err

    assert "s3://none/run: no such bucket, none" in said("--out", "s3://none/run")
    unreachable = said("--out", "s3://none/run", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert "s3://none/run: AWS Error NETWORK_CONNECTION" in unreachable
    # Two requests make the bucket; all that come later are to be signed by a key that is known.
    with (
        s3_server(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="2") as strict,
        environment(AWS_ENDPOINT_URL=strict["AWS_ENDPOINT_URL"]),
    ):
        uri = f"s3://{new_bucket()}/run"
        assert f"{uri}: AWS Error ACCESS_DENIED" in said("--out", uri, **strict)


def test_a_job_on_nodes_that_share_nothing_else(
    s3: dict[str, str], prepared_folder: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a node with a file system of its own needs root")
    cluster = Cluster(cpus=0, **s3)
    try:
        for _ in range(2):
            cluster.add(shares=False)
        shared = f"s3://{new_bucket()}/all"
        space = write_space(tmp_path / "s.yaml", prepared_folder, fixed={"epochs": 8})
        words = ("--space", space, "--shared", shared, "--trials", 3)
        done = cluster.submit(*words, "--name", "shop")
        assert done.returncode == 0, done.stdout + done.stderr
        store = Store(f"{shared}/results/shop")
        assert f"run:     results/shop, mirrored to {store}" in done.stdout
        fetched = cluster.submit("fetch", "shop", "--to", tmp_path / "home")
        assert fetched.returncode == 0, fetched.stderr
        assert len(trials(tmp_path / "home")) == 3
        predicted = cluster.run("lstmcls.predict", tmp_path / "home" / "best", "good box")
        assert predicted.returncode == 0, predicted.stderr

        # The same, with a larger budget.
        further = cluster.submit(*words[:-1], 4, "--name", "shop")
        assert further.returncode == 0, further.stdout + further.stderr
        (tmp_path / "study.journal").write_bytes(store.read("study.journal"))
        assert len(trials(tmp_path)) == 4

        # A node that cannot.
        cluster.cluster_environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        cluster.add(shares=False)
        refused = cluster.submit(*words, "--name", "other")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        errors = [line for line in refused.stdout.splitlines() if line.startswith("error: ")]
        assert len(errors) == 2
        assert f"error: {shared}/results/other: node " in errors[0]
        assert "cannot use it (AWS Error NETWORK_CONNECTION" in errors[0]
        assert Store(f"{shared}/results/other").files() == []
    finally:
        cluster.close()
