"""How good the exported winner is on texts that no tool has seen, beside a linear model.

`python benchmarks/quality.py --out FOLDER --minutes 4 A.train.parquet B.train.parquet …`: for each
file a search of its own with nothing but `--data` and `--minutes`, and then `lstmcls.evaluate` on
the file of that name with `test` for `train`. Both have the columns `text` and `label`. `--before
CHECKOUT` does the same with another version of this project, whose requirements this Python has.
The linear model is scikit-learn's: TF-IDF of words 1-2 and of characters 2-5 (1-4 where texts have
next to no spaces), logistic regression, C chosen on a tenth. Finished pieces are kept in FOLDER,
and the same command does the rest; the table is `FOLDER/quality.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import described
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from lstmcls.files import replacing

ROOT = Path(__file__).resolve().parents[1]
STRENGTHS = (1.0, 4.0, 16.0, 64.0)
SPACELESS = 0.05  # share of white space below which texts have no words to speak of


def searched(train: Path, test: Path, minutes: float, checkout: Path, work: Path) -> dict[str, Any]:
    """What one search states and what its winner reaches on `test`."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    search = ["tune.search", "--data", train, "--minutes", minutes, "--out", work / "run"]
    _run([*search, "--quiet"], environment, work)
    seconds = time.monotonic() - started
    found = json.loads(
        _run(["lstmcls.evaluate", work / "run" / "best", test, "--json"], environment, work)
    )
    metrics = json.loads((work / "run" / "best" / "metrics.json").read_text(encoding="utf-8"))
    stated = metrics.get("test") or {}
    return {
        "accuracy": found["metrics"]["accuracy"],
        "f1": found["metrics"]["f1"],
        "rows": found["rows"],
        "stated": stated.get("accuracy"),
        "interval": stated.get("accuracy_interval"),
        "out_of_fold": (metrics.get("out_of_fold") or {}).get("accuracy"),
        "members": (metrics.get("out_of_fold") or {}).get("members"),
        "folds": (metrics.get("out_of_fold") or {}).get("folds"),
        "trial": metrics["trial"],
        "seconds": round(seconds, 1),
    }


def _run(words: Sequence[object], environment: Mapping[str, str], work: Path) -> str:
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(
        command, env=dict(environment), cwd=work, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def linear(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """The accuracy of a strong linear model, and the C that a tenth of `train` chose."""
    rows = np.random.default_rng(0).permutation(len(train))
    held, rest = train.iloc[rows[: len(rows) // 10]], train.iloc[rows[len(rows) // 10 :]]
    scores = {c: _linear(rest, c).score(held["text"], held["label"]) for c in STRENGTHS}
    best = max(STRENGTHS, key=lambda c: scores[c])
    return {"accuracy": _linear(train, best).score(test["text"], test["label"]), "C": best}


def _linear(train: pd.DataFrame, c: float) -> Any:
    spaceless = train["text"].str.count(r"\s").sum() < SPACELESS * train["text"].str.len().sum()
    words = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=r"(?u)\S" if spaceless else r"(?u)\w+|[^\w\s]",
    )
    span = (1, 4) if spaceless else (2, 5)
    characters = TfidfVectorizer(analyzer="char", ngram_range=span, sublinear_tf=True)
    features = make_union(words, characters)
    model = make_pipeline(features, LogisticRegression(C=c, max_iter=300))
    return model.fit(train["text"], train["label"])


def table(found: Mapping[str, Mapping[str, dict[str, Any]]], head: str) -> str:
    """The Markdown: one row for each data set, then the means."""
    names = sorted(found)
    before = all("before" in found[name] for name in names)
    columns = ["unseen texts", "now", "stated", "95 % interval", "holds"]
    columns += ["before", "gain"] if before else []
    columns += ["linear", "gain", "out of fold", "folds"]
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    gains: dict[str, list[float]] = {"before": [], "linear": []}
    held = []
    for name in names:
        now, row = found[name]["now"], found[name]
        low, high = now["interval"] or (float("nan"), float("nan"))
        held.append(low <= now["accuracy"] <= high)
        line = [f"{name}, {now['rows']:,}", f"{now['accuracy']:.4f}", _figure(now["stated"])]
        line += [f"{low:.4f} to {high:.4f}", "yes" if held[-1] else "no"]
        for other in ("before", "linear") if before else ("linear",):
            gains[other].append(now["accuracy"] - row[other]["accuracy"])
            line += [f"{row[other]['accuracy']:.4f}", f"{100 * gains[other][-1]:+.2f}"]
        lines.append([*line, _figure(now["out_of_fold"]), str(now["folds"] or "–")])
    means = [f"mean gain over {other} {100 * np.mean(g):+.2f} points, least {100 * min(g):+.2f}"
             for other, g in gains.items() if g]  # fmt: skip
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{head}\n\n{'; '.join(means)}; {sum(held)} of {len(held)} intervals hold.\n\n{text}\n"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="X.train.parquet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pieces = args.out.resolve() / "pieces.json"
    found = json.loads(pieces.read_text()) if pieces.exists() else {}
    for train in map(Path.resolve, args.files):
        name = train.name.split(".")[0]
        test = train.with_name(train.name.replace("train", "test"))
        versions = {"now": ROOT} | ({"before": args.before.resolve()} if args.before else {})
        mine = found.setdefault(name, {})
        for version, checkout in versions.items():
            if version not in mine:
                work = args.out.resolve() / f"{name}-{version}"
                mine[version] = searched(train, test, args.minutes, checkout, work)
                _keep(pieces, found)
        if "linear" not in mine:
            mine["linear"] = linear(pd.read_parquet(train), pd.read_parquet(test))
            _keep(pieces, found)
        text = table({k: v for k, v in found.items() if len(v) > len(versions)}, described())
        with replacing(args.out / "quality.md") as path:
            path.write_text(text, encoding="utf-8")
        print(name, json.dumps(mine), flush=True)
    print(text)


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
