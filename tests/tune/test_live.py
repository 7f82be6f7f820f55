"""What is shown as a search runs: a table in a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import a_report, finished, in_memory, opened, small_space
from optuna.trial import TrialState
from rich.cells import cell_len
from rich.console import Console

from tune.live import SHOWN, Display, _sparkline

folder = pytest.fixture(in_memory)
SPACE = small_space()
PARAMS = {"lr": 0.0123456, "optimizer": "adam", "hidden_size": 32}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def study(folder: Path) -> optuna.Study:
    return opened(folder / "j", SPACE)


def happens(display: Display, study: optuna.Study) -> None:
    """One of everything."""
    display.phase("search", study, 10)
    display.started(0, PARAMS)
    display.tick()
    display.reported(0, a_report(1, 0.5))
    display.reported(0, a_report(2, math.nan))
    display.started(1, PARAMS)
    display.retried(1, "worker died: x; tried again")
    display.finished(0, TrialState.COMPLETE, "trained to the end")
    display.started(2, PARAMS)
    display.finished(2, TrialState.FAIL, "diverged: the loss is nan")
    display.note("评论: one thing [bold]more[/bold]")
    display.close()


def test_without_a_terminal_every_event_is_a_plain_line(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    happens(Display(SPACE.objective, 10, quiet=False), study)
    out, err = capsys.readouterr()
    assert out == ""
    assert all(char == "\n" or char.isprintable() for char in err)
    assert [line.split(" ", 1)[1] for line in err.splitlines()] == [
        "search begins: 10 trials",
        "trial 0 epoch 1: val_accuracy 0.5000, best 0.5000 (trial 0)",
        "trial 0 epoch 2: val_accuracy nan, best 0.5000 (trial 0)",
        "trial 1 worker died: x; tried again",
        "trial 0 COMPLETE: trained to the end [lr=0.0123 optimizer=adam hidden_size=32]",
        "trial 2 FAIL: diverged: the loss is nan [lr=0.0123 optimizer=adam hidden_size=32]",
        "评论: one thing [bold]more[/bold]",
    ]


def test_a_line_is_one_line_however_long(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    Display(SPACE.objective, None, quiet=False).note("长" * 500)
    assert capsys.readouterr().err.count("\n") == 1


def test_quiet_is_quiet(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    happens(Display(SPACE.objective, 10, quiet=True), study)
    assert capsys.readouterr() == ("", "")


def test_a_resumed_search_begins_with_what_was_done(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(study, SPACE.suggest, [0.75])
    finished(study, SPACE.suggest, [0.5], TrialState.PRUNED)
    display = Display(SPACE.objective, None, quiet=False)
    display.phase("search", study, 5)
    display.started(2, PARAMS)
    display.reported(2, a_report(1, 0.625))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("search begins: 5 trials, 2 done")
    assert lines[1].endswith("val_accuracy 0.6250, best 0.7500 (trial 0)")


def test_less_may_be_better(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(small_space(objective="val_loss").objective, None, quiet=False)
    display.started(0, {})
    display.reported(0, a_report(1, 0.5))
    display.reported(0, a_report(2, 0.75))
    assert capsys.readouterr().err.splitlines()[1].endswith("0.7500, best 0.5000 (trial 0)")


def in_terminal(width: int = 80) -> tuple[Display, io.StringIO]:
    display, screen = Display(SPACE.objective, 10, quiet=False), io.StringIO()
    display._console = Console(file=screen, force_terminal=True, width=width, height=40)
    return display, screen


def drawn(display: Display, width: int = 80) -> list[str]:
    """The table as text, without what moves the cursor."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(display._table())
    return console.export_text().splitlines()


def test_in_a_terminal_it_draws_and_clears_up(study: optuna.Study) -> None:
    display, screen = in_terminal()
    happens(display, study)
    shown = screen.getvalue()
    assert "\x1b[" in shown  # it moves in place
    assert "FAIL: diverged" in shown
    assert "trained to the end" not in shown  # the table counts those
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    display.close()


def test_the_table(study: optuna.Study) -> None:
    finished(study, SPACE.suggest, [0.75])
    display, _ = in_terminal()
    display.phase("search", study, 5)
    for number in (1, 2):
        display.started(number, PARAMS)
    for step, value in enumerate([0.5, 0.625, 0.875], start=1):
        display.reported(1, a_report(step, value))
    display.finished(2, TrialState.PRUNED, "asha at epoch 1")
    head, heading, row = drawn(display)
    assert head.startswith("search 00:0")
    assert head.endswith("of 10 min · best 0.8750 (trial 1) · 2/5 done: 1 complete, 1 pruned")
    assert heading.split() == ["trial", "epoch", "val_accuracy", "curve", "parameters"]
    assert row.split() == [
        "1",
        "3",
        "0.8750",
        "▁▃█",
        "lr=0.0123",
        "optimizer=adam",
        "hidden_size=32",
    ]
    display.close()


def test_before_the_first_result(study: optuna.Study) -> None:
    display, _ = in_terminal()
    display.phase("search", study)
    assert len(drawn(display)) == 2
    assert drawn(display)[0].endswith("no result · 0 done: -")
    display.close()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_wide_characters_line_up_and_stay_in_their_lines(study: optuna.Study, width: int) -> None:
    display, _ = in_terminal(width)
    display.phase("search", study)
    names = ["酒店" * 9, "plain", "书" * 40, "ｗｉｄｅ"]
    for number, name in enumerate(names):
        display.started(number, {"x": name})
        display.reported(number, a_report(1, 0.5))
    _, heading, *rows = drawn(display, width)[-len(names) - 2 :]
    assert heading.split()[:4] == ["trial", "epoch", "val_accuracy", "curve"]
    assert [row.split()[:4] for row in rows] == [[str(k), "1", "0.5000", "▁"] for k in range(4)]
    assert len({cell_len(row[: row.index("0.5000")]) for row in rows}) == 1
    assert all(cell_len(row.rstrip()) <= width for row in rows)
    display.close()


def test_a_crowd_is_not_shown_whole(study: optuna.Study) -> None:
    display, _ = in_terminal()
    display.phase("search", study)
    for number in range(SHOWN + 5):
        display.started(number, {})
    assert len(drawn(display)) == SHOWN + 2
    display.close()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([math.nan], ""),
        ([0.5], "▁"),
        ([0.5, 0.5], "▁▁"),
        ([0, 1, math.nan, 0.5], "▁█▄"),
        ([1, 0], "█▁"),
        ([float(k) for k in range(8)], "▁▂▃▄▅▆▇█"),
    ],
)
def test_sparkline(values: list[Any], line: str) -> None:
    assert _sparkline(values) == line


def test_a_sparkline_is_short() -> None:
    assert len(_sparkline([k / 100 for k in range(100)])) == 16
