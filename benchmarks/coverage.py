"""Do a run's stated intervals hold? Real searches on small samples, judged on all other rows.

`python benchmarks/coverage.py FILE... --text COL --label COL --repeats N --out FOLDER`: in each
repeat a sample of the rows (`--rows`, stratified) is "the user's data". It is prepared, searched
and confirmed by the tool's own commands, and what the winner's metrics.json states of accuracy and
F1, out of fold and on the test rows, is compared with what the model in best/ reaches on the rows
that were not drawn: the truth, as far as these tell it. Finished repeats are kept in FOLDER; the
same command continues with the rest, and `--repeats 0` only reports.

The report: in how many repeats the stated interval holds the truth, and by how much the stated
figure exceeds it on average. The first is of repeats that share rows, so its own interval is a
little too short.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstmcls.artifact import load_artifact, read_metrics
from lstmcls.evaluate import evaluate_files
from lstmcls.files import replacing
from lstmcls.reading import open_file
from lstmcls.splitting import apportion
from tune.intervals import agresti_coull, mean_interval
from tune.run_folder import RunFolder

METRICS, SOURCES = ("accuracy", "f1"), ("out_of_fold", "test")
FIGURES = tuple(f"{source} {metric}" for source in SOURCES for metric in METRICS)
Row = tuple[str, str]  # a text and its label


def rows_of(args: argparse.Namespace) -> list[Row]:
    """The distinct texts of the files, with their labels."""
    sources = [open_file(path, args.text, args.label) for path in args.files]
    rows: dict[str, str] = {}
    for source in sources:
        for batch in source.batches():
            pairs = zip(batch.texts, batch.labels, strict=True)
            rows |= {text: label for text, label in pairs if text.strip() and label is not None}
    return sorted(rows.items())


def drawn(rows: Sequence[Row], count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """`count` rows, of each class its share, and all others."""
    draw = random.Random(seed)
    classes = [[row for row in rows if row[1] == label] for label in sorted({r[1] for r in rows})]
    counts = apportion(count, [len(rows_of_class) / len(rows) for rows_of_class in classes])
    sample: list[Row] = []
    rest: list[Row] = []
    for of_class, most in zip(classes, counts, strict=True):
        shuffled = draw.sample(of_class, len(of_class))
        sample += shuffled[:most]
        rest += shuffled[most:]
    return sample, rest


def searched(sample: Sequence[Row], work: Path, seed: int, args: argparse.Namespace) -> Path:
    """The run folder of a search on the sample, by the tool's own commands."""
    data, prepared, run = work / "data.parquet", work / "prepared", work / "run"
    write(data, sample)
    options = ["--space", args.space, "--trials", args.trials, "--seed", seed]
    _command("lstmcls.prepare", data, "--out", prepared)
    _command("tune.search", "--data", prepared, "--out", run, "--quiet", *options)
    return run


def _command(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def write(path: Path, rows: Sequence[Row]) -> None:
    texts, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), path)


def stated(run: Path) -> dict[str, Any]:
    """What metrics.json of the run's winner states: a figure and "NAME interval" for each FIGURE.

    None where the run does not state it.
    """
    metrics = read_metrics(RunFolder(run).best)
    found: dict[str, Any] = {}
    for source in SOURCES:
        known = metrics.get(source) or {}
        for metric in METRICS:
            found[f"{source} {metric}"] = known.get(metric)
            found[f"{source} {metric} interval"] = known.get(f"{metric}_interval")
    return found


def true(run: Path, rest: Path) -> dict[str, float]:
    """Of each FIGURE what best/ reaches on the file `rest`, as if it were all texts there are."""
    found = evaluate_files(load_artifact(RunFolder(run).best), [rest], "text", "label")["metrics"]
    return {f"{source} {metric}": found[metric] for source in SOURCES for metric in METRICS}


def report(repeats: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """A table of the figures: how often the interval holds, and how far the figure is off."""
    lines = [
        "| figure | repeats | interval holds | stated - true, mean |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in FIGURES:
        both = [(r["stated"], r["true"][name]) for r in repeats]
        known = [(s[name], s[f"{name} interval"], t) for s, t in both if s[name] is not None]
        if not known:
            lines.append(f"| {name} | 0 | not stated | not stated |")
            continue
        mean, _, half = mean_interval([value - truth for value, _, truth in known])
        ends = [
            (*interval, truth) for _, interval, truth in known if interval and None not in interval
        ]
        holds = "not stated"
        if ends:
            held = sum(low <= truth <= high for low, high, truth in ends)
            least, most = agresti_coull(held, len(ends))
            holds = f"{held} of {len(ends)} ({least:.2f} to {most:.2f})"
        lines.append(f"| {name} | {len(known)} | {holds} | {mean:+.4f} ± {half:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="labelled files, many more than --rows")
    add("--text", metavar="COL")
    add("--label", metavar="COL")
    add("--rows", type=int, default=400, help="of a sample (default: 400)")
    add("--repeats", type=int, default=20, metavar="N", help="(default: 20)")
    add("--space", default="smoke", help="of the searches (default: smoke)")
    add("--trials", type=int, default=4, help="of each search (default: 4)")
    add("--out", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = rows_of(args)
    for seed in range(args.repeats):
        path = args.out / f"repeat-{seed:03d}.json"
        if path.exists():
            continue
        with TemporaryDirectory() as folder:
            sample, rest = drawn(rows, args.rows, seed)
            run = searched(sample, Path(folder), seed, args)
            write(Path(folder) / "rest.parquet", rest)
            found = {"stated": stated(run), "true": true(run, Path(folder) / "rest.parquet")}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(found), encoding="utf-8")
        print(f"repeat {seed}: {found}")
    paths = sorted(args.out.glob("repeat-*.json"))
    print(report([json.loads(path.read_text(encoding="utf-8")) for path in paths]))


if __name__ == "__main__":
    main()
