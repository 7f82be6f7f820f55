"""What a finished search prints."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from fakes import a_report, small_space

from lstmcls.artifact import load_artifact
from lstmcls.dataset import Prepared
from tune.confirm import Candidate
from tune.run_folder import RunFolder
from tune.session import Outcome
from tune.summary import WIDTH, example, summary
from tune.winner import Winner

SPACE = small_space()
CONFIG = SPACE.config({"optimizer": "adam", "lr": 0.0123456, "hidden_size": 32})


def runs(*values: float) -> tuple[tuple[int, dict[str, Any]], ...]:
    return tuple((number, a_report(1, value)) for number, value in enumerate(values))


def outcome(prepared: Prepared, **changes: Any) -> Outcome:
    winner = Winner(7, CONFIG, Path("x"), a_report(2, 0.87654, epoch=1.5))
    plain = Outcome(RunFolder(Path("x")), SPACE, prepared, winner, [], None, interrupted=False)
    return dataclasses.replace(plain, **changes)


def test_the_winner_and_its_settings(prepared: Prepared) -> None:
    lines = summary(outcome(prepared)).splitlines()
    assert lines[0] == "winner:  trial 7, improved"
    settings = dict(part.strip().split(" ") for part in lines[1].split(","))
    assert settings["lr"] == "0.0123456"
    assert (settings["hidden_size"], settings["optimizer"]) == ("32", "adam")
    assert "seed" not in settings
    assert lines[2] == "val_accuracy: 0.8765 at epoch 1.5 (40 validation rows; it chose the winner)"
    assert lines[3:] == ["confirmation: no time was left for it"]


def test_no_confirmation_was_wanted(prepared: Prepared) -> None:
    off = small_space(confirm={"top": 0})
    assert summary(outcome(prepared, space=off)).endswith("\nconfirmation: off")


def test_the_confirmation_and_the_test(prepared: Prepared) -> None:
    candidates = [
        Candidate(7, CONFIG, baseline=False, runs=runs(0.875, 0.75, 0.8125)),
        Candidate(0, CONFIG, baseline=True, runs=runs(0.5)),
    ]
    test = {
        "accuracy": 0.825, "rows": 1234, "accuracy_interval": (0.8, 0.85),
        "difference": 0.05, "difference_interval": (-0.01, 0.11),
    }  # fmt: skip
    lines = summary(outcome(prepared, candidates=candidates, test=test)).splitlines()
    half = 4.302653 * 0.0625 / math.sqrt(3)
    assert lines[3:] == [
        "confirmed on fresh seeds, val_accuracy:",
        f"  trial 7: 0.8125 ± {half:.4f} (deviation 0.0625), 3 runs",
        "  trial 0, the baseline: 0.5000, 1 runs",
        "test accuracy: 0.8250, 95% interval 0.8000 to 0.8500 (1,234 rows, looked at once)",
        "against the baseline on test: +0.0500, 95% interval -0.0100 to +0.1100 "
        "(paired by example)",
    ]


def test_a_winner_that_is_the_baseline_is_compared_with_nothing(prepared: Prepared) -> None:
    candidates = [Candidate(7, CONFIG, baseline=True, runs=runs(0.875, 0.75))]
    test = {"accuracy": 0.825, "rows": 40, "accuracy_interval": (0.8, 0.85)}
    text = summary(outcome(prepared, candidates=candidates, test=test))
    assert "trial 7, the baseline" in text
    assert "against" not in text


def test_the_example_is_a_validation_text_and_what_the_model_says(
    trained: Path, prepared: Prepared
) -> None:
    artifact = load_artifact(trained)
    line = example(artifact, prepared)
    assert line.startswith("example: «")
    text, said = line.removeprefix("example: «").split("» is ")
    assert len(text) <= WIDTH
    label, rest = said.split(" (")
    assert label in artifact.labels
    probability = float(rest.split(";")[0])
    found = artifact.probabilities([text])[0]
    if not text.endswith("…"):
        assert found.max() == pytest.approx(probability, abs=0.006)
        assert artifact.labels[found.argmax()] == label
    assert rest.split("labelled ")[1].removesuffix(")") in artifact.labels
