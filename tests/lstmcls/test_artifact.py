"""An artifact comes back as it was saved, or says in one line why it cannot."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_close_probabilities
from safetensors.torch import load_file, save_file

from lstmcls.artifact import NEEDED, load_artifact, save_artifact
from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig, load_config
from lstmcls.dataset import Prepared, load_prepared, unlabelled
from lstmcls.fit import TrainingState, fit
from lstmcls.metrics import METRICS
from lstmcls.model import class_probabilities
from lstmcls.model_card import escaped


def _save(folder: Path, prepared: Prepared, config: TrainConfig, **metrics: Any) -> TrainingState:
    state = TrainingState.create(config, prepared.vocab_size, len(prepared.labels))
    weights = state.model.state_dict()
    save_artifact(folder, weights=weights, config=config, prepared=prepared, metrics=metrics)
    return state


def test_it_comes_back_as_it_was_saved(
    tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    val = dict.fromkeys(METRICS, 0.5) | {"roc_auc": float("nan")}
    state = _save(tmp_path / "model", prepared, tiny, val=val, epoch=1.0, threads=1)
    artifact = load_artifact(tmp_path / "model")
    assert artifact.config == tiny
    assert artifact.labels == prepared.labels
    assert artifact.max_length == prepared.info["max_length"] == 12
    assert not artifact.model.training
    assert artifact.metrics["val"] == val | {"roc_auc": None}
    assert artifact.metrics["data"] == prepared.info
    assert artifact.metrics["epoch"] == 1.0
    for name, tensor in state.model.state_dict().items():
        assert torch.equal(artifact.model.state_dict()[name], tensor)
    original = (prepared.folder / "tokenizer.json").read_bytes()
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == original
    assert json.loads((tmp_path / "model" / "labels.json").read_text()) == prepared.labels


def test_weights_lie_where_any_tensor_does(trained: Path) -> None:
    """In a file they begin at any byte, and MKL without AVX adds such numbers in another order."""
    tensors = load_artifact(trained).model.state_dict()
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors.values())


@pytest.mark.parametrize("padding", ["masked", "counted"])
@pytest.mark.parametrize("zero_state", [True, False])
def test_raw_texts_get_the_numbers_of_their_prepared_rows(
    padding: str,
    zero_state: bool,
    tmp_path: Path,
    prepared: Prepared,
    reviews_csv: Path,
    tiny: TrainConfig,
) -> None:
    config = dataclasses.replace(tiny, padding=padding, zero_state=zero_state)
    state = _save(tmp_path / "model", prepared, config)
    artifact = load_artifact(tmp_path / "model")
    test = prepared.splits["test"]
    pad_to = 12 if padding == "counted" else None
    expected = class_probabilities(state.model, test.on("cpu"), pad_to)
    # The same weights, batches and threads: the same bits.
    np.testing.assert_array_equal(artifact.row_probabilities(test), expected)
    # The raw texts of the test split, found by their ids.
    ends = zip(test.offsets[:-1], test.offsets[1:], strict=True)
    rows = {tuple(test.ids[a:b].tolist()): i for i, (a, b) in enumerate(ends)}
    texts: dict[int, str] = {}
    for line in reviews_csv.read_text().splitlines()[1:]:
        text = line.rpartition(",")[0]
        place = rows.get(tuple(artifact.tokenizer.encode(text).ids))
        if place is not None:
            texts[place] = text
    assert sorted(texts) == list(range(len(test)))
    found = artifact.probabilities([texts[i] for i in range(len(test))])
    assert_close_probabilities(found, expected)


def test_probabilities_keep_the_order_and_chunks_change_nothing(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(trained)
    texts = ["good box", "bad", "", "the very slow hotel room came broken", "好", "warm phone"] * 3
    whole = artifact.probabilities(texts)
    assert whole.shape == (18, 2)
    assert_close_probabilities(whole.sum(axis=1), np.ones(18))
    assert_close_probabilities(whole[6:], np.tile(whole[:6], (2, 1)))
    assert np.ptp(whole[:, 0]) > 0.5  # in another order they would differ
    monkeypatch.setattr("lstmcls.artifact.CHUNK", 4)
    assert_close_probabilities(artifact.probabilities(texts), whole)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("good", "expected a list of texts, got one text; write ['good']"),
        (b"good", "expected a list of texts, got one text; write [b'good']"),
        (["good", None], "texts[1]: expected a text, got None"),
        (["good"] * 5 + [float("nan")], "texts[5]: expected a text, got nan"),
        ([["good", "box"]], "texts[0]: expected a text, got ['good', 'box']"),
        ([b"good"], "texts[0]: expected a text, got b'good'"),
        (["box", "hi \ud83d there"], "texts[1]: holds '\\ud83d', half of a surrogate pair; "),
    ],
)
def test_what_is_no_list_of_texts(
    texts: Any, message: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lstmcls.artifact.CHUNK", 2)
    artifact = load_artifact(trained)
    for method in (artifact.predict, artifact.probabilities):
        with pytest.raises(BadInput) as fault:
            method(texts)
        assert str(fault.value).startswith(message)


def test_texts_of_a_data_frame(trained: Path) -> None:
    column = pd.Series(["good box", "bad box"], index=[7, 3])
    assert load_artifact(trained).predict(column) == ["pos", "neg"]


def test_no_texts_give_no_rows(trained: Path) -> None:
    assert load_artifact(trained).probabilities([]).shape == (0, 2)


def test_a_text_is_cut_where_training_cut_it(trained: Path) -> None:
    artifact = load_artifact(trained)
    twelve = "good " * artifact.max_length
    one, other = artifact.probabilities([twelve, twelve + "bad " * 50])
    assert_close_probabilities(one, other)


@pytest.mark.parametrize("padding", ["masked", "counted"])
def test_a_model_that_reads_less_cuts_texts_and_rows_there(
    padding: str, tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    config = dataclasses.replace(tiny, padding=padding, max_length=3)
    _save(tmp_path / "model", prepared, config)
    artifact = load_artifact(tmp_path / "model")
    assert artifact.max_length == 3
    one, other = artifact.probabilities(["good good good", "good good good bad bad"])
    assert_close_probabilities(one, other)
    good, bad = (artifact.tokenizer.token_to_id(word) for word in ("good", "bad"))
    (row,) = artifact.row_probabilities(unlabelled([[good] * 3 + [bad] * 2]))
    assert_close_probabilities(row, one)


def test_per_class_figures_are_computed_on_the_validation_split(
    tmp_path: Path, prepared_folder: Path, tiny: TrainConfig
) -> None:
    prepared = load_prepared(prepared_folder)
    state = TrainingState.create(tiny, prepared.vocab_size, 2)
    *_, last = fit(state, prepared.splits["train"], prepared.splits["val"])
    weights = state.model.state_dict()
    save_artifact(
        tmp_path / "m", weights=weights, config=tiny, prepared=prepared, metrics={"val": last.val}
    )
    table = load_artifact(tmp_path / "m").metrics["per_class"]
    assert set(table) == {"neg", "pos"}
    recalls = [row["recall"] for row in table.values()]
    assert sum(recalls) / 2 == pytest.approx(last.val["recall"], abs=1e-6)


def test_it_replaces_an_older_one_whole(
    tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    folder = tmp_path / "model"
    _save(folder, prepared, tiny, note="first")
    (folder / "model.onnx").write_text("of the first")
    _save(folder, prepared, dataclasses.replace(tiny, hidden_size=5), note="second")
    assert load_artifact(folder).config.hidden_size == 5
    assert {p.name for p in folder.iterdir()} == {*NEEDED, "README.md"}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_older_one(
    tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    folder = tmp_path / "model"
    _save(folder, prepared, tiny)
    with pytest.raises(TypeError):
        _save(folder, prepared, dataclasses.replace(tiny, hidden_size=5), bad=object())
    assert load_artifact(folder).config == tiny
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_weights_of_another_config_are_not_saved(
    tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    other = dataclasses.replace(tiny, hidden_size=5)
    weights = TrainingState.create(other, prepared.vocab_size, 2).model.state_dict()
    with pytest.raises(BadInput, match="does not fit its config"):
        save_artifact(tmp_path / "m", weights=weights, config=tiny, prepared=prepared, metrics={})
    assert not list(tmp_path.iterdir())


def test_everyone_who_may_read_the_folder_may_read_the_weights(trained: Path) -> None:
    modes = {os.stat(trained / name).st_mode & 0o777 for name in NEEDED}
    assert len(modes) == 1


def test_the_numbers_of_the_caller_are_left_alone(
    tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    state = TrainingState.create(tiny, prepared.vocab_size, 2)
    weights = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    before = torch.get_rng_state()
    save_artifact(tmp_path / "m", weights=weights, config=tiny, prepared=prepared, metrics={})
    load_artifact(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in state.model.state_dict().items():
        assert torch.equal(weights[name], tensor)


def _rewrite(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def _cut(name: str, keep: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return cut


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return rewrite


def _config(**changes: Any) -> Callable[[Path], Any]:
    def rewrite(folder: Path) -> None:
        config = dataclasses.replace(load_config(folder / "config.yaml"), **changes)
        (folder / "config.yaml").write_text(config.to_yaml())

    return rewrite


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "no such folder"),
    **{
        f"no {name}": (lambda f, n=name: (f / n).unlink(), f"not a whole model: {name} missing")
        for name in NEEDED
    },
    "cut weights": (_cut("model.safetensors", 0.5), "model.safetensors: damaged"),
    "nearly no weights": (_cut("model.safetensors", 0.001), "model.safetensors: damaged"),
    "empty weights": (_rewrite("model.safetensors", b""), "model.safetensors: damaged"),
    "a pickle as weights": (
        lambda f: torch.save({"a": torch.zeros(1)}, f / "model.safetensors"),
        "model.safetensors: damaged",
    ),
    "no tensor": (_weights(lambda w: w.pop("head.bias")), "lacks tensor 'head.bias'"),
    "more tensors": (_weights(lambda w: w.update(x=torch.zeros(1))), "unknown tensor 'x'"),
    "wrong shape": (
        _weights(lambda w: w.update({"head.bias": torch.zeros(3)})),
        "head.bias is float32 3, expected float32 2",
    ),
    "half precision": (
        _weights(lambda w: w.update({"head.bias": torch.zeros(2).half()})),
        "head.bias is float16 2, expected float32 2",
    ),
    "another size": (_config(hidden_size=9), "does not fit its config"),
    "another direction": (_config(bidirectional=False), "unknown tensor 'lstms.0.1."),
    "more layers": (_config(layers=2), "lacks tensor 'lstms.1.0."),
    "cut config": (_rewrite("config.yaml", b"lr: [0.1"), "config.yaml: not valid YAML"),
    "unknown setting": (_rewrite("config.yaml", b"lrr: 1"), "lrr: no such setting"),
    "cut tokenizer": (_cut("tokenizer.json", 0.5), "tokenizer.json: not a tokenizer file"),
    "cut labels": (_rewrite("labels.json", b'["a"'), "labels.json: damaged"),
    "labels of another kind": (_rewrite("labels.json", b'{"a": 1}'), "labels.json: damaged"),
    "equal labels": (_rewrite("labels.json", b'["a", "a"]'), "labels.json: damaged"),
    "more labels": (_rewrite("labels.json", b'["a", "b", "c"]'), "does not fit its config"),
    "cut metrics": (_cut("metrics.json", 0.5), "metrics.json: damaged"),
    "binary metrics": (_rewrite("metrics.json", b"\xff\xff"), "metrics.json: damaged"),
    "other metrics": (_rewrite("metrics.json", b"{}"), "metrics.json: damaged (no max_length)"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_in_one_clear_line(name: str, trained: Path, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    damage(folder)
    with pytest.raises(BadInput) as fault:
        load_artifact(folder)
    assert message in str(fault.value)
    assert str(folder) in str(fault.value)
    assert len(str(fault.value).splitlines()) == 1


def test_the_card_shows_what_a_reader_needs(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    metrics = load_artifact(trained).metrics
    assert f"| accuracy | {metrics['val']['accuracy']:.4f} |" in card
    assert "| reviews.csv |" in card
    assert "| hidden\\_size | 8 |" in card
    assert "python -m lstmcls.evaluate" in card
    assert "| neg | " in card
    assert "first 12 tokens" in card


def test_the_card_escapes_what_markdown_would_read(
    tmp_path: Path, prepared: Prepared, tiny: TrainConfig
) -> None:
    labels = ["a|b\n# c", "<b>*x*</b> [y](z) `q`"]
    changed = dataclasses.replace(prepared, info=prepared.info | {"labels": labels}, splits={})
    _save(tmp_path / "model", changed, tiny)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "a\\|b \\# c" in card
    assert "\\<b\\>\\*x\\*\\</b\\> \\[y\\](z) \\`q\\`" in card
    assert escaped("a\\b") == "a\\\\b"
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert all(row.endswith("|") for row in rows)
