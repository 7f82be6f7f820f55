"""One path for folders and object stores: the same verbs do the same in both."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from fakes import in_memory
from stores import environment, new_bucket, new_store, s3_server

from lstmcls.cli import BadInput
from tune.checkpoints import LAG, Checkpoints, drop_all, drop_states, load_weights
from tune.store import Store, StoreFault, checked, open_store

folder = pytest.fixture(in_memory)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with s3_server(tmp_path_factory.mktemp("s3")) as variables, environment(**variables):
        yield


@pytest.fixture(params=["folder", "file", "s3"])
def store(request: pytest.FixtureRequest, folder: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3")
    return new_store(folder, request.param)


def test_what_is_written_is_read_listed_and_deleted(store: Store) -> None:
    deep = store / "checkpoints" / "search-00001"
    assert deep.names() == store.files() == []
    deep.make(parents=True)
    content = bytes(range(256)) * 100
    deep.write("000001.pt", memoryview(content))
    store.write("a.gz", b"not compressed, whatever its name says")
    store.write("a.gz", b"second")
    deep.write("empty", b"")
    assert store.names() == ["a.gz", "checkpoints"]
    assert store.files() == [
        "a.gz", "checkpoints/search-00001/000001.pt", "checkpoints/search-00001/empty",
    ]  # fmt: skip
    assert (deep.read("000001.pt"), deep.read("empty")) == (content, b"")
    assert store.read("a.gz") == b"second"
    assert store.read("checkpoints/search-00001/000001.pt") == content
    for _ in range(2):  # twice is no fault
        deep.delete("000001.pt")
    with pytest.raises(FileNotFoundError):
        deep.read("000001.pt")
    assert (store / "checkpoints").names() == ["search-00001"]
    for _ in range(2):
        deep.delete_all()
    assert (store / "checkpoints").names() == []


def test_times_are_the_stores(store: Store) -> None:
    store.write("a", b"")
    (store / "below").make()
    (store / "below").write("b", b"")
    (found,) = store.written().items()
    assert found[0] == "a"
    assert abs(found[1] - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_names_cross_a_process(store: Store) -> None:
    store.write("a", b"content")
    packed = pickle.dumps(store)
    assert b"some-secret" not in packed
    assert len(packed) < 300
    assert pickle.loads(packed).read("a") == b"content"  # noqa: S301


def test_checkpoints_and_weights(store: Store) -> None:
    trial = store / "search-00001"
    checkpoints = Checkpoints(trial)
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step, "weights": torch.full((3,), float(step))})
        checkpoints.save_weights(step, {"a": torch.full((2,), float(step))}, step - 1)
    found, notes = Checkpoints(trial).load()
    assert found is not None
    assert (found["step"], notes) == (3, [])
    assert torch.equal(load_weights(trial, 3)["a"], torch.full((2,), 3.0))
    weights = [name for name in trial.names() if name.startswith("best-")]
    assert len(weights) == (3 if store.remote else 2)  # there the record may lag
    assert [name for name in trial.names() if name.endswith(".pt")] == ["000002.pt", "000003.pt"]
    drop_states(trial)
    assert trial.names() == weights
    drop_all(trial)
    assert trial.names() == []
    assert checkpoints.load() == (None, [])


def test_old_weights_go_from_a_store_once_the_record_has_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(folder, "file")
    checkpoints = Checkpoints(store)
    for step in range(1, 5):
        checkpoints.save_weights(step, {"a": torch.zeros(1)}, step - 1)
        path = Path(str(store).removeprefix("file://")) / f"best-{step:06d}.safetensors"
        old = path.stat().st_mtime - 2 * LAG.total_seconds()
        os.utime(path, (old, old))
    assert store.names() == ["best-000003.safetensors", "best-000004.safetensors"]


def test_what_was_the_best_when_the_record_was_last_sent_stays_in_a_store(folder: Path) -> None:
    """Report 1 is old, and was the best until now: the record that is there may end with it."""
    store = new_store(folder, "file")
    checkpoints = Checkpoints(store)
    checkpoints.save_weights(1, {"a": torch.zeros(1)}, None)
    path = Path(str(store).removeprefix("file://")) / "best-000001.safetensors"
    old = path.stat().st_mtime - 10 * LAG.total_seconds()
    os.utime(path, (old, old))
    for step in (2, 3):
        checkpoints.save_weights(step, {"a": torch.zeros(1)}, step - 1)
    assert checkpoints.has_weights(1)


def test_a_fault_of_a_folder_keeps_its_number(folder: Path) -> None:
    full = Path("/dev/full")  # a link to it is a file on a full disk

    (folder / "a").mkdir()
    store = Store(str(folder / "a"))
    (folder / "a" / f".x.{os.getpid()}.tmp").symlink_to(full)
    with pytest.raises(OSError, match="No space left") as caught:
        store.write("x", b"content" * 10_000)
    assert caught.value.errno == errno.ENOSPC
    assert store.names() == []


@pytest.mark.usefixtures("s3")
def test_faults_of_a_store_are_one_line() -> None:
    nowhere = Store("s3://no-such-bucket/run")
    with pytest.raises(StoreFault, match=r"^s3://no-such-bucket/run, from node .*NO_SUCH_BUCKET"):
        nowhere.write("a", b"")
    with pytest.raises(BadInput, match=r"^s3://no-such-bucket/run: no such bucket"):
        open_store("s3://no-such-bucket/run")
    bucket = new_bucket()
    with pytest.raises(BadInput, match=r"Unexpected query parameter in S3 URI: 'wrong'$"):
        open_store(f"s3://{bucket}/run?wrong=1")
    assert open_store(f"s3://{bucket}/a/run/") == Store(f"s3://{bucket}/a/run")


def test_an_endpoint_in_the_uri_goes_before_the_environments(s3: None) -> None:
    bucket, endpoint = new_bucket(), os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    place = f"s3://{bucket}/run?endpoint_override={endpoint}&scheme=http"
    with environment(AWS_ENDPOINT_URL="http://127.0.0.1:9"):
        store = open_store(place)
        (store / "below").write("a", b"1")
    assert Store(f"s3://{bucket}/run").files() == ["below/a"]
    assert str(store / "below") == f"s3://{bucket}/run/below"


@pytest.mark.slow  # six seconds of patience
def test_an_endpoint_that_does_not_answer() -> None:
    with (
        environment(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_EC2_METADATA_DISABLED="true"),
        pytest.raises(BadInput, match=r"^s3://b/run: AWS Error NETWORK_CONNECTION .*not connect"),
    ):
        open_store("s3://b/run")


@pytest.mark.parametrize(
    "uri", ["s3://bucket", "s3://bucket/", "http://host/a", "s4://a/b", "s3://b/..", "s3://b/.a"]
)
def test_what_is_not_the_uri_of_a_folder(uri: str) -> None:
    with pytest.raises(BadInput, match="expected s3://BUCKET/FOLDER"):
        checked(uri)


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput, match=r"^s3://...@bucket/run: no credentials") as caught:
        checked("s3://some-key:some-secret@bucket/run")
    assert "some-" not in str(caught.value)
