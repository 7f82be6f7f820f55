"""What each parameter of a finished grid search is worth, all else being equal.

`python benchmarks/effects.py RUN...`: for each value of each parameter, the mean difference of the
objective to the parameter's first value, over all pairs of trainings that differ in nothing else,
seeds included, with its 95 % interval by Student's t.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from machine import described
from scipy import stats

from tune import load_run
from tune.run import Run
from tune.tables import settings_table


def effects(run: Run) -> Iterator[tuple[str, str, float, float, int]]:
    """(parameter, value, mean difference to its first value, half width of its interval, pairs)."""
    table = settings_table(run.space, run.study).dropna(subset=["value"])
    names = [parameter.name for parameter in run.space.parameters]
    for parameter in run.space.parameters:
        if parameter.name == "seed":
            continue
        others = [name for name in names if name != parameter.name]
        pairs = table.pivot_table(index=others, columns=parameter.name, values="value")
        first, *rest = pairs.columns
        for value in rest:
            difference = (pairs[value] - pairs[first]).dropna()
            half = stats.t.ppf(0.975, len(difference) - 1) * difference.sem()
            yield parameter.name, f"{first} to {value}", difference.mean(), half, len(difference)


def lines(run: Run) -> Iterator[str]:
    """A Markdown table: a line a value."""
    yield "| parameter | | gain | pairs |"
    yield "| --- | --- | ---: | ---: |"
    for name, step, mean, half, pairs in effects(run):
        yield f"| {name} | {step} | {mean:+.4f} ± {half:.4f} | {pairs} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    args = parser.parse_args()
    print(described())
    for path in args.runs:
        run = load_run(path)
        values = pd.Series([trial.value for trial in run.study.trials], dtype=float).dropna()
        print(f"\n{path}: {len(values)} trainings, {values.mean():.4f} ± {values.std():.4f}\n")
        print(*lines(run), sep="\n")


if __name__ == "__main__":
    main()
