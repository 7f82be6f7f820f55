"""The search as it runs: a table that stays in place, or a plain line an event."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import IO, Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lstmcls.config import TrainConfig
from tune.queue import cut_short
from tune.space import SearchSpace
from tune.study import frozen_trial, ranked, reports_of

SHOWN = 12  # running trials in the table
EVERY = 0.25  # seconds between two drawings
POINTS = 10  # of a curve
WIDE = 70  # columns from which there is room for the curves


class _Lasting:
    """A stream whose reader may go away, a terminal or a pipe, without a fault for the writer."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Display:
    """Told what happens by the session and the StudyRecorder; shows it on standard error.

    What it shows of a trial it reads from the study, so that a resumed search begins with its
    whole past.
    """

    def __init__(self, space: SearchSpace, quiet: bool) -> None:
        self._objective = space.objective
        # They have columns of their own.
        self._apart = {p.name for p in space.parameters if p.field in ("variant", "epochs")}
        # This very file: while Ray runs, sys.stderr is the log. And as what it is, whatever
        # FORCE_COLOR says: notebooks set that, and would show the codes.
        self._console = Console(
            file=cast(IO[str], _Lasting(sys.stderr)),
            force_terminal=sys.stderr.isatty(),
            force_jupyter=False,
            highlight=False,
        )
        self._quiet = quiet
        self._began = time.monotonic()
        self._drawn = 0.0
        self._size = self._console.size
        self._study: optuna.Study  # of the phase, as the five below
        self._past: Collection[int] = ()
        self._total: int | None = None
        self._deadline: float | None = None
        self._then = ""
        self._running: dict[int, TrainConfig] = {}
        self._best: tuple[float, int] | None = None
        self._live: Live | None = None

    def phase(
        self,
        study: optuna.Study,
        total: int | None = None,
        deadline: float | None = None,
        then: str = "",
        past: Collection[int] = (),
    ) -> None:
        """Begin a part of the run: at most `total` trials, until `deadline` (monotonic clock).

        `then` says what comes after it; trials whose numbers are in `past` do not count.
        """
        self._study, self._total, self._deadline, self._then = study, total, deadline, then
        self._past = past
        self._running.clear()
        self._look_for_best()
        if self._quiet:
            return
        done = len(self._ended())
        parts = [f"{total} trials"] if total else []
        parts += [f"{done} done"] if done else []
        if deadline is not None:
            parts.append(f"{_clock(max(0.0, deadline - time.monotonic()))} left")
        self.note(f"{study.study_name} begins" + (f": {', '.join(parts)}" if parts else ""))
        if self._console.is_interactive and self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def phase_ends(self, why: str | None) -> None:
        """`why` is what ended it before its trials ran out."""
        cut = sum(map(cut_short, self._study.get_trials(deepcopy=False)))
        counts = [_counts(self._ended()), f"{cut} cut short" if cut else ""]
        parts = [part for part in (why, ", ".join(filter(None, counts))) if part]
        self.note(f"{self._study.study_name} ends: {'; '.join(parts)}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, number: int, config: TrainConfig) -> None:
        self._running[number] = config

    def reported(self, number: int, report: dict[str, Any]) -> None:
        value = report["objective"]
        known = math.nan if self._best is None else self._best[0]
        if self._objective.better(value, known):
            self._best = (value, number)
        if self._live is None:
            best = f", best {self._best[0]:.4f} (trial {self._best[1]})" if self._best else ""
            name, epochs = self._objective.metric, self._running[number].epochs
            epoch = f"epoch {report['epoch']:g}/{epochs:g}"
            self.note(f"trial {number} {epoch}: {name} {value:.4f}{best}")

    def finished(self, number: int, state: TrialState, why: str) -> None:
        config = self._running.pop(number, None)
        if state == TrialState.FAIL and self._best is not None and self._best[1] == number:
            self._look_for_best()
        if self._live is None or state == TrialState.FAIL:
            variant = f"{config.variant} " if config else ""
            params = _short(self._params(number))
            self.note(f"trial {number} {state.name}: {why} [{variant}{params}]")

    def retried(self, number: int, why: str) -> None:
        self._running.pop(number, None)
        self.note(f"trial {number} {why}")

    def note(self, text: str) -> None:
        if not self._quiet:
            line = "".join(char if char.isprintable() else " " for char in text)
            line = f"{_clock(time.monotonic() - self._began)} {line}"
            self._console.print(Text(line), soft_wrap=self._live is None)

    def tick(self) -> None:
        """Draw the table again when it is time."""
        if self._live is None or time.monotonic() < self._drawn + EVERY:
            return
        self._drawn = time.monotonic()
        if self._console.size != self._size:
            # The terminal has broken the lines anew: where the table now stands is not known.
            self._size = self._console.size
            self._console.clear()
        self._live.update(self._table(), refresh=True)

    def _look_for_best(self) -> None:
        best = ranked(self._study, self._objective)[:1]
        self._best = (best[0][1]["objective"], best[0][0].number) if best else None

    def _params(self, number: int) -> dict[str, Any]:
        params = frozen_trial(self._study, number).params
        return {name: value for name, value in params.items() if name not in self._apart}

    def _table(self) -> Group:
        lines: list[Text | Table] = [
            Text(self._head(), style="bold"),
            self._rows(),
            Text(self._best_line()),
            Text(_counts(self._ended()) or "none has ended yet"),
            Text(f"then: {self._then}", style="dim"),
        ]
        return Group(*lines)

    def _ended(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and t.number not in self._past]

    def _head(self) -> str:
        now = time.monotonic()
        done = len(self._ended())
        parts = [f"{self._study.study_name} {_clock(now - self._began)}"]
        if self._deadline is not None:
            parts.append(f"{_clock(max(0.0, self._deadline - now))} left")
        parts.append(f"{done} of {self._total} trials" if self._total else f"{done} trials")
        return ", ".join([*parts, f"{len(self._running)} running"])

    def _rows(self) -> Table:
        """The running trials; where they are many for the terminal, each in a single line."""
        height, width = self._console.height - 7, self._console.width
        numbers = list(self._running)[: max(1, min(SHOWN, height))]
        one_line = 3 * len(numbers) > height
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for heading in ("trial", "epoch", "best", "last"):
            table.add_column(heading, no_wrap=True, justify="right")
        if width >= WIDE:
            table.add_column("curve", no_wrap=True)
        # Variant and what differs: the only column that gives way in a narrow terminal.
        table.add_column("configuration")
        shown = _differing([self._params(number) for number in numbers])
        for number, params in zip(numbers, shown, strict=True):
            config = self._running[number]
            curve = reports_of(frozen_trial(self._study, number))
            values = [report["objective"] for report in curve]
            table.add_row(
                str(number),
                f"{curve[-1]['epoch'] if curve else 0:g}/{config.epochs:g}",
                self._shown(values),
                f"{values[-1]:.4f}" if values else "-",
                *([_sparkline(values)] if width >= WIDE else []),
                Text(f"{config.variant} {_short(params)}", no_wrap=one_line, overflow="ellipsis"),
            )
        return table

    def _shown(self, values: list[float]) -> str:
        pick = max if self._objective.mode == "max" else min
        known = [value for value in values if not math.isnan(value)]
        return f"{pick(known):.4f}" if known else "-"

    def _best_line(self) -> str:
        if self._best is None:
            return f"no {self._objective.metric} yet"
        return f"best {self._objective.metric} {self._best[0]:.4f} (trial {self._best[1]})"


def _counts(ended: list[FrozenTrial]) -> str:
    """`12 complete, 31 pruned, 1 failed: diverged`."""
    states = Counter(trial.state for trial in ended)
    parts = [
        f"{states[state]} {state.name.lower()}"
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
        if states[state]
    ]
    failed = [trial for trial in ended if trial.state == TrialState.FAIL]
    kinds = Counter(trial.user_attrs.get("stopped", "").split(":")[0] for trial in failed)
    if failed:
        why = [f"{count} {kind}" if len(kinds) > 1 else kind for kind, count in kinds.most_common()]
        parts.append(f"{len(failed)} failed: {', '.join(why)}")
    return ", ".join(parts)


def _differing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each of several trials' parameters those that are not the same in all of them."""
    if len(rows) < 2:
        return rows
    names = {name for row in rows for name in row}
    same = {n for n in names if all(n in row and row[n] == rows[0].get(n) for row in rows)}
    return [{name: value for name, value in row.items() if name not in same} for row in rows]


def _short(params: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def _sparkline(values: list[float]) -> str:
    """The whole curve in at most POINTS bars, the last value always among them."""
    bars, finite = "▁▂▃▄▅▆▇█", [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    finite = finite[:: -math.ceil(len(finite) / POINTS)][::-1]
    low, high = min(finite), max(finite)
    return "".join(bars[int((v - low) / ((high - low) or 1) * 7)] for v in finite)
