"""The journal: what of it survives a death at any byte, a full disk, a hostile line."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import PLAIN, a_report, asked, drive, finished, in_memory, opened, score, small_space
from optuna.trial import TrialState

from lstmcls.cli import BadInput
from tune.journal import AnotherWriter, repair_journal
from tune.space import SearchSpace
from tune.study import (
    CONFIRMATION,
    SEARCH,
    finish,
    frozen_trial,
    open_study,
    record_report,
    reports_of,
    requeue,
)

POINT = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}


folder = pytest.fixture(in_memory)


@pytest.fixture
def journal(folder: Path) -> Path:
    return folder / "study.journal"


def history(journal: Path, space: SearchSpace) -> optuna.Study:
    """A finished, a pruned, a failed, a retried and a running trial, and one in the queue."""
    study = opened(journal, space)
    finished(study, space.suggest, [0.5, 0.75])
    finished(study, space.suggest, [0.5, math.nan], TrialState.PRUNED)
    finished(study, space.suggest, [], TrialState.FAIL)
    for _ in range(2):
        found = asked(study, space, None)
        assert found is not None
        record_report(study, found[0], a_report(1, 0.25))
        found[0].set_user_attr("attempts", 2)
    requeue(study, 3)
    study.enqueue_trial(POINT)
    return study


def test_each_thing_is_on_the_disk_before_the_next_begins(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial before a worker gets it, a report before the worker goes on; one sync each."""
    space = small_space()
    study = opened(journal, space)
    sync, synced = os.fsync, []

    def watched(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", watched)
    ends = []
    for _ in range(2):
        trial, _ = asked(study, space, None)
        ends.append(journal.stat().st_size)
        for step in (1, 2):
            record_report(study, trial, a_report(step, 0.5))
            ends.append(journal.stat().st_size)
        finish(study, trial.number, TrialState.COMPLETE, "trained to the end", 0.5)
        ends.append(journal.stat().st_size)
    assert synced == ends


def test_a_journal_cut_at_any_byte_opens_with_its_whole_lines(folder: Path) -> None:
    space = small_space()
    whole_path = folder / "whole.journal"
    history(whole_path, space)
    content = whole_path.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) > 30
    path = folder / "cut.journal"
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        kept = content[:length].rfind(b"\n") + 1
        assert repair_journal(path) == length - kept
        assert path.read_bytes() == content[:kept]
    ends = [0]
    for line in lines:
        ends.append(ends[-1] + len(line))
    for end in ends:  # and what is left can be searched on
        path.write_bytes(content[:end] + b'{"op_co')
        repair_journal(path)
        study = opened(path, space)
        assert not study.get_trials(states=(TrialState.RUNNING,))
        assert asked(study, space, None) is not None


def test_a_whole_journal_is_left_alone(journal: Path) -> None:
    history(journal, small_space())
    before = journal.read_bytes()
    assert repair_journal(journal) == 0
    assert journal.read_bytes() == before


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"{\n", b"\xff\xfe\n", b"\0\0\n", b"\n"])
def test_a_damaged_last_line_is_dropped(journal: Path, tail: bytes) -> None:
    history(journal, small_space())
    before = journal.read_bytes()
    journal.write_bytes(before + tail)
    assert repair_journal(journal) == len(tail)
    assert journal.read_bytes() == before


@pytest.mark.parametrize("damage", [b"\0", b"}{", b"\xff"])
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_changed(
    journal: Path, damage: bytes
) -> None:
    history(journal, small_space())
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:9] + damage + lines[4][10:]
    journal.write_bytes(b"".join(lines))
    with pytest.raises(BadInput, match="line 5 is damaged; restore it from a backup"):
        repair_journal(journal)
    assert journal.read_bytes() == b"".join(lines)


def test_opening_a_study_again_writes_nothing(journal: Path) -> None:
    space = small_space()
    history(journal, space)
    before = journal.read_bytes()
    assert len(open_study(journal, SEARCH, space.objective).get_trials()) == 6
    assert journal.read_bytes() == before


def test_it_opens_with_optunas_own_storage(journal: Path) -> None:
    """As optuna-dashboard does."""
    space = small_space()
    mine = history(journal, space)
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    theirs = optuna.load_study(study_name=SEARCH, storage=optuna.storages.JournalStorage(backend))
    assert theirs.get_trials() == mine.get_trials()
    assert theirs.best_value == 0.75


def test_a_study_on_a_full_disk_keeps_its_lines_whole(journal: Path) -> None:
    resource = pytest.importorskip("resource")
    space = small_space()
    study = opened(journal, space)
    trial, _ = asked(study, space, None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = journal.read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 20, before[1]))
        with pytest.raises(OSError, match="too large"):
            record_report(study, trial, a_report(1, 0.5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert journal.read_bytes() == content
    assert record_report(study, trial, a_report(1, 0.5))
    assert repair_journal(journal) == 0
    assert len(reports_of(frozen_trial(opened(journal, space), 0))) == 1


# One writer.


def others(journal: Path) -> optuna.Study:
    """The study as another process has it open: a second driver, or optuna-dashboard."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    return optuna.load_study(study_name=SEARCH, storage=optuna.storages.JournalStorage(backend))


def test_nothing_is_written_behind_another_search(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)
    trial, _ = asked(study, space, None)
    record_report(study, trial, a_report(1, 0.5))
    (journal.parent / ".lock").write_text("node-2 7")
    theirs = others(journal)
    theirs.tell(0, 0.5)  # it took the trial for an abandoned one, and ended it
    before = journal.read_bytes()
    told = r"another search or program writes here too \(its lock names process 7 on node-2\)"
    for event in (
        lambda: record_report(study, trial, a_report(2, 0.75)),
        lambda: finish(study, 0, TrialState.PRUNED, "asha"),
        lambda: asked(study, space, None),
        lambda: requeue(study, 0),
    ):
        with pytest.raises(AnotherWriter, match=told):
            event()
    assert journal.read_bytes() == before
    assert frozen_trial(study, 0).state == TrialState.RUNNING  # as this one left it
    assert frozen_trial(opened(journal, space), 0).state == TrialState.COMPLETE


def test_half_a_line_of_another_search_is_noticed_too(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)
    with open(journal, "ab") as file:
        file.write(b'{"op_code":4,"worker')
    with pytest.raises(AnotherWriter):
        asked(study, space, None)
    journal.write_bytes(b"")
    with pytest.raises(AnotherWriter):
        study.set_user_attr("a", 1)


def test_the_two_studies_of_a_run_write_in_turns(journal: Path) -> None:
    space = small_space()
    search = open_study(journal, SEARCH, space.objective)
    confirmation = open_study(journal, CONFIRMATION, space.objective)
    for number in range(3):
        for study in (search, confirmation):
            finished(study, space.suggest, [0.5])
            assert len(study.get_trials()) == number + 1


def test_a_note_from_the_dashboard_stops_nothing(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)
    dashboard = others(journal)
    dashboard._storage.set_study_system_attr(dashboard._study_id, "dashboard:note", "try sgd")
    finished(study, space.suggest, [0.5])
    assert study._storage.get_study_system_attrs(study._study_id) == {"dashboard:note": "try sgd"}


def test_a_pickle_that_another_process_adds_meanwhile_is_not_read(journal: Path) -> None:
    space = small_space(space=PLAIN)
    study = opened(journal, space)
    trial, _ = asked(study, space, None)
    theirs = others(journal)
    theirs._storage.set_trial_system_attr(trial._trial_id, "cma:optimizer:0", "80")
    assert "cma:optimizer:0" not in frozen_trial(study, 0).system_attrs


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["its own line", "beside another", "with the trial"])
def test_a_pickle_in_a_journal_is_never_loaded(journal: Path, folder: Path, where: str) -> None:
    space = small_space(space=PLAIN, sampler={"name": "cmaes", "startup_trials": 1})
    drive(journal, space, 3)
    exploded = folder / "exploded"
    payload = pickle.dumps(Bomb(exploded)).hex()
    pickle.loads(bytes.fromhex(payload))  # noqa: S301 - does the bomb work?
    assert exploded.exists()
    exploded.unlink()

    attributes = {"cma:optimizer:0": payload}
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    created = [line for line in lines if line["op_code"] == 4]
    if where == "with the trial":
        for line in created:
            line["system_attrs"] = attributes
    else:
        more = {"harmless": 1} if where == "beside another" else {}
        for trial_id in range(3):
            at = next(i for i, x in enumerate(lines) if x.get("trial_id") == trial_id)
            attribute = {
                "op_code": 9, "worker_id": "x", "trial_id": trial_id,
                "system_attr": {**more, **attributes},
            }  # fmt: skip
            lines.insert(at + 1, attribute)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    try:
        study = opened(journal, space)
        for _ in range(4):
            trial, config = asked(study, space, None)
            finish(study, trial.number, TrialState.COMPLETE, "trained to the end", score(config))
    except AssertionError:
        assert where == "beside another"  # Optuna wants one attribute a line
    assert not exploded.exists()


def test_cmaes_learns_within_a_sitting_and_starts_anew_in_the_next(journal: Path) -> None:
    pytest.importorskip("cmaes")
    space = small_space(space=PLAIN, sampler={"name": "cmaes", "startup_trials": 1})
    drive(journal, space, 16)
    written = journal.read_text(encoding="utf-8")
    assert written.count('"cma:optimizer') > 1  # a second state follows from a first
    params = drive(journal, space, 22)
    assert len({str(p) for p in params}) == 22
    study = open_study(journal, SEARCH, space.objective)
    assert not [k for t in study.get_trials() for k in t.system_attrs if k.startswith("cma:")]
