"""Whether stated intervals hold, on results that are computed by hand."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import reviews

from benchmarks.coverage import drawn, report, stated, true, write
from lstmcls.artifact import load_artifact
from lstmcls.dataset import Prepared
from lstmcls.metrics import classification_metrics


def repeat(accuracy: float, truth: float, **more: Any) -> dict[str, dict[str, Any]]:
    names = [f"{s} {m}" for s in ("out_of_fold", "test") for m in ("accuracy", "f1")]
    nothing = dict.fromkeys([*names, *(f"{name} interval" for name in names)])
    said = {
        "test accuracy": accuracy,
        "test accuracy interval": [accuracy - 0.05, accuracy + 0.05],
    }
    return {"stated": nothing | said | more, "true": dict.fromkeys(names, truth)}


def test_the_report_counts_what_holds_and_what_is_not_stated() -> None:
    repeats = [
        repeat(0.90, 0.88, **{"test f1": 0.9, "test f1 interval": [None, None]}),
        repeat(0.90, 0.80, **{"test f1": 0.7}),
        repeat(0.80, 0.84),
    ]
    lines = report(repeats).splitlines()[2:]
    assert lines[0] == "| out_of_fold accuracy | 0 | not stated | not stated |"
    assert lines[2] == "| test accuracy | 3 | 2 of 3 (0.20 to 0.94) | +0.0267 ± 0.1745 |"
    assert lines[3] == "| test f1 | 2 | not stated | -0.0400 ± 0.7624 |"


def test_a_run_states_what_its_metrics_hold(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    test = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "rows": 40}
    folds = {"accuracy": 0.85, "accuracy_interval": [0.75, 0.95], "f1": 0.8}
    record = json.dumps({"max_length": 5, "test": test, "out_of_fold": folds})
    (tmp_path / "best" / "metrics.json").write_text(record, encoding="utf-8")
    found = stated(tmp_path)
    assert found["test accuracy interval"] == [0.8, 0.95]
    assert found["out_of_fold accuracy"] == 0.85
    assert found["out_of_fold f1"] == 0.8
    assert found["out_of_fold f1 interval"] is None
    assert found["test f1"] is None
    assert len(found) == 8


def test_a_sample_has_the_shares_of_the_whole_and_leaves_the_rest() -> None:
    rows = [(str(i), "rare" if i % 10 == 0 else "common") for i in range(200)]
    sample, rest = drawn(rows, 50, seed=1)
    assert Counter(label for _, label in sample) == {"rare": 5, "common": 45}
    assert sorted(sample + rest) == sorted(rows)
    assert drawn(rows, 50, seed=2)[0] != sample


def test_the_truth_is_that_of_what_is_exported(
    tmp_path: Path, trained: Path, prepared: Prepared
) -> None:
    """On texts of a file the model in best/ reaches what it reaches on their rows."""
    shutil.copytree(trained, tmp_path / "best")
    rows = [(text, "neg" if k % 7 == 0 else label) for k, (text, label) in enumerate(reviews(200))]
    write(tmp_path / "rest.parquet", rows)
    artifact = load_artifact(trained)
    texts, labels = zip(*rows, strict=True)
    wanted = classification_metrics(
        artifact.probabilities(texts), [prepared.labels.index(label) for label in labels]
    )
    found = true(tmp_path, tmp_path / "rest.parquet")
    assert len(found) == 4
    for name, value in found.items():
        assert value == pytest.approx(wanted[name.split()[1]], abs=1e-6)
        assert value < 1
