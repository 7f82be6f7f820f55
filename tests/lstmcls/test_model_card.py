"""The model card says how sure its figures are."""

from __future__ import annotations

from typing import Any

from lstmcls.config import TrainConfig
from lstmcls.model_card import model_card

METRICS: dict[str, Any] = {
    "objective": "val_f1",
    "level": 0.95,
    "confirmation": [
        {"trial": 7, "baseline": False, "folds": 3, "of": 3, "value": 0.8125,
         "interval": [0.75, 0.875], "values": [0.875, 0.75, 0.8125], "left": ""},
        {"trial": 0, "baseline": True, "folds": 2, "of": 3, "value": 0.5,
         "interval": [None, None], "values": [0.5, 0.5], "left": "clearly behind after 2 folds"},
    ],
    "test": {
        "rows": 1234, "loss": 0.41, "accuracy": 0.825, "roc_auc": None,
        "accuracy_interval": [0.8, 0.85], "baseline_accuracy": 0.775, "difference": 0.05,
        "difference_interval": [-0.01, 0.11],
    },
}  # fmt: skip


def card(**changes: Any) -> str:
    return model_card("m", TrainConfig(), ["neg", "pos"], {**METRICS, **changes})


def confirmed(text: str) -> tuple[str, list[str]]:
    section = text.split("## Confirmation\n")[1].split("\n## ")[0]
    return section, [line for line in section.splitlines() if line.startswith("|")]


def test_the_confirmation_has_an_interval_for_every_candidate() -> None:
    section, table = confirmed(card())
    assert "val\\_f1 of single networks on rows that they were not trained on:" in section
    assert table == [
        "| settings of | value | 95% interval | runs |",
        "| --- | --- | --- | --- |",
        "| trial 7, this model's | 0.8125 | 0.7500 to 0.8750 | 3 |",
        "| trial 0, the baseline | 0.5000 | not defined | 2 |",
    ]


def test_the_fresh_seeds_of_an_earlier_version_have_theirs_too() -> None:
    several = {
        "trial": 7, "baseline": False, "runs": 3, "mean": 0.8125, "deviation": 0.0625,
        "half_width": 0.15526, "values": [0.875, 0.75, 0.8125],
    }  # fmt: skip
    one = {"trial": 0, "baseline": True, "runs": 1, "mean": 0.5, "deviation": None,
           "half_width": None, "values": [0.5]}  # fmt: skip
    _, table = confirmed(card(confirmation=[several, one]))
    assert table[2:] == [
        "| trial 7, this model's | 0.8125 | 0.6572 to 0.9678 | 3 |",
        "| trial 0, the baseline | 0.5000 | not defined | 1 |",
    ]


def test_an_ensemble_says_who_is_in_it_and_what_its_weights_change() -> None:
    alone = {"accuracy": 0.8, "brier": 0.3, "calibration_error": 0.0456}
    found = {
        "rows": 1234, "folds": 3, "accuracy": 0.8175, "f1": 0.75, "brier": 0.25,
        "calibration_error": 0.0123, "members": {"7": 0.6, "linear": 0.4}, "networks_alone": alone,
    }  # fmt: skip
    section = card(out_of_fold=found).split("## Metrics out of fold\n")[1].split("\n## ")[0]
    assert "| accuracy | 0.8175 |" in section
    assert "1,234 texts, each judged by networks that were not trained on it, 3 folds" in section
    assert "networks of trial 7 0.60, the linear model 0.40" in section
    assert "calibration error 0.0456 and 0.0123, Brier score 0.3000 and 0.2500" in section
    assert "offset" not in section
    offsets = found | {"without_offsets": {"f1": 0.7, "accuracy": 0.82}}
    with_offsets = card(out_of_fold=offsets)
    assert "without and with: F1 0.7000 and 0.7500, accuracy 0.8200 and 0.8175" in with_offsets
    assert "validation split" not in with_offsets


def test_the_test_has_its_interval_and_the_difference_to_the_baseline() -> None:
    section = card().split("## Metrics on the test split\n")[1].split("\n## ")[0]
    assert "1,234 texts, read once" in section
    again = card(test=METRICS["test"] | {"looks": 2})
    assert "1,234 texts, read 2 times, for as many winners" in again
    for row in ("loss | 0.4100", "accuracy | 0.8250", "ROC AUC | not defined"):
        assert f"| {row} |" in section
    assert "95% interval of the accuracy: 0.8000 to 0.8500." in section
    assert "baseline reaches 0.7750 on the same texts" in section
    assert "+0.0500, 95% interval -0.0100 to +0.1100, paired by text" in section
    assert "not the seeds of the two trainings" in section


def test_a_baseline_that_won_is_compared_with_nothing() -> None:
    test = {k: v for k, v in METRICS["test"].items() if "difference" not in k}
    winner = {**METRICS["confirmation"][0], "baseline": True}
    text = card(test=test, confirmation=[winner])
    assert "| trial 7, this model's, the baseline | 0.8125 |" in text
    assert "paired" not in text


def test_a_training_without_a_search_has_neither_section() -> None:
    text = model_card("m", TrainConfig(), ["neg", "pos"], {"val": {"accuracy": 0.5}, "epoch": 1.0})
    assert "## Confirmation" not in text
    assert "test split" not in text
    assert "| accuracy | 0.5000 |" in text


def test_a_linear_model_is_named_for_comparison() -> None:
    text = card(linear={"accuracy": 0.81234, "f1": 0.8, "train_rows": 10, "val_rows": 5})
    assert "logistic regression on the same split: accuracy 0.8123, F1 0.8000." in text
    assert "logistic" not in card()


def test_labels_keep_their_names() -> None:
    text = card(data={"rows": {"no_text": 1}, "classes": {"train": {"very_good": 2}}})
    assert "| rows / no text | 1 |" in text
    assert r"| classes / train / very\_good | 2 |" in text
