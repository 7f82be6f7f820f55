"""Whether stated intervals hold, on results that are computed by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.coverage import drawn, report, stated


def repeat(accuracy: float, truth: float, **more: Any) -> dict[str, dict[str, Any]]:
    said = {"accuracy": accuracy, "accuracy_interval": [accuracy - 0.05, accuracy + 0.05]}
    others = {"f1": None, "f1_interval": None, "difference": None, "difference_interval": None}
    return {
        "stated": others | said | more,
        "true": {"accuracy": truth, "f1": truth, "difference": None},
    }


def test_the_report_counts_what_holds_and_what_is_not_stated() -> None:
    repeats = [repeat(0.90, 0.88, f1=0.9), repeat(0.90, 0.80, f1=0.7), repeat(0.80, 0.84)]
    lines = report(repeats).splitlines()[2:]
    assert lines[0] == "| accuracy | 3 | 2 of 3 (0.20 to 0.94) | +0.0267 ± 0.1745 |"
    assert lines[1] == "| f1 | 2 | not stated | -0.0400 ± 0.7624 |"
    assert lines[2] == "| difference | 0 | not stated | not stated |"


def test_a_run_states_what_its_metrics_hold(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    test = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "rows": 40}
    record = json.dumps({"max_length": 5, "test": test})
    (tmp_path / "best" / "metrics.json").write_text(record, encoding="utf-8")
    found = stated(tmp_path)
    assert found["accuracy_interval"] == [0.8, 0.95]
    assert found["difference"] is None
    assert len(found) == 6


def test_a_sample_has_the_shares_of_the_whole_and_leaves_the_rest() -> None:
    rows = [(str(i), "rare" if i % 10 == 0 else "common") for i in range(200)]
    sample, rest = drawn(rows, 50, seed=1)
    assert Counter(label for _, label in sample) == {"rare": 5, "common": 45}
    assert sorted(sample + rest) == sorted(rows)
    assert drawn(rows, 50, seed=2)[0] != sample
