"""A run in an object store: what gets there and when, how it comes home, one driver at a time.

Over file:/// here; test_store.py shows that S3 does the same.
"""

from __future__ import annotations

import argparse
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG
from fakes import in_memory
from stores import new_store

from lstmcls.cli import BadInput, RunFailed
from tune import mirror
from tune.mirror import LOCK, Mirror, at_home, bring_home, copy_run, mirrored
from tune.run_folder import RunFolder
from tune.store import Store

folder = pytest.fixture(in_memory)


@pytest.fixture
def store(folder: Path) -> Store:
    return new_store(folder, "file")


@pytest.fixture
def run(folder: Path, store: Store) -> RunFolder:
    """A run under way, of which nothing has been mirrored yet."""
    return a_copy(folder / "here", store)


def a_copy(path: Path, store: Store) -> RunFolder:
    path.mkdir()
    found = RunFolder(path)
    found.set_origin(store.place)
    found.space.write_text("space: {}\n")
    found.journal.write_bytes(b"1\n2\n")
    (path / "best").mkdir()
    (path / "best" / "labels.json").write_text("[]")
    (path / ".space.yaml.7.tmp").touch()
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "EVERY", 0.01)


def disk(store: Store) -> Path:
    return Path(str(store).removeprefix("file://"))


def test_a_run_is_mirrored_with_its_data_and_comes_home(
    run: RunFolder, store: Store, prepared_folder: Path, folder: Path
) -> None:
    with mirrored(run, prepared_folder, print) as found:
        assert found is not None
        assert store.names() == [LOCK]
        (run.path / "report.html").write_text("<html>")
    data = sorted(f"data/{path.name}" for path in prepared_folder.iterdir())
    files = ["best/labels.json", *data, "report.html", "space.yaml", "study.journal"]
    assert store.files() == files
    store.make()
    (store / "checkpoints").make()
    (store / "checkpoints").write("large", b"")
    there = RunFolder(folder / "there")
    bring_home(store, there)
    assert Store(str(there.path)).files() == [".store", *files]
    assert there.origin == run.origin
    assert there.key != run.key
    assert there.checkpoints == store / "checkpoints"
    assert there.named == store.place
    for name in files:
        assert (there.path / name).read_bytes() == store.read(name)


def test_only_what_has_changed_is_sent_again(
    run: RunFolder, store: Store, prepared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    write = Store.write

    def counted(self: Store, name: str, content: bytes) -> None:
        sent.append(name)
        write(self, name, content)

    monkeypatch.setattr(Store, "write", counted)
    found = Mirror(run, prepared_folder, print)
    found._mirror()
    assert sent.count("study.journal") == sent.count("space.yaml") == 1
    assert sent[-1] == "data/dataset.json"  # it says that all the data are there
    with open(run.journal, "ab") as journal:
        journal.write(b"3\n")
    assert found.close() is None
    assert sent.count("study.journal") == 2
    assert sent.count("space.yaml") == sent.count("data/dataset.json") == 1
    sent.clear()
    again = Mirror(run, prepared_folder, print)
    assert again.close() is None
    assert not [name for name in sent if name.startswith("data/")]


def test_the_thread_keeps_up_with_the_run(
    run: RunFolder, store: Store, prepared_folder: Path, quick: None
) -> None:
    found = Mirror(run, prepared_folder, print)
    arrived = threading.Event()
    with open(run.journal, "ab") as journal:
        journal.write(b"3\n")
    found.afterwards(lambda: store.read("study.journal") == b"1\n2\n3\n" and arrived.set())
    assert arrived.wait(HANG)
    assert found.close() is None
    assert LOCK not in store.names()


def test_nothing_is_deleted_before_the_journal_that_says_so_has_arrived(
    run: RunFolder, store: Store, prepared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Mirror(run, prepared_folder, print)
    seen = []
    found.afterwards(lambda: seen.append(store.read("study.journal")))
    write = Store.write
    monkeypatch.setattr(
        Store, "write", lambda *given: fail() if given[1] == "space.yaml" else write(*given)
    )

    def fail() -> None:
        raise OSError(28, "No space left on device")

    found._try()
    assert seen == []
    assert "No space left" in str(found._fault)
    monkeypatch.undo()
    found._try()
    assert seen == [b"1\n2\n"]
    assert found.close() is None
    assert len(seen) == 1


def test_a_run_that_did_not_begin_leaves_nothing(
    folder: Path, store: Store, prepared_folder: Path
) -> None:
    new = RunFolder(folder / "new")
    new.path.mkdir()
    new.set_origin(store.place)
    new.space.touch()
    with pytest.raises(BadInput), mirrored(new, prepared_folder, print):  # noqa: PT012
        new.take_back()
        raise BadInput("no such cluster")
    assert store.files() == []


def test_a_file_of_the_users_in_the_store_is_not_taken_for_a_run_that_died(store: Store) -> None:
    store.make(parents=True)
    store.write("space.yaml", b"# mine")
    with pytest.raises(BadInput, match="is not empty; name another --out"):
        mirror.check_new(store)
    store.write(LOCK, b"key 7 node")
    mirror.check_new(store)


def test_a_run_in_a_folder_needs_no_mirror(tmp_path: Path) -> None:
    with mirrored(RunFolder(tmp_path), tmp_path, print) as found:
        assert found is None


def test_a_store_that_fails_is_said_once_and_at_the_end(
    run: RunFolder, store: Store, prepared_folder: Path, quick: None
) -> None:
    said: list[str] = []
    heard = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        heard.set()

    with pytest.raises(RunFailed, match=rf"the run is whole in {run.path}, and from there"):  # noqa: SIM117, PT012
        with mirrored(run, prepared_folder, say):
            shutil.rmtree(disk(store))
            disk(store).touch()  # a file where the folder should be
            assert heard.wait(HANG)
    assert len(said) == 1
    with pytest.raises(BadInput, match="File exists"), mirrored(run, prepared_folder, say):
        pass  # it does not even begin
    assert run.journal.exists()


# One driver a run.


def test_another_driver_is_kept_out_while_the_lock_is_fresh(
    run: RunFolder, store: Store, prepared_folder: Path, folder: Path
) -> None:
    first = Mirror(run, prepared_folder, print)
    first._mirror()
    other = RunFolder(folder / "other")
    with pytest.raises(
        BadInput, match=r"another search is writing there \(process \d+ of \S+, 0 s"
    ):
        bring_home(store, other)
    assert not other.path.exists()
    again = Mirror(run, prepared_folder, print)  # of the same folder, whose flock it holds
    for found in (first, again):
        assert found.close() is None
    bring_home(store, other)
    assert other.journal.exists()


def test_a_stale_lock_is_taken_over_and_the_late_driver_stops(
    run: RunFolder,
    store: Store,
    prepared_folder: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Mirror(run, prepared_folder, print)
    first._mirror()
    monkeypatch.setattr(mirror, "FRESH", timedelta(0))
    other = RunFolder(folder / "other")
    bring_home(store, other)
    second = Mirror(other, prepared_folder, print)
    with open(run.journal, "ab") as journal:
        journal.write(b"from the first\n")
    first._mirror()
    assert first.lost == f"{store}: another search has taken over"
    assert store.read("study.journal") == b"1\n2\n"
    assert first.close() == first.lost
    assert LOCK in store.names()  # the second one's
    assert second.close() is None


# Home again.


def test_the_copy_that_is_ahead_is_kept(
    run: RunFolder, store: Store, prepared_folder: Path, folder: Path
) -> None:
    bring_home(store, run)  # it died before anything was mirrored
    with mirrored(run, prepared_folder, print):
        pass
    with open(run.journal, "ab") as journal:
        journal.write(b"3\n{half a li")
    bring_home(store, run)
    assert run.journal.read_bytes() == b"1\n2\n3\n{half a li"


def test_the_copy_that_is_behind_is_replaced(
    run: RunFolder, store: Store, prepared_folder: Path, folder: Path
) -> None:
    with mirrored(run, prepared_folder, print):
        pass
    elsewhere, key = RunFolder(folder / "elsewhere"), run.key
    bring_home(store, elsewhere)
    with mirrored(elsewhere, prepared_folder, print), open(elsewhere.journal, "ab") as journal:
        journal.write(b"3\n")
    (run.path / "plots").mkdir()
    (run.path / "plots" / "notes.txt").write_text("mine")
    bring_home(store, run)
    assert run.journal.read_bytes() == b"1\n2\n3\n"
    assert run.key != key
    assert (run.path / "plots" / "notes.txt").read_text() == "mine"


def test_copies_that_went_on_apart_and_other_runs_are_refused(
    run: RunFolder, store: Store, prepared_folder: Path, folder: Path
) -> None:
    with mirrored(run, prepared_folder, print):
        pass
    run.journal.write_bytes(b"1\n2\nhere\n")
    store.write("study.journal", b"1\n2\nthere\n")
    with pytest.raises(BadInput, match=f"{run.path}: the search went on here, and from {store}"):
        bring_home(store, run)
    plain = RunFolder(folder / "plain")
    plain.path.mkdir()
    plain.journal.write_bytes(b"1\n")
    with pytest.raises(BadInput, match=f"{plain.path}: is another run than {store}; move it away"):
        bring_home(store, plain)
    assert plain.journal.read_bytes() == b"1\n"


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"out": None, "resume": None, "auto_resume": False, **given})


def test_the_options_of_a_run_in_a_store_become_its_folder_here(
    run: RunFolder,
    store: Store,
    prepared_folder: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    home = Path("results") / "shop"
    new = options(out=store.place)
    assert at_home(new) == store
    assert new.out == home
    assert not home.exists()  # a new run's folder is made later
    with pytest.raises(BadInput, match=r"study\.journal missing"):
        at_home(options(resume=store.place))
    with mirrored(run, prepared_folder, print):
        pass
    with pytest.raises(BadInput, match=f"holds a search; go on with --resume {store.place}"):
        at_home(options(out=store.place))
    assert not home.exists()
    old = options(resume=store.place)
    assert at_home(old) == store
    assert old.resume == home
    assert RunFolder(home).journal.exists()
    by_folder = options(resume=home)
    assert at_home(by_folder) == store
    same_command = options(out=store.place, auto_resume=True)
    at_home(same_command)
    assert same_command.out == home
    assert at_home(options()) is None
    assert at_home(options(out=folder / "plain")) is None


def test_a_place_that_holds_something_else(store: Store) -> None:
    store.write("photo.jpg", b"")
    with pytest.raises(BadInput, match="is not empty; name another --out"):
        at_home(options(out=store.place))


def test_a_name_in_a_store_cannot_lead_out_of_the_copy(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of S3 is any text, so that whoever may write there may name one so."""
    monkeypatch.setattr(Store, "files", lambda self: ["best/../../out", "best/a"])
    monkeypatch.setattr(Store, "read", lambda self, name: b"1")
    copy_run(store, tmp_path / "copy")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]


def test_a_copy_holds_no_checkpoints_and_no_lock(store: Store, tmp_path: Path) -> None:
    for name in ("best", "checkpoints"):
        (store / name).make()
        (store / name).write("a", b"1")
    store.write(LOCK, b"x")
    copy_run(store, tmp_path)
    assert Store(str(tmp_path)).files() == ["best/a"]
