"""What a sitting's clock begins with, and what the end of a search must not cost: its winner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fakes import in_memory, small_space

from lstmcls.dataset import Prepared
from tune import session
from tune.live import Display
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.session import Session
from tune.space import Objective, SearchSpace

folder = pytest.fixture(in_memory)
GRID: dict[str, Any] = {
    "space": {"optimizer": {"categorical": ["sgd", "adam"]}, "hidden_size": {"int": [1, 300]}},
    "sampler": "grid",
}


def a_session(folder: Path, space: SearchSpace, prepared: Prepared) -> Session:
    """As the driver makes it, without Ray."""
    run, display = RunFolder(folder), Display(space, quiet=True)
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    return Session(run, space, prepared, Share(1, 0, 1), display, [])


def test_the_clock_starts_when_the_grid_is_in_the_queue(
    folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue, ended = session.enqueue, []
    monkeypatch.setattr(
        session, "enqueue", lambda *given: (enqueue(*given), ended.append(time.monotonic()))
    )
    sitting = a_session(folder, small_space(**GRID), prepared)
    assert len(sitting.search.get_trials(deepcopy=False)) == 600
    assert sitting._started >= ended[0]
    lines = sitting.run.journal.read_text(encoding="utf-8").splitlines()
    queued = max(number for number, line in enumerate(lines) if "fixed_params" in line)
    begun = next(number for number, line in enumerate(lines) if "sitting_0" in line)
    assert queued < begun


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (MemoryError("no more"), "left out: MemoryError: no more"),
        (KeyboardInterrupt(), "left out: interrupted"),
    ],
)
def test_a_linear_model_that_fails_is_left_out(
    fault: BaseException, said: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> dict[str, float]:
        raise fault

    notes: list[str] = []
    assert session.linear_baseline(prepared, Objective(), notes.append)["accuracy"] > 0.5
    monkeypatch.setattr(session, "linear_metrics", failing)
    assert session.linear_baseline(prepared, Objective(), notes.append) == {}
    assert notes[-1].endswith(said)
