"""Checkpoints: whole or passed over, never code, and not more often than they are worth."""

from __future__ import annotations

import hashlib
import io
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import in_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from tune.checkpoints import (
    KEPT,
    SHARE,
    Checkpoints,
    NotShared,
    drop_all,
    drop_states,
    load_weights,
    trial_folder,
)
from tune.store import Store

folder = pytest.fixture(in_memory)


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((4,), float(step)), "names": ["a", "b"]}


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(Store(str(folder)))
    for step in steps:
        checkpoints.save(step, state(step))
    return checkpoints


def loaded_step(folder: Path) -> tuple[int | None, list[str]]:
    found, notes = Checkpoints(Store(str(folder))).load()
    return found and found["step"], notes


def signed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def test_the_newest_state_comes_back_as_it_was(folder: Path) -> None:
    saved(folder, 1, 2)
    found, notes = Checkpoints(Store(str(folder))).load()
    assert notes == []
    assert found is not None
    assert torch.equal(found.pop("weights"), state(2)["weights"])
    assert found == {"step": 2, "names": ["a", "b"]}


def test_a_folder_without_checkpoints(folder: Path) -> None:
    assert Checkpoints(Store(str(folder / "a"))).load() == (None, [])


def test_a_node_without_the_shared_folder_makes_none_of_its_own(folder: Path) -> None:
    with pytest.raises(NotShared, match=f"no {folder / 'a'} on node .*; every node must share it"):
        Checkpoints(Store(str(folder / "a" / "search-00000")))
    assert not (folder / "a").exists()


def test_two_are_kept_and_nothing_else_is_left(folder: Path) -> None:
    saved(folder, 1, 2, 10, 11)
    assert KEPT == 2
    assert sorted(path.name for path in folder.iterdir()) == ["000010.pt", "000011.pt"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "short"])
def test_a_damaged_newest_is_passed_over_and_then_the_older_too(folder: Path, damage: str) -> None:
    saved(folder, 1, 2)

    def spoil(name: str) -> None:
        path = folder / name
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        damaged = {
            "cut": content[:-1], "flipped": bytes(flipped), "empty": b"",
            "foreign": b"not a checkpoint" * 9, "short": b"x",
        }  # fmt: skip
        path.write_bytes(damaged[damage])

    spoil("000002.pt")
    note = "checkpoint 000002.pt is damaged (its checksum does not match), passed over"
    assert loaded_step(folder) == (1, [note])
    spoil("000001.pt")
    step, notes = loaded_step(folder)
    assert step is None
    assert [line.split()[1] for line in notes] == ["000002.pt", "000001.pt"]


def test_damage_at_any_byte_is_seen(folder: Path) -> None:
    saved(folder, 1)
    path = folder / "000001.pt"
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at])
        assert loaded_step(folder)[0] is None
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        assert loaded_step(folder)[0] is None


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("made", ["by pickle", "by torch"])
def test_a_checkpoint_runs_no_code_even_where_its_checksum_is_right(
    folder: Path, made: str
) -> None:
    exploded = folder / "exploded"
    if made == "by pickle":
        content = pickle.dumps(Bomb(exploded))
    else:
        buffer = io.BytesIO()
        torch.save({"step": 2, "bomb": Bomb(exploded)}, buffer)
        content = buffer.getvalue()
        torch.load(io.BytesIO(content), weights_only=False)  # does the bomb work?
        exploded.unlink()
    saved(folder, 1)
    (folder / "000002.pt").write_bytes(signed(content))
    step, notes = loaded_step(folder)
    assert step == 1
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert not exploded.exists()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=60), prefix=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04"]))
def test_no_content_at_all_stops_a_trial(content: bytes, prefix: bytes) -> None:
    for folder in in_memory():
        saved(folder, 1)
        (folder / "000002.pt").write_bytes(signed(prefix + content))
        assert loaded_step(folder)[0] == 1


@pytest.mark.parametrize("value", [torch.ones(2), [1], 7, "text", None])
def test_what_is_no_state_is_passed_over(folder: Path, value: Any) -> None:
    saved(folder, 1)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    (folder / "000002.pt").write_bytes(signed(buffer.getvalue()))
    step, notes = loaded_step(folder)
    assert step == 1
    assert len(notes) == 1


def test_a_half_written_file_of_a_dead_worker_is_no_checkpoint(folder: Path) -> None:
    saved(folder, 1)
    (folder / ".000002.pt.4711.tmp").write_bytes(b"half")
    assert loaded_step(folder) == (1, [])


def test_the_first_report_is_always_saved_and_dear_ones_are_rare(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Slow(Checkpoints):
        """Writing takes 2 seconds."""

        def save(self, step: int, state: dict[str, Any]) -> None:
            super().save(step, state)
            now[0] += 2.0

    checkpoints = Slow(Store(str(folder)))
    written = []
    for step in range(1, 101):
        before = now[0]
        checkpoints.save_when_due(step, state(step))
        if now[0] > before:
            written.append(step)
        now[0] += 1.0  # between two reports
    assert written[0] == 1
    assert now[0] - 100 >= 100
    assert 2.0 * len(written) <= SHARE * (now[0] - 100) + 2.0
    assert len(written) >= 3


def test_cheap_ones_are_written_at_every_report(folder: Path) -> None:
    checkpoints = Checkpoints(Store(str(folder)))
    for step in range(1, 4):
        checkpoints._next = 0.0  # as after a report that took 20 times as long as the writing
        checkpoints.save_when_due(step, state(step))
    assert loaded_step(folder) == (3, [])


def test_weights(folder: Path) -> None:
    checkpoints = Checkpoints(Store(str(folder)))
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2)}
    for step, before in ((1, None), (3, 1)):
        checkpoints.save_weights(step, {"a": torch.zeros(step)}, before)
    assert not checkpoints.has_weights(12)
    checkpoints.save_weights(12, weights, 3)
    assert checkpoints.has_weights(12)
    found = load_weights(Store(str(folder)), 12)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    # The best before it: report 12 may not have reached the driver when the search ended.
    assert len(load_weights(Store(str(folder)), 3)["a"]) == 3
    with pytest.raises(FileNotFoundError):
        load_weights(Store(str(folder)), 1)
    next(folder.glob("best-*12.*")).write_bytes(b"damaged")
    with pytest.raises(SafetensorError):
        load_weights(Store(str(folder)), 12)


def test_the_recorded_best_stays_until_a_better_report_is_recorded(folder: Path) -> None:
    checkpoints = Checkpoints(Store(str(folder)))
    # Reports 9 and 10 of an attempt that died were not recorded; 12 is of the next one.
    for step, before in ((4, None), (9, 4), (10, 4), (12, 4)):
        checkpoints.save_weights(step, {"a": torch.zeros(step)}, before)
    assert len(load_weights(Store(str(folder)), 4)["a"]) == 4
    assert len(load_weights(Store(str(folder)), 12)["a"]) == 12
    assert not checkpoints.has_weights(9)


def test_what_a_finished_trial_leaves(folder: Path) -> None:
    store = trial_folder(Store(str(folder)), "search", 7)
    trial = Path(str(store))
    assert store.name == "search-00007"
    saved(trial, 1, 2).save_weights(2, {"a": torch.ones(1)}, None)
    drop_states(store)
    assert [path.name for path in trial.iterdir()] == ["best-000002.safetensors"]
    drop_all(store)
    assert not trial.exists()
    drop_states(store)
    drop_all(store)  # twice is no fault
