"""model.onnx in ONNX Runtime gives what the artifact gives in PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import assert_close_probabilities
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lstmcls.artifact import Artifact
from lstmcls.batches import ordered_batches
from lstmcls.builtin import open_builtin
from lstmcls.cli import BadInput, RunFailed
from lstmcls.config import VARIANTS, config_from
from lstmcls.dataset import unlabelled
from lstmcls.model import EVAL_BATCH, LSTMClassifier
from lstmcls.model_card import onnx_section
from lstmcls.onnx import _compare, _example, _Graph, write_onnx
from lstmcls.tokenizer import encode, train_tokenizer

TEXTS, LENGTH = 1000, 40


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Built-in reviews of all lengths, an empty one and a short one."""
    reviews = next(open_builtin("reviews", progress=False).source.batches()).texts
    return ["", "好", *reviews[2:TEXTS]]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    trained = train_tokenizer("char", [texts], 500)
    trained.enable_truncation(LENGTH)
    return trained


@pytest.fixture(scope="module")
def rows(texts: list[str], tokenizer: Tokenizer) -> list[list[int]]:
    found = encode(tokenizer, texts)
    assert (len(found), min(map(len, found)), max(map(len, found))) == (TEXTS, 1, LENGTH)
    return found


def classifier(tokenizer: Tokenizer, **settings: object) -> Artifact:
    """An untrained one, whose answers differ from text to text."""
    config = config_from({"embedding_dim": 8, "hidden_size": 8, **settings})
    torch.manual_seed(0)
    model = LSTMClassifier(config, tokenizer.get_vocab_size(), 3).eval()
    with torch.no_grad():
        model.head.weight.mul_(10)
    labels = ["a", "b", "c"]
    return Artifact(Path("m"), model, tokenizer, labels, config, {"max_length": LENGTH})


def padded(rows: list[list[int]]) -> dict[str, NDArray[np.int64]]:
    """All `rows` in one batch, as long as the longest."""
    lengths = np.array([len(row) for row in rows])
    ids = np.array([row + [0] * (lengths.max() - len(row)) for row in rows])
    return {"input_ids": ids, "lengths": lengths}


def drawn(model: LSTMClassifier, lengths: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """The initial states that a prediction draws for rows of these lengths, where it does."""
    generator = torch.Generator().manual_seed(model.config.seed)
    states: NDArray[np.float32] | None = None
    for batch in ordered_batches(lengths, EVAL_BATCH):
        draw = model.initial_states(len(batch), generator)
        if draw is None:
            return {}
        if states is None:
            states = np.empty((*draw.shape[:3], len(lengths), draw.shape[4]), np.float32)
        states[:, :, :, batch] = draw.numpy()
    assert states is not None
    return {"initial_states": states}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("padding", ["masked", "counted"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_thousand_texts_in_one_batch_and_one_alone(
    variant: str,
    padding: str,
    layers: int,
    rows: list[list[int]],
    tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    artifact = classifier(tokenizer, variant=variant, padding=padding, layers=layers)
    write_onnx(artifact, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (output,) = session.get_outputs()
    assert (output.name, output.type) == ("probabilities", "tensor(float)")
    for some in (rows, rows[9:10], rows[:1]):
        feeds = padded(some)
        assert {i.name for i in session.get_inputs()} >= feeds.keys()
        (found,) = session.run(None, {**feeds, **drawn(artifact.model, feeds["lengths"])})
        expected = artifact.row_probabilities(unlabelled(some))
        assert_close_probabilities(found, expected)
    assert np.ptp(artifact.row_probabilities(unlabelled(rows)), axis=0).min() > 0.1


def test_more_padding_changes_nothing(
    rows: list[list[int]], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for padding in ("masked", "counted"):
        poolings = {"mean_pooling": True, "attention_pooling": True}
        artifact = classifier(tokenizer, padding=padding, **poolings, ngrams=3)
        assert artifact.model.ngrams is not None
        counted = unlabelled(rows)
        counted.labels[:] = np.arange(len(rows)) % 3
        artifact.model.ngrams.count(counted)
        write_onnx(artifact, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        feeds = padded(rows[:50])
        longer = {**feeds, "input_ids": np.pad(feeds["input_ids"], [(0, 0), (0, LENGTH)])}
        results = [session.run(None, given)[0] for given in (feeds, longer)]
        assert_close_probabilities(*results)


@pytest.mark.parametrize("variant", ["improved", "bidirectional"])
def test_the_cards_lines_run(
    variant: str, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = classifier(tokenizer, variant=variant)
    write_onnx(artifact, tmp_path / "model.onnx")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.chdir(tmp_path)
    lines = onnx_section(artifact.config).split("```python\n")[1].split("```")[0]
    names: dict[str, NDArray[np.float32]] = {}
    exec(lines, names)
    if variant == "bidirectional":  # random states: the card's are zeros
        artifact.model.config = config_from({**artifact.config.to_dict(), "zero_state": True})
    expected = artifact.probabilities(["some text", "more text"])
    assert_close_probabilities(names["probabilities"], expected)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=f"needs {package}; pip install {package}$"):
        write_onnx(classifier(tokenizer), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_refused(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write_onnx(classifier(tokenizer), tmp_path / "model.onnx")
    other = classifier(tokenizer)
    with torch.no_grad():
        other.model.head.bias[0] += 1
    graph = _Graph(other.model, other.max_length)
    with pytest.raises(RunFailed, match=r"differ from PyTorch's by 0\."):
        _compare(graph, tmp_path / "model.onnx", _example(other, rows=3, length=4))
