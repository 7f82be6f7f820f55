"""A run's winner as a folder of its own, with model.onnx when asked."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close_probabilities
from numpy.typing import NDArray

from lstmcls.artifact import load_artifact
from lstmcls.cli import BadInput
from tune.export import export


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    """The folder of a search that has a winner."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder / "best")
    for name in ("space.yaml", "study.journal"):
        (folder / name).touch()
    return folder


def test_the_winner_is_copied(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "models" / "mine")
    exported = {p.name: p.read_bytes() for p in (tmp_path / "models" / "mine").iterdir()}
    card = exported.pop("README.md").decode()
    there = {p.name: p.read_bytes() for p in (run / "best").iterdir()}
    assert card.splitlines()[1:] == there.pop("README.md").decode().splitlines()[1:]
    assert card.startswith("# mine\n")  # not the run's name
    assert exported == there


def test_with_onnx_the_card_tells_how_to_run_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, tmp_path / "mine", onnx=True)
    names = {p.name for p in (tmp_path / "mine").iterdir()}
    assert names == {p.name for p in (run / "best").iterdir()} | {"model.onnx"}
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    before = (run / "best" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# mine" + before[before.index("\n") :])
    monkeypatch.chdir(tmp_path / "mine")
    found: dict[str, NDArray[np.float32]] = {}
    exec(card.split("```python\n")[1].split("```")[0], found)
    expected = load_artifact(tmp_path / "mine").probabilities(["some text", "more text"])
    assert_close_probabilities(found["probabilities"], expected)


def test_without_the_packages_nothing_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BadInput, match="ONNX needs onnxruntime; pip install onnxruntime"):
        export(run, tmp_path / "mine", onnx=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_cannot_be_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists and is not empty"):
        export(run, run)
    shutil.rmtree(run / "best")
    with pytest.raises(BadInput, match="has no winner yet"):
        export(run, tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
