"""What the end of a search must not cost: its winner."""

from __future__ import annotations

import pytest

from lstmcls.dataset import Prepared
from tune import session
from tune.space import Objective


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
