"""What is shown as a search runs: a table in a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import io
import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import a_report, asked, finished, in_memory, opened, small_space
from optuna.trial import TrialState
from rich.cells import cell_len
from rich.console import Console

from tune import live
from tune.live import POINTS, SHOWN, Display, _sparkline
from tune.space import SearchSpace
from tune.study import cut, finish, record_report

folder = pytest.fixture(in_memory)
SPACE = small_space()
ADAM = {"optimizer": "adam", "lr": 0.0123456, "hidden_size": 32}
THEN = "confirmation of the top 2"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(live, "EVERY", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)  # no test takes time


@pytest.fixture
def study(folder: Path) -> optuna.Study:
    return opened(folder / "j", SPACE)


class Search:
    """Trials as the recorder lives them: first the study, then the display."""

    def __init__(self, study: optuna.Study, display: Display, space: SearchSpace = SPACE) -> None:
        self.study, self.display, self.space = study, display, space
        self.trials: dict[int, optuna.Trial] = {}

    def start(self, point: dict[str, Any] = ADAM) -> int:
        self.study.enqueue_trial(point)
        trial, config = asked(self.study, self.space, None)
        self.trials[trial.number] = trial
        self.display.started(trial.number, config)
        return int(trial.number)

    def report(self, number: int, *values: float) -> None:
        for value in values:
            step = len(self.study.get_trials()[number].intermediate_values) + 1
            record_report(self.study, self.trials[number], a_report(step, value))
            self.display.reported(number, a_report(step, value))
            self.display.tick()

    def end(self, number: int, state: TrialState, why: str) -> None:
        value = 0.5 if state == TrialState.COMPLETE else None
        finish(self.study, number, state, why, value)
        self.display.finished(number, state, why)


def happens(display: Display, study: optuna.Study) -> None:
    """One of everything."""
    search = Search(study, display)
    display.note("starting Ray")
    display.phase(study, 10, 1600.0, THEN)
    display.tick()
    search.report(search.start(), 0.5, math.nan)
    display.retried(search.start(), "worker died: x; tried again")
    search.end(0, TrialState.COMPLETE, "trained to the end")
    search.end(search.start(), TrialState.FAIL, "diverged: the loss is nan")
    display.note("评论: one thing [bold]more[/bold]\x1b[2J\n")
    display.phase_ends("time is up")
    display.close()


def test_without_a_terminal_every_event_is_a_plain_line(
    study: optuna.Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks and CI systems do
    happens(Display(SPACE, quiet=False), study)
    out, err = capsys.readouterr()
    assert out == ""
    assert all(char == "\n" or char.isprintable() for char in err)
    assert [line.split(" ", 1)[1].rstrip() for line in err.splitlines()] == [
        "starting Ray",
        "search begins: 10 trials, 10:00 left",
        "trial 0 epoch 1/3: val_accuracy 0.5000, best 0.5000 (trial 0)",
        "trial 0 epoch 2/3: val_accuracy nan, best 0.5000 (trial 0)",
        "trial 1 worker died: x; tried again",
        "trial 0 COMPLETE: trained to the end [improved optimizer=adam lr=0.0123 hidden_size=32]",
        "trial 2 FAIL: diverged: the loss is nan "
        "[improved optimizer=adam lr=0.0123 hidden_size=32]",
        "评论: one thing [bold]more[/bold] [2J",
        "search ends: time is up; 1 complete, 1 failed: diverged",
    ]


def test_what_the_end_cuts_short_is_counted(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    search = Search(study, Display(SPACE, quiet=False))
    search.display.phase(study, 10)
    search.end(search.start(), TrialState.COMPLETE, "trained to the end")
    search.start()
    for number in cut(study, "time is up"):
        search.display.finished(number, TrialState.PRUNED, "time is up")
    search.display.phase_ends("time is up")
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines[-2].startswith("trial 1 PRUNED: time is up")
    assert lines[-1] == "search ends: time is up; 1 complete, 1 cut short"


def test_a_terminal_that_is_gone_is_no_fault(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, terminal = os.openpty()
    gone = open(terminal, "w", encoding="utf-8")  # noqa: SIM115 - it cannot be closed like others
    monkeypatch.setattr(sys, "stderr", gone)
    monkeypatch.setenv("TERM", "xterm")
    display = Display(SPACE, quiet=False)
    display.phase(study)
    os.close(master)
    with pytest.raises(OSError, match="Input/output"):
        os.write(terminal, b"x")
    happens(display, study)
    monkeypatch.undo()
    with suppress(OSError):
        gone.close()


def test_a_line_is_one_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    Display(SPACE, quiet=False).note("长" * 500)
    assert capsys.readouterr().err.count("\n") == 1


def test_quiet_is_quiet(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    happens(Display(SPACE, quiet=True), study)
    assert capsys.readouterr() == ("", "")


def test_a_resumed_search_begins_with_what_was_done(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(study, SPACE.suggest, [0.75])
    finished(study, SPACE.suggest, [0.5], TrialState.PRUNED)
    search = Search(study, Display(SPACE, quiet=False))
    search.display.phase(study, 5)
    search.report(search.start(), 0.625)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("search begins: 5 trials, 2 done")
    assert lines[1].endswith("val_accuracy 0.6250, best 0.7500 (trial 0)")


def test_runs_that_no_longer_count_are_not_counted(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(study, SPACE.suggest, [0.75])
    finished(study, SPACE.suggest, [0.5], TrialState.PRUNED)
    display = Display(SPACE, quiet=False)
    display.phase(study, 3, past={1})
    display.phase_ends(None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("search begins: 3 trials, 1 done")
    assert lines[1].endswith("search ends: 1 complete")


def test_less_may_be_better(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = small_space(objective="val_loss")
    study = opened(folder / "less", space)
    search = Search(study, Display(space, quiet=False), space)
    search.display.phase(study)
    search.report(search.start(), 0.5, 0.75)
    assert capsys.readouterr().err.splitlines()[-1].endswith("0.7500, best 0.5000 (trial 0)")
    assert "  0.5000  0.7500  " in drawn(search.display)[2]


def test_a_trial_that_fails_is_the_best_no_longer(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    search = Search(study, Display(SPACE, quiet=False))
    search.display.phase(study)
    good, bad, other = search.start(), search.start(), search.start()
    search.report(good, 0.5)
    search.report(bad, 0.75)
    search.end(bad, TrialState.FAIL, "diverged: the loss is nan")
    search.report(other, 0.25)
    assert capsys.readouterr().err.splitlines()[-1].endswith("0.2500, best 0.5000 (trial 0)")


def in_terminal(width: int = 80, height: int = 40) -> tuple[Display, io.StringIO]:
    display, screen = Display(SPACE, quiet=False), io.StringIO()
    display._console = Console(file=screen, force_terminal=True, width=width, height=height)
    display._size = display._console.size
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
    assert "\x1b[1A\x1b[2K" in shown  # it moves in place
    assert "FAIL: diverged" in shown
    assert "trained to the end" not in shown  # the table counts those
    assert f"then: {THEN}" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    display.close()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    display, screen = in_terminal()
    happens(display, study)
    assert "trial 0 epoch 1/3" in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


def test_the_table(study: optuna.Study) -> None:
    finished(study, SPACE.suggest, [0.75])
    search = Search(study, in_terminal()[0])
    search.display.phase(study, 5, 1090.0, THEN)
    for point in (ADAM, {**ADAM, "lr": 0.5}, ADAM, ADAM, ADAM):
        search.start(point)
    search.report(1, 0.5, 0.875, 0.625)
    search.end(3, TrialState.PRUNED, "asha at epoch 1")
    for number, why in ((4, "diverged: the loss is nan"), (5, "out of memory: 9 GB")):
        search.end(number, TrialState.FAIL, why)
    head, heading, one, two, *below = drawn(search.display)
    assert head == "search 00:00, 01:30 left, 4 of 5 trials, 2 running"
    assert heading.split()[:5] == ["trial", "epoch", "best", "last", "curve"]
    # The optimizer and the size are the same in both.
    assert one.split() == ["1", "3/3", "0.8750", "0.6250", "▁█▃", "improved", "lr=0.0123"]
    assert two.split() == ["2", "0/3", "-", "-", "improved", "lr=0.5"]
    assert below == [
        "best val_accuracy 0.8750 (trial 1)",
        "1 complete, 1 pruned, 2 failed: 1 diverged, 1 out of memory",
        f"then: {THEN}",
    ]
    search.display.close()


def test_the_variant_and_the_epochs_are_shown_once(folder: Path) -> None:
    space = small_space(
        space={
            "network": {"categorical": ["plain", "improved"], "field": "variant"},
            "epochs": {"int": [1, 4]},
            "lr": {"float": [0.1, 1]},
        },
        fixed={},
    )
    study = opened(folder / "k", space)
    search = Search(study, in_terminal()[0], space)
    search.display._apart = Display(space, quiet=True)._apart
    search.display.phase(study)
    search.start({"network": "plain", "epochs": 4, "lr": 0.5})
    assert drawn(search.display)[2].split() == ["0", "0/4", "-", "-", "plain", "lr=0.5"]
    search.display.close()


def test_a_trial_that_goes_on_shows_its_whole_curve(study: optuna.Study) -> None:
    trial, config = asked(study, SPACE, None)
    for step, value in enumerate([0.5, 0.75], start=1):
        record_report(study, trial, a_report(step, value))
    display, _ = in_terminal()
    display.phase(study)
    display.started(0, config)
    assert drawn(display)[2].split()[:5] == ["0", "2/3", "0.7500", "0.7500", "▁█"]
    display.close()


def test_before_the_first_result(study: optuna.Study) -> None:
    display, _ = in_terminal()
    display.phase(study)
    head, _, *below = drawn(display)
    assert head == "search 00:00, 0 trials, 0 running"
    assert below[:2] == ["no val_accuracy yet", "none has ended yet"]
    display.close()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_columns_line_up_and_stay_in_their_lines(study: optuna.Study, width: int) -> None:
    search = Search(study, in_terminal(width)[0])
    search.display.phase(study, 100, 1600.0, THEN)
    for number in range(4):
        search.start({**ADAM, "hidden_size": 8 + 8 * number, "lr": 0.1 / (number + 1)})
        search.report(number, 0.5)
    lines = drawn(search.display, width)
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    rows = [line for line in lines if "0.5000" in line and "best" not in line]
    assert [row.split()[:4] for row in rows] == [
        [str(k), "1/3", "0.5000", "0.5000"] for k in range(4)
    ]
    assert len({row.index("improved"[:3]) for row in rows}) == 1
    text = " ".join("".join(lines).split())
    assert [f"hidden_size={8 + 8 * k}" in text for k in range(4)] == [width >= 60] * 4
    search.display.close()


@pytest.mark.parametrize("width", [50, 80])
def test_wide_characters_count_as_two(folder: Path, width: int) -> None:
    space = small_space(space={"学习率": {"float": [0.1, 1], "field": "lr"}})
    study = opened(folder / "wide", space)
    search = Search(study, in_terminal(width)[0], space)
    search.display.phase(study, then="最好的两个")
    for number in range(3):
        search.start({"学习率": 0.1 + number / 10})
        search.report(number, 0.5)
    lines = drawn(search.display, width)
    assert lines[-1] == "then: 最好的两个"
    rows = [line for line in lines if "0.5000  0.5000" in line]
    assert [row.split("improved ")[1].strip() for row in rows] == [
        "学习率=0.1", "学习率=0.2", "学习率=0.3",
    ]  # fmt: skip
    assert all(cell_len(row.rstrip()) <= width for row in rows)
    search.display.close()


@pytest.mark.parametrize(("height", "rows"), [(40, SHOWN), (14, 7), (5, 1)])
def test_a_crowd_fits_the_terminal(study: optuna.Study, height: int, rows: int) -> None:
    search = Search(study, in_terminal(60, height)[0])
    search.display.phase(search.study)
    for k in range(SHOWN + 5):
        search.start({**ADAM, "lr": 0.1 / (k + 1), "hidden_size": 8 + 8 * (k % 7)})
    lines = drawn(search.display, 60)
    assert len(lines) == rows + 5
    assert lines[1].split()[:4] == ["trial", "epoch", "best", "last"]
    assert [line.split()[:2] for line in lines[2:-3]] == [[str(k), "0/3"] for k in range(rows)]
    assert lines[0].endswith(f"{SHOWN + 5} running")
    search.display.close()


def test_a_resized_terminal_is_drawn_anew(study: optuna.Study) -> None:
    display, screen = in_terminal()
    display.phase(study)
    display.tick()
    assert "\x1b[2J" not in screen.getvalue()
    display._console.width = 60
    display.tick()
    display.tick()
    assert screen.getvalue().count("\x1b[2J") == 1
    display.close()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([math.nan], ""),
        ([0.5], "▁"),
        ([0.5, 0.5], "▁▁"),
        ([0, 1, math.nan, math.inf, 0.5], "▁█▄"),
        ([1, 0], "█▁"),
        ([float(k) for k in range(8)], "▁▂▃▄▅▆▇█"),
    ],
)
def test_sparkline(values: list[Any], line: str) -> None:
    assert _sparkline(values) == line


@pytest.mark.parametrize("count", [POINTS, POINTS + 1, 99, 100, 101])
def test_a_sparkline_is_short_and_whole(count: int) -> None:
    rising = _sparkline([float(k) for k in range(count)])
    assert POINTS / 2 < len(rising) <= POINTS
    assert rising[0] == "▁"
    assert rising[-1] == "█"
