"""The linear model that an LSTM has to beat: learning, and the same numbers in every form."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load, save
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from lstmcls import linear
from lstmcls.cli import BadInput
from lstmcls.dataset import Prepared, TokenDataset, unlabelled
from lstmcls.linear import LinearModel, chosen_linear, fit_linear

TOLERANCE = 1e-5  # of log P, float32


def labelled(
    rows: Sequence[Sequence[int]], labels: Sequence[int], texts: Sequence[str] | None = None
) -> TokenDataset:
    data = unlabelled([list(row) for row in rows], texts)
    return dataclasses.replace(data, labels=np.array(labels, np.int32))


def without_characters(data: TokenDataset) -> TokenDataset:
    return dataclasses.replace(data, characters=None, character_offsets=None)


def padded(flat: NDArray[np.integer], offsets: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    lengths = np.diff(offsets)
    ids = np.zeros((len(lengths), max(1, int(lengths.max()))), np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = flat[offsets[row] : offsets[row + 1]]
    return torch.from_numpy(ids), torch.from_numpy(lengths.astype(np.int64))


def tensors(data: TokenDataset) -> tuple[Tensor, ...]:
    tokens = padded(data.ids, data.offsets)
    if data.characters is None or data.character_offsets is None:
        return tokens
    return (*tokens, *padded(data.characters, data.character_offsets))


@pytest.fixture(scope="module")
def model(prepared: Prepared) -> LinearModel:
    return fit_linear(prepared.splits["train"], 2, 4.0)


@pytest.mark.parametrize(("metric", "mode"), [("val_accuracy", "max"), ("val_loss", "min")])
def test_it_learns_and_the_best_strength_is_kept(
    metric: str, mode: str, prepared: Prepared
) -> None:
    train, val = prepared.splits["train"], prepared.splits["val"]
    for data in (train, without_characters(train)):
        _, found = chosen_linear(data, val, 2, metric, mode)
        assert found["accuracy"] > 0.9
        assert found["loss"] < 0.4
        assert found["train_rows"] == len(train)
    best, reached = chosen_linear(train, val, 2, metric, mode)
    each = [fit_linear(train, 2, strength).logits(val) for strength in linear.STRENGTHS]
    chosen = [np.array_equal(best.logits(val), log) for log in each]
    losses = [-float(log[np.arange(len(val)), val.labels].mean()) for log in each]
    assert any(chosen)
    if metric == "val_loss":
        assert chosen[int(np.argmin(losses))]
        assert reached["loss"] == pytest.approx(min(losses), abs=1e-6)


def test_its_weights_are_those_of_one_regression_a_class(prepared: Prepared) -> None:
    train = prepared.splits["train"]
    train = dataclasses.replace(train, labels=(np.arange(len(train)) % 3).astype(np.int32))
    problem = linear._Problem.of(train, 3)
    exact = problem.solved(4.0).weights[1:].numpy()
    for label in range(3):
        other = LogisticRegression(C=4.0, tol=1e-8, max_iter=10_000)
        other.fit(problem.x, train.labels == label)
        difference = np.abs(exact[:, label] - other.coef_[0]).max()
        assert difference < 0.1 * np.abs(other.coef_).max()  # liblinear shrinks the bias besides


def test_log_probabilities_sum_to_one(model: LinearModel, prepared: Prepared) -> None:
    log = model.logits(prepared.splits["val"])
    assert log.dtype == np.float32
    assert log.shape == (len(prepared.splits["val"]), 2)
    np.testing.assert_allclose(np.exp(log).sum(axis=1), 1, rtol=1e-5)


def test_a_class_that_is_not_trained_is_never_likely() -> None:
    train = labelled([[1, 2], [3, 4]] * 5, [0, 2] * 5)
    val = labelled([[1, 2], [3, 4], [5]], [0, 2, 1])
    _, found = chosen_linear(train, val, 3, "val_loss", "min")
    assert found["accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert np.exp(fit_linear(train, 3, 4.0).logits(train))[:, 1].max() < 0.15
    one = labelled([[2]], [0])
    assert fit_linear(one, 3, 4.0).logits(train).argmax(axis=1).tolist() == [0] * 10


def test_forward_gives_what_the_bulk_gives(model: LinearModel, prepared: Prepared) -> None:
    test = prepared.splits["test"]
    with torch.inference_mode():
        found = model(*tensors(test)).numpy()
    np.testing.assert_allclose(found, model.logits(test), atol=TOLERANCE)


any_rows = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30), min_size=1, max_size=8), st.text("good bad", max_size=12)
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=50, deadline=None)
@given(rows=any_rows)
def test_forward_of_any_rows_gives_what_the_bulk_gives(
    rows: list[tuple[list[int], str]], model: LinearModel
) -> None:
    ids, texts = zip(*rows, strict=True)
    data = unlabelled(list(ids), texts)
    with torch.inference_mode():
        found = model(*tensors(data)).numpy()
    np.testing.assert_allclose(found, model.logits(data), atol=TOLERANCE)
    alone = [model.logits(data.chosen(np.array([row])))[0] for row in range(len(data))]
    np.testing.assert_allclose(alone, model.logits(data), atol=TOLERANCE)


@pytest.mark.parametrize("characters", [True, False])
def test_onnx_gives_what_the_bulk_gives_at_any_size(
    characters: bool, prepared: Prepared, tmp_path: Path
) -> None:
    train, test = prepared.splits["train"], prepared.splits["test"]
    if not characters:
        train, test = without_characters(train), without_characters(test)
    model = fit_linear(train, 2, 4.0)
    axes = {"input_ids": {0: "batch", 1: "length"}, "lengths": {0: "batch"}}
    if characters:
        axes |= {"character_ids": {0: "batch", 1: "size"}, "character_lengths": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tensors(test.chosen(np.arange(2))),
            tmp_path / "linear.onnx",
            input_names=list(axes),
            output_names=["log_probabilities"],
            dynamic_axes=axes | {"log_probabilities": {0: "batch"}},
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(
        tmp_path / "linear.onnx", providers=["CPUExecutionProvider"]
    )
    shortest = unlabelled([[2]], [" "] if characters else None)
    for data in (test, test.chosen(np.array([3])), shortest):
        given = [tensor.numpy() for tensor in tensors(data)]
        (found,) = session.run(None, dict(zip(axes, given, strict=True)))
        np.testing.assert_allclose(found, model.logits(data), atol=TOLERANCE)


def test_it_is_saved_and_read_with_safetensors(model: LinearModel, prepared: Prepared) -> None:
    again = LinearModel.of(load(save(model.state_dict())))
    val = prepared.splits["val"]
    assert np.array_equal(again.logits(val), model.logits(val))
    assert again.reads == model.reads == ((1, 2), (2, 5))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"idf": torch.zeros(3)}, "idf"),
        ({"slots": torch.tensor([[1]])}, "slots"),
        ({"weights": torch.zeros(3, 2, dtype=torch.int64)}, "weights"),
        ({"bias": None}, "bias"),
    ],
)
def test_damaged_tensors_are_told(
    change: dict[str, Tensor | None], name: str, model: LinearModel
) -> None:
    state = {**model.state_dict(), **change}
    with pytest.raises(BadInput, match=f"tensor '{name}'|missing or of another shape"):
        LinearModel.of({key: value for key, value in state.items() if value is not None})
    out_of_range = {**model.state_dict(), "slots": model.slots - 2**22}
    with pytest.raises(BadInput, match="out of range"):
        LinearModel.of(out_of_range)


def test_a_model_of_characters_refuses_data_without_them(
    model: LinearModel, prepared: Prepared
) -> None:
    old = without_characters(prepared.splits["val"])
    with pytest.raises(BadInput, match="prepared without characters"):
        model.logits(old)
    with pytest.raises(ValueError, match="reads characters"):
        model(*tensors(old))


def test_of_many_classes_fewer_ngrams_are_kept(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = prepared.splits["train"]
    monkeypatch.setattr(linear, "MOST_WEIGHTS", 20)
    assert len(fit_linear(train, 2, 1.0).slots) == 10
    monkeypatch.setattr(linear, "MOST_KEPT", 3)
    assert len(fit_linear(train, 2, 1.0).slots) == 3


@pytest.mark.parametrize("limit", ["MOST_GRAMS", "MOST_ENTRIES"])
def test_of_too_many_ngrams_rows_are_drawn(
    limit: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = prepared.splits["train"], prepared.splits["val"]
    whole = linear._Problem.of(train, 2).x.nnz
    monkeypatch.setattr(linear, limit, whole // 2)
    _, found = chosen_linear(train, val, 2, "val_loss", "min")
    assert len(train) // 8 < found["train_rows"] < len(train) * 3 // 4
    assert found["accuracy"] > 0.8
    problem = linear._Problem.of(train, 2)
    assert problem.x.nnz < whole
    assert set(problem.labels.tolist()) == {0, 1}
    monkeypatch.setattr(linear, "MOST_GRAMS", 1)
    assert chosen_linear(train, val, 2, "val_loss", "min")[1]["train_rows"] == 1
