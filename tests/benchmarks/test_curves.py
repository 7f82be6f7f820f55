"""Curves over wall time, on results that are computed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.curves import best_so_far, reached, read_pieces, table

MINUTES = 0.1  # 0 to 6 seconds

COLUMNS = ["seconds", "value", "trial"]
OURS = [
    pd.DataFrame([(2.5, 0.8, "1"), (1.0, 0.6, "0")], columns=COLUMNS),
    pd.DataFrame([(3.0, 0.7, "0"), (4.0, 0.5, "0")], columns=COLUMNS),
]
THEIRS = [pd.DataFrame([(4.2, 0.7, "0"), (5.0, 0.6, "0")], columns=COLUMNS)]


def test_the_best_so_far_never_falls_and_is_unknown_before_the_first_result() -> None:
    curves, nan = best_so_far(OURS, MINUTES), np.nan
    np.testing.assert_equal(
        curves, [[nan, 0.6, 0.6, 0.8, 0.8, 0.8, 0.8], [nan, nan, nan, 0.7, 0.7, 0.7, 0.7]]
    )
    assert reached(curves, 0.75) == 3
    assert np.isnan(reached(curves, 0.76))


def test_the_table_compares_when_the_same_value_is_reached() -> None:
    text = table({"lstm_tune": OURS, "random_search": THEIRS}, MINUTES)
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| lstm-tune", "| random search"]
    assert rows[0][1:] == ["0.7500 ± 0.0707", "2", "2", "2", "3 s", "3 s (1.0) |"]
    assert rows[1][1:] == ["0.7000 ± ?", "1", "1", "2", "5 s", "3 s (1.7) |"]
    both = table({"lstm_tune": OURS, "as_shipped": OURS, "random_search": THEIRS}, MINUTES)
    assert both.splitlines()[0].endswith("| lstm-tune there after | as shipped there after |")
    assert both.splitlines()[-1].endswith("| 5 s | 3 s (1.7) | 3 s (1.7) |")


def test_a_run_without_a_result_is_not_left_out_of_the_mean() -> None:
    empty = pd.DataFrame([], columns=COLUMNS)
    assert "| nan ± nan | 2 |" in table({"random_search": [*THEIRS, empty]}, MINUTES)


def test_pieces_of_different_budgets_are_not_mixed(tmp_path: Path) -> None:
    piece = {"search": "lstm_tune", "data": "reviews", "machine": "", "results": []}
    for seed, minutes in enumerate((1.0, 2.0)):
        path = tmp_path / f"lstm_tune-{seed}.json"
        path.write_text(json.dumps({**piece, "seed": seed, "minutes": minutes}))
    with pytest.raises(SystemExit, match="1 minutes on reviews, 2 minutes on reviews"):
        read_pieces(tmp_path)
