"""What best.yaml says of the winner in its first lines, and how often the test data were seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import a_report, in_memory, small_space

from lstmcls.config import load_config
from lstmcls.ensemble import Ensemble, Member
from lstmcls.model import LSTMClassifier
from tune.confirmation.bag import Bag
from tune.confirmation.candidates import Candidate, former_winner
from tune.run_folder import RunFolder
from tune.space import Objective
from tune.store import Store
from tune.study import CONFIRMATION, open_study, read_study
from tune.winner import Winner, count_looks, write_best_config

folder = pytest.fixture(in_memory)
CONFIG = small_space().config({"optimizer": "adam", "lr": 0.01, "hidden_size": 8})
TEST = {"accuracy": 0.825, "rows": 1234, "accuracy_interval": (0.8, 0.85)}
OUT_OF_FOLD = {"rows": 5678, "folds": 3, "accuracy": 0.8125, "accuracy_interval": [0.79, 0.83]}


def a_bag(trial: int = 7, networks: int = 2, **figures: Any) -> Bag:
    model = LSTMClassifier(CONFIG, 3, 2)
    members = [Member(1 / networks, CONFIG)] * networks
    candidate = Candidate(trial, CONFIG, baseline=False, epochs=2.0)
    ensemble = Ensemble(members, [model] * networks, (), 5)
    return Bag(candidate, ensemble, {**OUT_OF_FOLD, **figures}, {})


def head(folder: Path, winner: Winner | Bag, **extra: Any) -> list[str]:
    """The comments at the top of the best.yaml that these figures give."""
    run = RunFolder(folder)
    write_best_config(run, winner, {"objective": "val_accuracy", "level": 0.95, **extra})
    assert load_config(run.best_config) == CONFIG
    lines = run.best_config.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def test_a_confirmed_winner_says_how_sure_its_figures_are(folder: Path) -> None:
    assert head(folder, a_bag(), test=TEST) == [
        f"# {folder.name}, trial 7 (improved)",
        "# out of fold: accuracy 0.8125, 95% interval [0.7900, 0.8300], 5,678 rows in 3 folds",
        "# test accuracy 0.8250, 95% interval [0.8000, 0.8500], 1,234 rows",
    ]


def test_two_folds_have_no_interval(folder: Path) -> None:
    bag = a_bag(folds=2, accuracy_interval=[float("nan")] * 2)
    assert head(folder, bag)[1] == (
        "# out of fold: accuracy 0.8125, 95% interval not defined, 5,678 rows in 2 folds"
    )


def test_the_differences_have_lines_of_their_own(folder: Path) -> None:
    beside = {"difference": 0.0125, "difference_interval": (-0.005, 0.03)}
    linear = {"accuracy": 0.8, "test": {"accuracy": 0.8125, **beside}}
    assert head(folder, a_bag(), test=TEST | beside, linear=linear)[3:] == [
        "# test accuracy against the baseline's: +0.0125, "
        "95% interval [-0.0050, +0.0300], paired by text",
        "# accuracy of a linear model (TF-IDF, logistic regression): 0.8000",
        "# test accuracy of the linear model 0.8125; the winner's minus this: +0.0125, "
        "95% interval [-0.0050, +0.0300], paired by text",
    ]


def test_a_winner_that_was_not_confirmed_has_its_value_alone(folder: Path) -> None:
    winner = Winner(7, CONFIG, Store(str(folder)), a_report(2, 0.875))
    assert head(folder, winner) == [f"# {folder.name}, trial 7 (improved): val_accuracy 0.875000"]


def test_every_other_winner_is_another_look_at_the_test_data(folder: Path) -> None:
    journal = folder / "study.journal"
    winners = (a_bag(7), a_bag(7), a_bag(7, networks=3), a_bag(8, networks=3), a_bag(7))
    study = open_study(journal, CONFIRMATION, Objective())
    assert [count_looks(study, winner) for winner in winners] == [1, 1, 2, 3, 3]
    found = read_study(journal, CONFIRMATION)
    assert found is not None
    assert found.user_attrs["looked_at_test"] == [[7, 2], [7, 3], [8, 3]]


def test_a_winner_that_returns_is_the_former_winner(folder: Path) -> None:
    """After 7, 8 and 7 again, best/ holds 7: it gives way only to what is better than it."""
    study = open_study(folder / "study.journal", CONFIRMATION, Objective())
    for number, looks in ((7, 1), (8, 2), (7, 2)):
        assert count_looks(study, a_bag(number)) == looks
        assert former_winner(study) == number
