"""One search over several seeds: what its winners came to, and how fast.

`for K in 0 1 2 3 4; do python -m tune.search --seed $K --out FOLDER/$K; done`, then
`python benchmarks/seeds.py FOLDER/*`: a row a run, and the means. `--reach X`: seconds from the
start of the search, Ray being up, to the first report of at least X.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import pandas as pd
from machine import described

from lstmcls.cli import BadInput
from lstmcls.expectations import confirmed_candidates
from tune import load_run
from tune.sittings import starts

Row = dict[str, float]


def row(folder: Path, reach: list[float]) -> Row:
    """What one finished run came to.

    Raises:
        BadInput: not a run, or one without a confirmed winner.
    """
    run = load_run(folder)
    metrics = run.classifier().metrics
    if "confirmation" not in metrics:
        raise BadInput(f"{folder}: its winner is not confirmed")
    metric = metrics["objective"].removeprefix("val_")
    search = run.reports[run.reports.study == "search"]
    winner = next(c for c in confirmed_candidates(metrics) if c["trial"] == metrics["trial"])
    found = {
        "trials": float(search.trial.nunique()),
        "confirmed": winner["value"],
        "linear": metrics.get("linear", {}).get(metric, math.nan),
        "test accuracy": metrics["test"]["accuracy"],
    }
    began = pd.Timestamp(starts(run.study)[0], unit="s", tz="UTC")
    for value in reach:
        times = search.time[search.objective >= value]
        found[f"s to {value}"] = (times.min() - began).total_seconds()
    return found


def lines(rows: dict[str, Row]) -> list[str]:
    """A Markdown table: a line a run, then mean ± standard deviation."""
    names = list(next(iter(rows.values())))
    table = [["run", *names], ["---", *["---:"] * len(names)]]
    table += [[run, *(f"{value:.4g}" for value in row.values())] for run, row in rows.items()]
    if len(rows) > 1:
        columns = list(zip(*(row.values() for row in rows.values()), strict=True))
        spread = [f"{statistics.mean(c):.4g} ± {statistics.stdev(c):.2g}" for c in columns]
        table.append(["all", *spread])
    return [f"| {' | '.join(cells)} |" for cells in table]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--reach", nargs="+", type=float, default=[])
    args = parser.parse_args()
    print(f"{described()}\n")
    print(*lines({run.name: row(run, args.reach) for run in args.runs}), sep="\n")


if __name__ == "__main__":
    main()
