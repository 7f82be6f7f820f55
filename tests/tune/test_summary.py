"""What a finished search prints."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from fakes import a_report, finished, in_memory, opened, small_space

from lstmcls.artifact import load_artifact
from lstmcls.dataset import Prepared, unlabelled
from lstmcls.ensemble import Ensemble, Member
from lstmcls.linear import fit_linear
from lstmcls.model import LSTMClassifier
from lstmcls.tokenizer import UNK_ID
from tune.confirmation.bag import Bag
from tune.confirmation.candidates import Candidate, FoldRun
from tune.run_folder import RunFolder
from tune.session import Outcome
from tune.space import SearchSpace, load_space
from tune.store import Store
from tune.summary import WIDTH, comparison, example, summary, variants_text
from tune.tables import settings_table
from tune.winner import Winner

folder = pytest.fixture(in_memory)
SPACE = small_space()
STUDY = optuna.create_study()  # of a search without trials
CONFIG = SPACE.config({"optimizer": "adam", "lr": 0.0123456, "hidden_size": 32})


def outcome(prepared: Prepared, **changes: Any) -> Outcome:
    winner = Winner(7, CONFIG, Store("x"), a_report(2, 0.87654, epoch=1.5))
    plain = Outcome(RunFolder(Path("x")), SPACE, prepared, STUDY, winner, interrupted=False)
    return dataclasses.replace(plain, **changes)


def summarized(**changed: Any) -> dict[str, Any]:
    """A candidate as `out_of_fold.summary` has it."""
    return {
        "trial": 7, "baseline": False, "folds": 3, "of": 3, "value": 0.8125,
        "interval": [0.75, 0.875], "values": [0.875, 0.75, 0.8125], "left": "", **changed,
    }  # fmt: skip


TEST: dict[str, Any] = {"accuracy": 0.825, "rows": 1234, "accuracy_interval": (0.8, 0.85)}


def confirmed(prepared: Prepared, folds: int = 3, linear: bool = False, **changes: Any) -> Outcome:
    runs = {fold: FoldRun(fold, 1000 + fold, a_report(1, 0.5)) for fold in range(folds)}
    candidate = Candidate(7, CONFIG, baseline=False, epochs=2.0, runs=runs)
    classifiers: list[Any] = [LSTMClassifier(CONFIG, 3, 2) for _ in runs]
    members = [Member(1 / folds, CONFIG) for _ in runs]
    if linear:
        members.append(Member(0.5, None))
        classifiers.append(fit_linear(prepared.splits["val"], 2, 1.0))
    figures = {"rows": 5678, "folds": folds}
    bag = Bag(candidate, Ensemble(members, classifiers, (), 12), figures, {})
    known = {"winner": bag, "test": TEST, "candidates": [summarized()]}
    return outcome(prepared, **{**known, **changes})


def test_the_winner_and_its_settings(prepared: Prepared) -> None:
    lines = summary(outcome(prepared)).splitlines()
    assert lines[0] == "winner:  trial 7, improved"
    settings = dict(part.strip().split(" ") for part in lines[1].split(","))
    assert settings["lr"] == "0.0123456"
    assert (settings["hidden_size"], settings["optimizer"]) == ("32", "adam")
    assert settings["bidirectional"] == "True"
    assert not settings.keys() & {"seed", "warmup", "report_every"}  # the last two at their default
    assert lines[2] == (
        "val_accuracy: 0.8765 at epoch 1.5 (40 validation rows, which chose the winner: on new "
        "texts expect less)"
    )
    assert lines[3:] == ["not confirmed: none of its candidates finished two folds"]
    timed = summary(outcome(prepared, space=small_space(budget={"minutes": 1})))
    assert timed.endswith("finished two folds; more --minutes resume it")


def test_no_confirmation_was_wanted(prepared: Prepared) -> None:
    off = small_space(confirm={"top": 0})
    assert summary(outcome(prepared, space=off)).endswith("\nnot confirmed: off")


def test_the_confirmation_and_the_test(prepared: Prepared) -> None:
    behind = {"folds": 2, "value": 0.5, "interval": [math.nan] * 2, "left": "clearly behind"}
    candidates = [summarized(), summarized(trial=0, baseline=True, **behind)]
    test = TEST | {"difference": 0.05, "difference_interval": (-0.01, 0.11)}
    lines = summary(confirmed(prepared, candidates=candidates, test=test)).splitlines()
    assert lines[0] == "winner:  trial 7, improved"
    assert lines[2:] == [
        "         exported: 3 networks, each trained without one fold, averaged",
        "out of fold, accuracy of single networks and its 95% interval (5,678 rows):",
        "  trial 7: 0.8125, 0.7500 to 0.8750 (3 of 3 folds)",
        "  trial 0, the baseline: 0.5000 (2 of 3 folds; left: clearly behind)",
        "on new texts expect accuracy 0.8250, 95% interval 0.8000 to 0.8500",
        "against the baseline: +0.0500 accuracy, 95% interval -0.0100 to +0.1100",
        "behind these figures: 1,234 test texts by which nothing was chosen, read once, by the "
        "exported model, which was not trained on them; 3 runs",
    ]
    cut = summary(confirmed(prepared, unconfirmed=[5]))
    assert "\n  trial 5: none of its runs ended\n" in cut
    again = summary(confirmed(prepared, test=TEST | {"looks": 2}))
    assert "chosen, read 2 times, for as many winners, by the exported model" in again
    asked = small_space(objective="val_f1")
    test |= {"f1": 0.75, "f1_interval": (0.7, 0.78)}
    text = summary(confirmed(prepared, space=asked, test=test))
    assert "\non new texts expect f1 0.7500, 95% interval 0.7000 to 0.7800\n" in text


def test_a_metric_that_the_test_rows_do_not_define_has_no_interval(prepared: Prepared) -> None:
    asked = small_space(objective="val_roc_auc")
    test = TEST | {"roc_auc": math.nan, "roc_auc_interval": [math.nan] * 2}
    text = summary(confirmed(prepared, space=asked, test=test))
    assert "expect roc_auc not defined, 95% interval not defined\n" in text


def test_two_folds_are_no_confirmation(prepared: Prepared) -> None:
    text = summary(confirmed(prepared, folds=2))
    assert "\nnot confirmed: 2 folds of the winner\n" in text
    timed = summary(confirmed(prepared, folds=2, space=small_space(budget={"minutes": 1})))
    assert "\nnot confirmed: 2 folds of the winner; more --minutes resume it\n" in timed
    assert "not confirmed" not in summary(confirmed(prepared))


def test_a_linear_member_is_named(prepared: Prepared) -> None:
    text = summary(confirmed(prepared, linear=True))
    assert "3 networks, each trained without one fold, averaged and blended with a linear" in text
    assert text.endswith("; 3 runs")


@pytest.mark.parametrize(
    ("value", "better"),
    [(0.8, ""), (0.9, ", better than the winner"), (0.87654 + 1e-6, "")],  # shown as equal
)
def test_a_linear_model_is_shown_beside_it(prepared: Prepared, value: float, better: str) -> None:
    shown = f"a linear model (TF-IDF, logistic regression), val_accuracy: {value:.4f}{better}"
    text = summary(outcome(prepared, linear={"accuracy": value, "loss": 0.4}))
    assert shown in text.splitlines()


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((-0.02, 0.04), "neither is surely better"),
        ((0.01, 0.03), "the winner is better"),
        ((-0.05, -0.01), "the linear model is better"),
    ],
)
def test_test_rows_say_whether_the_linear_model_is_better(
    prepared: Prepared, ends: tuple[float, float], verdict: str
) -> None:
    judged = {"accuracy": 0.8, "difference": sum(ends) / 2, "difference_interval": ends}
    linear = {"accuracy": 0.99, "loss": 0.4, "test": judged}
    assert "against a linear model" not in summary(confirmed(prepared))
    text = summary(dataclasses.replace(confirmed(prepared), linear=linear))
    assert f"\nagainst a linear model: {sum(ends) / 2:+.4f} accuracy, 95% interval " in text
    assert f"{ends[0]:+.4f} to {ends[1]:+.4f}: {verdict}\n" in text
    first = "a linear model, trained in seconds, is better than this winner on the test texts"
    assert text.startswith(first) == (verdict == "the linear model is better")


def test_a_winner_that_is_the_baseline_is_compared_with_nothing(prepared: Prepared) -> None:
    text = summary(confirmed(prepared, candidates=[summarized(baseline=True)]))
    assert "trial 7, the baseline" in text
    assert "against" not in text


# Comparisons.


def searched(folder: Path, space: SearchSpace, values: list[float]) -> optuna.Study:
    """A search whose trials had these values."""
    study = opened(folder / "study.journal", space)
    for value in values:
        finished(study, space.suggest, [value])
    return study


def test_an_ablation_ends_with_its_verdict(folder: Path) -> None:
    space = load_space("ablation")
    # One seed and the first trial of the next; dropout is the third switch from the end.
    values = [0.7 + 0.1 * (number >> 2 & 1) for number in range(16)] + [0.71]
    text = comparison(space, searched(folder, space, values))
    assert text is not None
    assert text.startswith("the four switches, val_accuracy of 17 trials:")
    assert "dropout matters most" in " ".join(text.split())
    assert comparison(SPACE, STUDY) is None


def notebook(folder: Path, values: list[float]) -> pd.DataFrame:
    space = load_space("notebook")
    return settings_table(space, searched(folder, space, values))


def test_the_notebook_ends_with_its_table_both_ways(folder: Path) -> None:
    table = notebook(folder, [0.5 + 0.01 * number for number in range(36)])
    half = 4.302653 * 0.12 / math.sqrt(3)  # the same row is 12 trials later on the next seed
    text = variants_text(table, "val_accuracy")
    assert text is not None
    head, columns, *rows = text.splitlines()
    assert head == "val_accuracy, mean of the seeds ± half of its 95% interval:"
    assert columns.split() == ["counted", "masked"]
    assert rows[0] == f"  plain          0.6200 ± {half:.4f}  0.6300 ± {half:.4f}"
    assert rows[5] == f"  improved       0.7200 ± {half:.4f}  0.7300 ± {half:.4f}"
    assert len(rows) == 6


def test_a_table_that_is_not_full_says_so(folder: Path) -> None:
    text = variants_text(notebook(folder, [0.5, 0.6, 0.7]), "val_accuracy")
    assert text is not None
    assert text.splitlines()[2:] == [
        "  plain          0.5000           0.6000",
        "  bidirectional  0.7000           no value",
    ]


def test_a_mean_of_survivors_says_so(folder: Path) -> None:
    table = notebook(folder, [0.5, 0.6, 0.7, 0.8])
    assert "flatters" not in str(variants_text(table, "val_accuracy"))
    table.loc[table.index[2], "value"] = math.nan  # it diverged
    text = variants_text(table, "val_accuracy")
    assert text is not None
    assert text.splitlines()[-1] == (
        "  without a value, and in no mean, which flatters them: bidirectional 1"
    )


def test_what_differs_in_more_than_the_variant_is_not_compared(folder: Path) -> None:
    table = notebook(folder, [0.5 + 0.01 * number for number in range(36)])
    assert variants_text(table.assign(lr=[0.1, 0.2] * 18), "val_accuracy") is None
    assert variants_text(table.assign(variant="custom"), "val_accuracy") is None
    assert variants_text(table[table.variant == "plain"], "val_accuracy") is None
    assert variants_text(table[:0], "val_accuracy") is None


# The example.


def test_the_example_is_a_validation_text_and_what_the_model_says(
    trained: Path, prepared: Prepared
) -> None:
    artifact, val = load_artifact(trained), prepared.splits["val"]
    probabilities = artifact.row_probabilities(val)
    line = example(artifact, prepared)
    assert line.startswith("example (its tokens): «")
    text, said = line.removeprefix("example (its tokens): «").split("» is ")
    assert len(text) <= WIDTH
    row = int(abs(val.lengths - 20).argmin())
    assert text.split() == artifact.tokenizer.decode(val.ids[slice(*val.offsets[row:][:2])]).split()
    label, truth = artifact.labels[probabilities[row].argmax()], artifact.labels[val.labels[row]]
    assert said == f"{label} ({probabilities[row].max():.2f}; labelled {truth})"


def test_the_example_is_judged_by_its_ids_and_not_by_how_they_read(
    trained: Path, prepared: Prepared
) -> None:
    """An unknown word reads as [UNK], which is three tokens when it is read again."""
    artifact = load_artifact(trained)
    ids = [UNK_ID, UNK_ID, UNK_ID, UNK_ID, artifact.tokenizer.token_to_id("bad")]
    val = unlabelled([ids])
    line = example(artifact, dataclasses.replace(prepared, splits={"val": val}))
    assert f"({artifact.row_probabilities(val).max():.2f};" in line
    read_again = artifact.probabilities([artifact.tokenizer.decode(ids)])
    assert f"({read_again.max():.2f};" not in line
