"""The search as it runs: a table that stays in place, or a plain line an event."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tune.space import Objective
from tune.study import ranked

SHOWN = 12  # running trials in the table


class Display:
    """Told what happens by the StudyRecorder; shows it on standard error."""

    def __init__(self, objective: Objective, minutes: float | None, quiet: bool) -> None:
        self._objective = objective
        self._seconds = minutes * 60 if minutes else None
        self._console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._started = time.monotonic()
        self._shown = 0.0
        self._running: dict[int, dict[str, Any]] = {}
        self._counts: Counter[str] = Counter()
        self._best: tuple[float, int] | None = None
        self._phase = ""
        self._total: int | None = None
        self._live: Live | None = None

    def phase(self, name: str, study: optuna.Study, total: int | None = None) -> None:
        """Begin a part of the run, of `total` trials where that is known."""
        self._phase, self._total = name, total
        self._running.clear()
        finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
        self._counts = Counter(trial.state.name.lower() for trial in finished)
        best = ranked(study, self._objective)[:1]
        self._best = (best[0][1]["objective"], best[0][0].number) if best else None
        if self._quiet:
            return
        if self._console.is_terminal and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        done = f", {len(finished)} done" if finished else ""
        self.note(f"{name} begins" + (f": {total} trials{done}" if total else done))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, number: int, params: dict[str, Any]) -> None:
        self._running[number] = {"params": _short(params), "epoch": 0.0, "curve": []}

    def reported(self, number: int, report: dict[str, Any]) -> None:
        value, row = report["objective"], self._running[number]
        row["epoch"] = report["epoch"]
        row["curve"].append(value)
        if value == value and (self._best is None or self._objective.better(value, self._best[0])):
            self._best = (value, number)
        if self._live is None:
            name = self._objective.metric
            best = f", best {self._best[0]:.4f} (trial {self._best[1]})" if self._best else ""
            self._line(f"trial {number} epoch {report['epoch']:g}: {name} {value:.4f}{best}")

    def finished(self, number: int, state: TrialState, why: str) -> None:
        row = self._running.pop(number, {"params": ""})
        self._counts[state.name.lower()] += 1
        if self._live is None or state == TrialState.FAIL:
            self.note(f"trial {number} {state.name}: {why} [{row['params']}]")

    def retried(self, number: int, why: str) -> None:
        self._running.pop(number, None)
        self.note(f"trial {number} {why}")

    def note(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(Text(f"{self._clock()} {text}"))
        else:
            self._line(text)

    def tick(self) -> None:
        """Draw the table again, at most four times a second."""
        if self._live is not None and time.monotonic() > self._shown + 0.25:
            self._shown = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._console.print(Text(f"{self._clock()} {text}"), soft_wrap=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        return f"{minutes:02d}:{seconds:02d}"

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 1), expand=False)
        for heading in ("trial", "epoch", self._objective.metric, "curve"):
            table.add_column(heading, no_wrap=True)
        table.add_column("parameters")  # the only one that gives way in a narrow terminal
        for number, row in list(self._running.items())[:SHOWN]:
            curve = row["curve"]
            last = f"{curve[-1]:.4f}" if curve else "-"
            params = Text(row["params"], no_wrap=True, overflow="ellipsis")
            table.add_row(str(number), f"{row['epoch']:g}", last, _sparkline(curve), params)
        counts = ", ".join(f"{count} {state}" for state, count in self._counts.items())
        best = f"best {self._best[0]:.4f} (trial {self._best[1]})" if self._best else "no result"
        left = ""
        if self._seconds:
            left = f" of {self._seconds / 60:g} min"
        total = f"/{self._total}" if self._total else ""
        done = sum(self._counts.values())
        head = f"{self._phase} {self._clock()}{left} · {best} · {done}{total} done: {counts or '-'}"
        return Group(Text(head), table)


def _short(params: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )


def _sparkline(values: list[float]) -> str:
    bars, finite = "▁▂▃▄▅▆▇█", [v for v in values[-16:] if v == v]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    return "".join(bars[int((v - low) / ((high - low) or 1) * 7)] for v in finite)
