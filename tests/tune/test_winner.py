"""What best.yaml says of the winner in its first lines, and how often the test data were seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fakes import a_report, small_space

from lstmcls.config import load_config
from tune.confirm import Candidate, former_winner
from tune.run_folder import RunFolder
from tune.space import Objective
from tune.study import CONFIRMATION, open_study, read_study
from tune.winner import Winner, count_looks, write_best_config

CONFIG = small_space().config({"optimizer": "adam", "lr": 0.01, "hidden_size": 32})


def head(folder: Path, **extra: Any) -> list[str]:
    """The comments at the top of the best.yaml that these figures give."""
    run = RunFolder(folder)
    winner = Winner(7, CONFIG, folder, a_report(2, 0.875))
    write_best_config(run, winner, {"objective": "val_accuracy", **extra})
    assert load_config(run.best_config) == CONFIG
    lines = run.best_config.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def confirmed(*values: float) -> dict[str, Any]:
    runs = tuple((number, a_report(1, value)) for number, value in enumerate(values))
    test = {"accuracy": 0.825, "rows": 1234, "accuracy_interval": (0.8, 0.85)}
    candidate = Candidate(7, CONFIG, baseline=False, runs=runs)
    return {"test": test, "confirmation": [candidate.summary()], "level": 0.95}


def test_a_confirmed_winner_says_how_sure_its_figures_are(tmp_path: Path) -> None:
    assert head(tmp_path, **confirmed(0.875, 0.75, 0.8125)) == [
        f"# {tmp_path.name}, trial 7 (improved) on seed 0: val_accuracy 0.875000",
        "# on 3 fresh seeds: mean val_accuracy 0.8125, standard deviation 0.0625",
        "# test accuracy 0.8250, 95% interval [0.8000, 0.8500], 1,234 rows",
    ]


def test_the_difference_to_the_baseline_has_a_line_of_its_own(tmp_path: Path) -> None:
    figures = confirmed(0.875, 0.75)
    figures["test"] |= {"difference": 0.0125, "difference_interval": (-0.005, 0.03)}
    assert head(tmp_path, **figures)[3] == (
        "# test accuracy against the baseline's: +0.0125, "
        "95% interval [-0.0050, +0.0300], paired by text"
    )


def test_one_run_has_no_spread(tmp_path: Path) -> None:
    assert head(tmp_path, **confirmed(0.875))[1] == "# on 1 fresh seed: val_accuracy 0.8750"


def test_a_winner_that_was_not_confirmed_has_its_value_alone(tmp_path: Path) -> None:
    assert len(head(tmp_path)) == 1


def test_every_other_winner_is_another_look_at_the_test_data(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    first = Winner(7, dataclasses.replace(CONFIG, seed=1000), tmp_path, a_report(2, 0.875))
    fresh = dataclasses.replace(first, config=dataclasses.replace(CONFIG, seed=1001))
    seen = [
        count_looks(open_study(journal, CONFIRMATION, Objective()), winner)
        for winner in (first, first, fresh, dataclasses.replace(fresh, trial=8), first)
    ]
    assert seen == [1, 1, 2, 3, 3]
    study = read_study(journal, CONFIRMATION)
    assert study is not None
    assert study.user_attrs["looked_at_test"] == [[7, 1000], [7, 1001], [8, 1001]]


def test_a_winner_that_returns_is_the_former_winner(tmp_path: Path) -> None:
    """After 7, 8 and 7 again, best/ holds 7: it gives way only to what is better than it."""
    study = open_study(tmp_path / "study.journal", CONFIRMATION, Objective())
    seven = Winner(7, CONFIG, tmp_path, a_report(2, 0.875))
    for winner, looks in ((seven, 1), (dataclasses.replace(seven, trial=8), 2), (seven, 2)):
        assert count_looks(study, winner) == looks
        assert former_winner(study) == winner.trial
