"""Models of earlier versions predict what they did; those of later versions are refused.

tests/data/models_without_format.tar.gz was written by the version before artifacts had a format
number: two small models, and in expected.json what they said of texts. `ngrams` reads words in two
directions, pools in every way and adds n-grams up to pairs; `counted` reads characters and padding
in two layers, from random initial states.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmcls.artifact import FORMAT, load_artifact
from lstmcls.cli import BadInput
from lstmcls.predict import main

MODELS = Path(__file__).parents[1] / "data" / "models_without_format.tar.gz"
# Of a probability: float32 sums in another order, as of another CPU, differ by some 1e-7.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the two models and of expected.json."""
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(MODELS) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", ["ngrams", "counted"])
def test_a_model_without_a_format_number_predicts_as_it_did(name: str, older: Path) -> None:
    artifact = load_artifact(older / name)
    assert "format" not in artifact.metrics
    expected = json.loads((older / "expected.json").read_text(encoding="utf-8"))[name]
    wanted = np.array(expected["probabilities"])
    assert wanted.std(axis=0).min() > 10 * TOLERANCE, "they tell nothing apart"
    found = artifact.probabilities(expected["texts"])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


def _with_format(trained: Path, folder: Path, number: Any) -> Path:
    shutil.copytree(trained, folder)
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    return folder


def test_a_model_says_its_format_and_the_card_does_not(trained: Path) -> None:
    assert load_artifact(trained).metrics["format"] == FORMAT == 2
    assert "| format |" not in (trained / "README.md").read_text(encoding="utf-8")


def test_a_later_format_is_refused_in_one_line_that_says_what_to_do(
    trained: Path, tmp_path: Path
) -> None:
    folder = _with_format(trained, tmp_path / "m", FORMAT + 1)
    (folder / "config.yaml").write_text("a_setting_of_tomorrow: 1")
    (folder / "labels.json").unlink()
    with pytest.raises(BadInput) as fault:
        main([str(folder), "good box"])
    assert fault.value.messages == (
        f"{folder / 'metrics.json'}: format {FORMAT + 1}, written by a later version of lstm-tune; "
        f"this version reads up to {FORMAT}: update lstm-tune",
    )


def test_a_model_of_format_1_is_read(trained: Path, tmp_path: Path) -> None:
    """Its files are those of one network now."""
    older = load_artifact(_with_format(trained, tmp_path / "m", 1))
    assert (
        older.probabilities(["good"]).tolist()
        == load_artifact(trained).probabilities(["good"]).tolist()
    )


@pytest.mark.parametrize("number", ["1", -1, 1.5, None, True])
def test_a_format_that_is_none_is_damage(number: Any, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"metrics.json: damaged \(format "):
        load_artifact(_with_format(trained, tmp_path / "m", number))
