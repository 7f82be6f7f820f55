"""The notebook's six networks beside its own figures, and the walk through its four switches.

`python -m tune.search --space notebook --data DATA --out FOLDER/notebook`, the same with
`benchmarks/notebook_steps.yaml` and `ablation`, then `python benchmarks/notebook.py
FOLDER/notebook FOLDER/steps --walk FOLDER/ablation`: what the searches came to, as a table for each
number of epochs, and as a plot. A run may be cut short; its seeds so far are shown. It writes the
trainings themselves beside the plot, as notebook.csv and walk.csv, which may stand in a run's
place: seeds that were trained elsewhere come together so.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from machine import described

from lstmcls.config import FIELDS, TrainConfig
from tune import load_run
from tune.ablation import ablation_text, analyse, switches_on
from tune.space import Objective
from tune.tables import settings_table

NOTEBOOK = {
    "plain": 0.501,
    "bidirectional": 0.493,
    "dropout": 0.499,
    "zero_state": 0.501,
    "max_pooling": 0.755,
    "improved": 0.819,
}
PADDINGS = ("counted", "masked")
ROOT = Path(__file__).resolve().parent.parent


def settings(sources: list[Path]) -> pd.DataFrame:
    """The configurations that trained to their end, with `variant` and `value`, of all sources."""
    tables = [_of_csv(s) if s.suffix == ".csv" else _of_run(s) for s in sources]
    table = pd.concat(tables).dropna(subset=["value"])
    return table.drop_duplicates(list(FIELDS), keep="last").sort_values(list(FIELDS))


def _of_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    missing = {k: v for k, v in TrainConfig().to_dict().items() if k not in table}
    return table.assign(**missing)  # fields that came later were at their defaults


def _of_run(folder: Path) -> pd.DataFrame:
    run = load_run(folder)
    return settings_table(run.space, run.study)


def lines(trained: pd.DataFrame) -> list[str]:
    """A Markdown table: a line a variant, mean ± standard deviation of the seeds."""
    table = [
        "| network | in the notebook | counted, ± sd | masked, ± sd | seeds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for variant, there in NOTEBOOK.items():
        mine = trained[trained.variant == variant]
        if mine.empty:
            continue
        values = [mine[mine.padding == padding].value for padding in PADDINGS]
        cells = [*map(_spread, values), ", ".join(str(len(seeds)) for seeds in values)]
        table.append(f"| {variant} | {there:.3f} | {' | '.join(cells)} |")
    return table


def _spread(values: pd.Series[float]) -> str:
    if values.empty:
        return ""
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def draw(trained: pd.DataFrame, walked: pd.DataFrame | None, path: Path) -> None:
    """The six networks and, where it was run, the walk, as an SVG file."""
    import matplotlib
    from matplotlib.figure import Figure

    ways = list(trained.groupby("epochs"))
    count = len(ways) + (walked is not None)
    figure = Figure(figsize=(5 * count, 4.2), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for axes, (epochs, table) in zip(panels, ways, strict=False):
        _draw_variants(axes, table, f"SGD, epochs: {epochs:g}")
    if walked is not None:
        _draw_walk(panels[-1], walked)
    with matplotlib.rc_context({"svg.hashsalt": "notebook"}):  # same numbers, same file
        figure.savefig(path, metadata={"Date": None})


def _draw_variants(axes: Any, trained: pd.DataFrame, title: str) -> None:
    order = [variant for variant in NOTEBOOK if variant in set(trained.variant)]
    there = [NOTEBOOK[variant] for variant in order]
    axes.plot(order, there, "_", color="0.3", ms=28, label="in the notebook")
    for padding, shift in zip(PADDINGS, (-0.12, 0.12), strict=True):
        mine = trained[trained.padding == padding]
        x = [order.index(variant) + shift for variant in mine.variant]
        axes.plot(x, mine.value, "o", alpha=0.75, label=f"padding {padding}, a point a seed")
    axes.axhline(0.5, color="0.7", lw=0.8, ls=":")
    axes.tick_params("x", rotation=20)
    axes.set(title=title, ylabel="validation accuracy")
    axes.margins(x=0.5 / len(order))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="best")


def _draw_walk(axes: Any, walked: pd.DataFrame) -> None:
    on = [len(switches) for switches in switches_on(walked)]
    axes.plot(on, walked.value, "o", color="0.6", alpha=0.6, label="all 16 settings")
    if found := analyse(walked, Objective()):
        values = [step.value for step in found.walk]
        axes.errorbar(
            range(len(values)),
            [value.value for value in values],
            [value.half_width for value in values],
            capsize=3,
            label="the best walk, 95 % intervals",
        )
        names = [f"+ {step.switch}" if step.switch else "plain" for step in found.walk]
        axes.set_xticks(range(len(names)), names, rotation=20)
    axes.set(title="Adam, epochs: 3", ylabel="validation accuracy")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("notebook", type=Path, nargs="+", help="runs of notebook, notebook_steps")
    add("--walk", type=Path, nargs="+", default=[], help="runs of the space ablation")
    add("--to", type=Path, default=ROOT / "docs", help="folder of notebook.svg and the tables")
    args = parser.parse_args()
    print(f"{described()}\n")
    trained = settings(args.notebook)
    trained.to_csv(args.to / "notebook.csv", index=False)
    for epochs, table in trained.groupby("epochs"):
        print(f"epochs: {epochs:g}\n", *lines(table), "", sep="\n")
    walked = None
    if args.walk:
        walked = settings(args.walk)
        walked.to_csv(args.to / "walk.csv", index=False)
        if found := analyse(walked, Objective()):
            print(ablation_text(found))
    draw(trained, walked, args.to / "notebook.svg")


if __name__ == "__main__":
    main()
