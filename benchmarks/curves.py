"""What time_to_quality.py found, as curves, as a table and as a plot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NAMES = {
    "lstm_tune": "lstm-tune",
    "as_shipped": "lstm-tune as shipped, with confirmation",
    "ray_tutorial": "Ray Tune's tutorial",
    "optuna_alone": "Optuna alone, Hyperband",
    "syne_tune_asha": "Syne Tune, ASHA",
    "random_search": "random search",
}
OURS = ("lstm_tune", "as_shipped")
SHORT = {"lstm_tune": "lstm-tune", "as_shipped": "as shipped"}

Curves = NDArray[np.float64]
# By search, a table a seed: seconds, value and trial of every validation.
Runs = dict[str, list[pd.DataFrame]]


def read_pieces(folder: Path) -> tuple[Runs, float, str]:
    """The runs in `folder`, in the order of NAMES, the minutes of each, and the machine.

    Raises:
        SystemExit: nothing there, or pieces of different budgets or data.
    """
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))]
    pieces = [json.loads(text) for text in texts]
    kinds = {(piece["minutes"], piece["data"]) for piece in pieces}
    if len(kinds) != 1:
        found = ", ".join(f"{m:g} minutes on {d}" for m, d in sorted(kinds)) or "no results"
        raise SystemExit(f"{folder}: expected results of one budget on one data set, found {found}")
    runs: Runs = {name: [] for name in NAMES}
    for piece in pieces:
        table = pd.DataFrame(piece["results"], columns=["seconds", "value", "trial"])
        runs[piece["search"]].append(table)
    runs = {name: tables for name, tables in runs.items() if tables}
    return runs, pieces[0]["minutes"], pieces[0]["machine"]


def seconds(minutes: float) -> Curves:
    """The times at which curves are read: every second from 0 to the end."""
    return np.arange(0, minutes * 60 + 1)


def best_so_far(runs: list[pd.DataFrame], minutes: float) -> Curves:
    """The curves [runs, seconds] of one search; NaN before a run's first result."""
    curves = []
    for run in runs:
        run = run.sort_values("seconds")
        best = np.append(np.nan, run["value"].cummax().astype(float))
        curves.append(best[np.searchsorted(run["seconds"], seconds(minutes), side="right")])
    return np.array(curves)


def reached(curves: Curves, target: float) -> float:
    """The first second at which the mean of `curves` is at least `target`; NaN if never."""
    there = curves.mean(axis=0) >= target - 1e-12
    return float(there.argmax()) if there.any() else np.nan


def table(runs: Runs, minutes: float) -> str:
    """Markdown: each search's best at the end, and when ours had come as far.

    All times are those of the mean over the seeds; in brackets, theirs over ours.
    """
    ours = {name: best_so_far(runs[name], minutes) for name in OURS if name in runs}
    heads = [
        *("search", f"best after {minutes:g} min, mean ± sd", "seeds", "trials", "validations"),
        *("gets there after", *(f"{SHORT[name]} there after" for name in ours)),
    ]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for search, mine in runs.items():
        curves, n = best_so_far(mine, minutes), len(mine)
        final = curves[:, -1]
        cells = [
            NAMES[search],
            f"{final.mean():.4f} ± " + (f"{final.std(ddof=1):.4f}" if n > 1 else "?"),
            str(n),
            f"{sum(run['trial'].nunique() for run in mine) / n:.0f}",
            f"{sum(map(len, mine)) / n:.0f}",
        ]
        theirs = reached(curves, final.mean())
        cells.append(f"{theirs:.0f} s")
        for ending in ours.values():
            at = reached(ending, final.mean())
            cells.append("not reached" if np.isnan(at) else f"{at:.0f} s ({theirs / at:.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(runs: Runs, minutes: float, path: Path) -> None:
    """The mean curve of every search and the range of its seeds, as an SVG file."""
    # Only here: whoever tests the table need not have it.
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    at = seconds(minutes) / 60
    for search, mine in runs.items():
        curves = best_so_far(mine, minutes)
        (line,) = axes.step(at, curves.mean(axis=0), where="post", label=NAMES[search])
        low, high = curves.min(axis=0), curves.max(axis=0)
        axes.fill_between(at, low, high, step="post", alpha=0.15, color=line.get_color())
    axes.set(xlabel="minutes since the command began", ylabel="best validation accuracy")
    axes.set_xlim(0, minutes)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with matplotlib.rc_context({"svg.hashsalt": "time to quality"}):  # same numbers, same file
        figure.savefig(path, metadata={"Date": None})
