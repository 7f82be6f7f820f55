"""An ensemble: the weighted sum of what its members say, as a module, a folder and an ONNX file."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import assert_close_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from lstmcls.artifact import load_artifact, save_artifact
from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, TokenDataset
from lstmcls.ensemble import Ensemble, Member, log_probabilities
from lstmcls.evaluate import evaluate_files
from lstmcls.fit import judged_rows
from lstmcls.linear import LinearModel, fit_linear
from lstmcls.metrics import classification_metrics
from lstmcls.model import LSTMClassifier
from lstmcls.onnx import write_onnx

WIDE = {"embedding_dim": 8, "hidden_size": 8}
# Of three kinds: masked and counted padding, and one that reads fewer tokens.
KINDS: tuple[dict[str, Any], ...] = ({}, {"padding": "counted"}, {"max_length": 5})


def a_network(config: TrainConfig, vocab_size: int, classes: int = 2) -> LSTMClassifier:
    """Untrained; its answers differ from text to text."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = LSTMClassifier(config, vocab_size, classes).eval()
    with torch.no_grad():
        model.head.weight.mul_(10)
    return model


def configs(seeds: int = 1) -> list[TrainConfig]:
    plain = TrainConfig(**WIDE)
    return [
        dataclasses.replace(plain, **kind, seed=seed) for kind in KINDS for seed in range(seeds)
    ]


@pytest.fixture(scope="module")
def linear(prepared: Prepared) -> LinearModel:
    return fit_linear(prepared.splits["train"], 2, 1.0)


@pytest.fixture(scope="module")
def ensemble(prepared: Prepared, linear: LinearModel) -> Ensemble:
    """Three networks and a linear model that reads characters, with offsets."""
    networks = [a_network(config, prepared.vocab_size) for config in configs()]
    members = [Member(w, c) for w, c in zip((0.5, 0.25, 0.75), configs(), strict=True)]
    return Ensemble(
        [*members, Member(0.4, None)], [*networks, linear], (0.25, -0.5), prepared.max_length
    ).eval()


def by_hand(ensemble: Ensemble, rows: TokenDataset, length: int) -> NDArray[Any]:
    """The same in float64, member by member."""
    total = np.zeros((len(rows), 2))
    for member, classifier in ensemble.pairs:
        if isinstance(classifier, LinearModel):
            logs = classifier.logits(rows)
        else:
            logs = np.log(judged_rows(classifier, rows, length))
        total += member.weight * logs.astype(np.float64)
    return np.asarray(softmax(total + (ensemble.offsets or 0), axis=1))


def test_it_is_the_weighted_sum_of_log_probabilities(
    ensemble: Ensemble, prepared: Prepared
) -> None:
    rows = prepared.splits["test"]
    assert ensemble.reads_characters
    assert ensemble.networks == 3
    found = ensemble.row_probabilities(rows)
    assert found.dtype == np.float32
    assert_close_probabilities(found, by_hand(ensemble, rows, prepared.max_length))
    assert np.ptp(found[:, 0]) > 0.2
    single = log_probabilities(ensemble.pairs[0][1], rows, prepared.max_length)
    one = Ensemble(ensemble.members[:1], [ensemble.pairs[0][1]], (), prepared.max_length)
    assert_close_probabilities(one.row_probabilities(rows), softmax(0.5 * single, axis=1))


def test_a_sure_network_says_no_infinity(prepared: Prepared) -> None:
    model = a_network(TrainConfig(**WIDE), prepared.vocab_size)
    with torch.no_grad():
        model.head.bias[:] = torch.tensor([1000.0, -1000.0])
    rows = prepared.splits["test"]
    logs = log_probabilities(model, rows, prepared.max_length)
    assert np.isfinite(logs).all()
    ensemble = Ensemble([Member(3.0, model.config)], [model], (), prepared.max_length)
    assert_close_probabilities(ensemble.row_probabilities(rows)[:, 0], np.ones(len(rows)))


def test_padded_rows_get_what_rows_get(ensemble: Ensemble, prepared: Prepared) -> None:
    """`forward`, which an ONNX file computes."""
    rows = prepared.splits["test"]
    with torch.inference_mode():
        found = ensemble(*padded(rows))
    assert_close_probabilities(found.numpy(), ensemble.row_probabilities(rows))


def padded(rows: TokenDataset) -> list[torch.Tensor]:
    pairs = [(rows.ids, rows.offsets), (rows.characters, rows.character_offsets)]
    found: list[torch.Tensor] = []
    for flat, offsets in pairs:
        assert flat is not None
        assert offsets is not None
        lengths = np.diff(offsets)
        ids = np.zeros((len(lengths), lengths.max()), np.int64)
        for k, length in enumerate(lengths):
            ids[k, :length] = flat[offsets[k] : offsets[k + 1]]
        found += [torch.from_numpy(ids), torch.from_numpy(lengths.astype(np.int64))]
    return found


def test_it_comes_back_from_plain_values_and_tensors(
    ensemble: Ensemble, prepared: Prepared
) -> None:
    plain = json.loads(json.dumps(ensemble.to_dict()))
    sizes = prepared.vocab_size, 2, prepared.max_length
    again = Ensemble.of(plain, ensemble.state_dict(), *sizes).eval()
    assert again.members == ensemble.members
    assert again.offsets == ensemble.offsets
    rows = prepared.splits["test"]
    np.testing.assert_array_equal(again.row_probabilities(rows), ensemble.row_probabilities(rows))


@given(weights=st.lists(st.floats(0.01, 3), min_size=6, max_size=6), count=st.integers(1, 6))
@settings(max_examples=30)
def test_fewer_networks_keep_the_weight_of_their_kind(weights: list[float], count: int) -> None:
    """Of each kind that keeps a network the sum stays; the linear model stays as it is."""
    members = [Member(w, c) for w, c in zip(weights, configs(seeds=2), strict=True)]
    networks = [a_network(member.config, 5) for member in members if member.config]
    whole = Ensemble([*members, Member(0.3, None)], [*networks, LinearModel(1, 2)], (), 5)
    fewer = whole.first(count)
    assert fewer.networks == count
    assert fewer.members[-1] == Member(0.3, None)
    assert [c for _, c in fewer.pairs] == [*networks[:count], whole.pairs[-1][1]]
    for kind in {member.kind for member in fewer.members}:
        sums = [sum(m.weight for m in e.members if m.kind == kind) for e in (whole, fewer)]
        assert sums[0] == pytest.approx(sums[1])
    assert (fewer.offsets, fewer.max_length) == (whole.offsets, whole.max_length)


# As an artifact.


@pytest.fixture(scope="module")
def saved(ensemble: Ensemble, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble") / "model"
    config = ensemble.members[0].config
    assert config is not None
    save_artifact(folder, weights=ensemble, config=config, prepared=prepared, metrics={"val": {}})
    return folder


def test_an_artifact_answers_as_the_ensemble_did(
    saved: Path, ensemble: Ensemble, prepared: Prepared
) -> None:
    artifact = load_artifact(saved)
    assert isinstance(artifact.model, Ensemble)
    assert artifact.metrics["format"] == 2
    assert artifact.config == ensemble.members[0].config
    assert not artifact.model.training
    rows = prepared.splits["test"]
    np.testing.assert_array_equal(
        artifact.row_probabilities(rows), ensemble.row_probabilities(rows)
    )


def test_raw_texts_get_the_numbers_of_their_prepared_rows(
    saved: Path, prepared: Prepared, reviews_csv: Path
) -> None:
    artifact, test = load_artifact(saved), prepared.splits["test"]
    assert artifact.max_characters == prepared.max_characters > 0
    texts = [line.rpartition(",")[0] for line in reviews_csv.read_text().splitlines()[1:]]
    ends = zip(test.offsets[:-1], test.offsets[1:], strict=True)
    places = {tuple(test.ids[a:b].tolist()): row for row, (a, b) in enumerate(ends)}
    found = {places.get(tuple(artifact.tokenizer.encode(text).ids)): text for text in texts}
    mine = [found[row] for row in range(len(test))]
    assert_close_probabilities(artifact.probabilities(mine), artifact.row_probabilities(test))


def test_a_prepared_folder_and_a_file_of_the_same_texts_agree(
    saved: Path,
    prepared: Prepared,
    reviews_csv: Path,
    tmp_path: Path,
    called: Callable[..., Any],
) -> None:
    """`lstmcls.evaluate` on the test split, and on a file of its texts."""
    artifact, test = load_artifact(saved), prepared.splits["test"]
    head, *lines = reviews_csv.read_text().splitlines()
    ends = zip(test.offsets[:-1], test.offsets[1:], strict=True)
    rows = {tuple(test.ids[a:b].tolist()) for a, b in ends}
    tokens = artifact.tokenizer
    mine = [line for line in lines if tuple(tokens.encode(line.rpartition(",")[0]).ids) in rows]
    file = tmp_path / "test.csv"
    file.write_text("\n".join([head, *mine]), encoding="utf-8")
    expected = classification_metrics(artifact.row_probabilities(test), test.labels)
    of_file = evaluate_files(artifact, [file], "text", "label")["metrics"]
    done = called("lstmcls.evaluate", saved, prepared.folder, "--json")
    assert done.returncode == 0, done.stderr
    of_folder = json.loads(done.stdout)["metrics"]
    for name, value in expected.items():
        assert of_file[name] == pytest.approx(value, abs=1e-4), name
        assert of_folder[name] == pytest.approx(value, abs=1e-4), name


def test_onnx_of_an_ensemble_that_reads_characters(
    saved: Path, prepared: Prepared, tmp_path: Path
) -> None:
    artifact, rows = load_artifact(saved), prepared.splits["test"]
    write_onnx(artifact, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = ["input_ids", "lengths", "character_ids", "character_lengths"]
    assert [each.name for each in session.get_inputs()] == names
    for some in (rows, rows.between(3, 4)):
        feeds = {n: t.numpy() for n, t in zip(names, padded(some), strict=True)}
        (found,) = session.run(None, feeds)
        assert_close_probabilities(found, artifact.row_probabilities(some))


def test_onnx_of_networks_alone_reads_no_characters(
    ensemble: Ensemble, prepared: Prepared, saved: Path, tmp_path: Path
) -> None:
    """Also where they begin with random states: in an ONNX file with zeros, their mean."""
    config = TrainConfig(**WIDE, zero_state=False)
    networks = [a_network(dataclasses.replace(config, seed=k), prepared.vocab_size) for k in (0, 1)]
    members = [Member(0.5, network.config) for network in networks]
    model = Ensemble(members, networks, (), prepared.max_length).eval()
    artifact = dataclasses.replace(load_artifact(saved), model=model)
    assert artifact.max_characters == 0
    write_onnx(artifact, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = ["input_ids", "lengths"]
    assert [each.name for each in session.get_inputs()] == names
    feeds = padded(prepared.splits["test"])[:2]
    (found,) = session.run(None, {n: t.numpy() for n, t in zip(names, feeds, strict=True)})
    with torch.inference_mode():
        expected = model(*feeds).numpy()
    assert_close_probabilities(found, expected)


# What others may make of its files.


def damaged(saved: Path, folder: Path, change: Callable[[Any], Any]) -> Path:
    shutil.copytree(saved, folder)
    path = folder / "ensemble.json"
    changed = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed), encoding="utf-8")
    return folder


def without_the_last(plain: Any) -> Any:
    return {**plain, "members": plain["members"][:-1]}


def member(number: int, **changes: Any) -> Callable[[Any], Any]:
    def change(plain: Any) -> Any:
        plain["members"][number].update(changes)
        return plain

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain: "{", r"ensemble.json: damaged \("),
        (lambda plain: [], r"expected members and offsets \("),
        (lambda plain: None, r"expected members and offsets \("),
        (lambda plain: {"members": []}, r"expected members and offsets \("),
        (lambda plain: {**plain, "members": []}, "has 0 members; expected some"),
        (lambda plain: {**plain, "members": [3]}, r"expected members and offsets \("),
        (lambda plain: {**plain, "members": "ab"}, r"expected members and offsets \("),
        (lambda plain: {**plain, "offsets": [0.0]}, "has 1 offsets; expected none or 2"),
        (lambda plain: {**plain, "offsets": [0, float("nan")]}, "offsets; expected none or 2"),
        (lambda plain: {**plain, "offsets": ["x", 1]}, r"expected members and offsets \("),
        (lambda plain: {**plain, "offsets": None}, r"expected members and offsets \("),
        (member(0, weight=-1), "a member's weight is -1, expected 0 or more"),
        (member(0, weight=float("inf")), "a member's weight is inf"),
        (member(0, weight=True), "a member's weight is True"),
        (member(0, weight="1"), "a member's weight is '1'"),
        (member(0, weight=10**400), r"expected members and offsets \(OverflowError"),
        (lambda plain: {**plain, "offsets": [10**400, 0]}, r"offsets \(OverflowError"),
        (member(0, network={"hidden_size": -3}), "json: hidden_size: expected at least 1"),
        (member(0, network={**WIDE, "hidden_size": 16}), "does not fit its config"),
        (member(0, network=[]), "expected"),
        (member(0, linear=True), "at most one of them linear"),
        (member(3, linear=1), r"expected members and offsets \("),
        (without_the_last, "tensors are of no member"),
        (lambda plain: {**plain, "members": plain["members"] * 2}, "at most one of them linear"),
    ],
)
def test_a_wrong_ensemble_is_refused_in_one_line(
    change: Callable[[Any], Any], said: str, saved: Path, tmp_path: Path
) -> None:
    folder = damaged(saved, tmp_path / "m", change)
    with pytest.raises(BadInput) as fault:
        load_artifact(folder)
    (line,) = fault.value.messages
    assert re.search(said, line), line
    assert line.startswith(f"{folder / 'ensemble.json'}: ")
    assert line.count(str(folder)) == 1
    assert "\n" not in line
    assert len(line) < 400


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(max_examples=200)
@given(data=st.data())
def test_nothing_but_bad_input_is_raised(data: st.DataObject) -> None:
    config = TrainConfig(**WIDE)
    plain = Ensemble(
        [Member(0.5, config), Member(0.5, None)], [a_network(config, 5), LinearModel(1, 2)], (), 5
    )
    tensors, raw = plain.state_dict(), plain.to_dict()
    places: list[tuple[Any, Any]] = [(raw, key) for key in raw]
    places += [(raw["members"], k) for k in range(2)]
    places += [(m, key) for m in raw["members"] for key in m]
    places += [(raw["members"][0]["network"], key) for key in raw["members"][0]["network"]]
    node, key = data.draw(st.sampled_from(places))
    node[key] = data.draw(JUNK)
    try:
        Ensemble.of(raw, tensors, 5, 2, 5)
    except BadInput as fault:
        if any("\n" in line for line in fault.messages):
            raise


def test_characters_that_no_one_counted_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = damaged(saved, tmp_path / "m", lambda plain: plain)
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    for most in (None, 0, -1, "many"):
        metrics["data"]["max_characters"] = most
        path.write_text(json.dumps(metrics), encoding="utf-8")
        with pytest.raises(BadInput, match="reads characters, and metrics"):
            load_artifact(folder)
