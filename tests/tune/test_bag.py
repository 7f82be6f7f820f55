"""What is exported: the winner's networks, and who makes them better on rows they do not know."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import in_memory
from fold_runs import FOLDS, ROWS, Field, answers
from numpy.typing import NDArray
from scipy.special import softmax

from lstmcls.blend import SMALLEST_WEIGHT, choose_members, fit_blend
from lstmcls.calibration import best_offsets, expected_calibration_error
from lstmcls.dataset import Prepared
from lstmcls.linear import LinearModel, fit_linear
from lstmcls.metrics import METRICS, classification_metrics
from lstmcls.model import LSTMClassifier
from tune.checkpoints import Checkpoints, trial_folder
from tune.confirmation.bag import LINEAR, Bag, Network, make_bag, networks_alone, with_networks
from tune.confirmation.candidates import Candidate
from tune.confirmation.linear_folds import LinearFolds
from tune.run_folder import RunFolder
from tune.study import CONFIRMATION

folder = pytest.fixture(in_memory)
ALL = list(range(FOLDS))


@pytest.fixture(scope="module")
def whole(prepared: Prepared) -> LinearModel:
    return fit_linear(prepared.splits["train"], 2, 1.0)


def raced(folder: Path, *shares: float, own: float = 1.0, **sections: Any) -> Field:
    """One candidate for each share of right answers, on all folds; errors are independent."""
    field = Field(folder, len(shares), **sections)
    for _ in ALL:
        for share in shares:
            field.run(share, own)
    return field


def networks(finalists: Sequence[Candidate], prepared: Prepared) -> dict[int, list[Network]]:
    """Untrained ones, for what they say is written already."""
    found: dict[int, list[Network]] = {}
    for c in finalists:
        for run in c.runs.values():
            config = dataclasses.replace(c.final, seed=run.seed)
            model = LSTMClassifier(config, prepared.vocab_size, 2)
            found.setdefault(c.trial, []).append((config, model))
    return found


def linear_folds(field: Field, share: float, folds: int = FOLDS) -> LinearFolds:
    """What a linear model says that is right on a share of the rows, other ones than networks."""
    rng = np.random.default_rng(99)
    labels = [field.folds.held_out(fold).labels for fold in range(folds)]
    return LinearFolds(4.0, tuple(answers(each, rng.random(len(each)) < share) for each in labels))


def bag_of(
    field: Field, prepared: Prepared, linear: tuple[LinearFolds, LinearModel] | None = None
) -> Bag:
    finalists = field.now()
    return make_bag(finalists, networks(finalists, prepared), field.found, linear, prepared)


def said(field: Field) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any]]:
    found = {str(c.trial): field.found.logs(c, ALL) for c in field.now()}
    return found, field.found.labels(ALL), field.found.fold_of(ALL)


def test_one_candidate_is_its_networks_alone(folder: Path, prepared: Prepared) -> None:
    field = raced(folder, 0.8)
    bag = bag_of(field, prepared)
    logs, labels, fold_of = said(field)
    blend = fit_blend(logs, labels, fold_of)
    assert bag.trial == 0
    assert bag.confirmed
    assert bag.config == dataclasses.replace(bag.candidate.final, seed=1000)
    assert [m.weight for m in bag.ensemble.members] == [blend.weights["0"] / FOLDS] * FOLDS
    assert [m.config.seed for m in bag.ensemble.members if m.config] == [1000, 1001, 1002]
    assert bag.ensemble.offsets == ()
    figures = bag.figures
    assert (figures["rows"], figures["folds"]) == (ROWS, FOLDS)
    assert figures["members"] == {"0": round(blend.weights["0"], 4)}
    judged = softmax(blend.log_probabilities, axis=1)
    expected = classification_metrics(judged, labels)
    assert {name: figures[name] for name in METRICS} == pytest.approx(expected)
    for name in METRICS:
        low, high = figures[f"{name}_interval"]
        assert low <= figures[name] <= high
    assert figures["calibration_error"] == expected_calibration_error(judged, labels)
    alone = softmax(logs["0"], axis=1)
    assert figures["networks_alone"]["accuracy"] == pytest.approx(
        classification_metrics(alone, labels)["accuracy"]
    )
    assert "without_offsets" not in figures
    supports = {name: row["support"] for name, row in bag.per_class.items()}
    assert supports == {"neg": ROWS / 2, "pos": ROWS / 2}


def test_those_that_err_elsewhere_join(
    folder: Path, prepared: Prepared, whole: LinearModel
) -> None:
    field = raced(folder, 0.85, 0.85, 0.5)
    bag = bag_of(field, prepared, (linear_folds(field, 0.85), whole))
    logs, labels, fold_of = said(field)
    logs[LINEAR] = linear_folds(field, 0.85).logs(ALL)
    chosen = choose_members(logs, labels, fold_of, "0")
    assert set(chosen.weights) == {"0", "1", LINEAR}  # not one that guesses
    assert bag.figures["members"] == {n: round(w, 4) for n, w in chosen.weights.items()}
    assert bag.ensemble.networks == 2 * FOLDS
    sums = dict.fromkeys(("0", "1", LINEAR), 0.0)
    for member in bag.ensemble.members:
        size = member.config and member.config.hidden_size
        sums[LINEAR if size is None else str(size // 8 - 1)] += member.weight
    assert sums == pytest.approx(chosen.weights)
    assert [c for _, c in bag.ensemble.pairs if isinstance(c, LinearModel)] == [whole]
    alone = bag.figures["networks_alone"]
    assert bag.figures["loss"] < alone["loss"] - 0.05


def test_those_that_say_the_same_do_not(
    folder: Path, prepared: Prepared, whole: LinearModel
) -> None:
    field = raced(folder, 0.85, 0.85, own=0.0)
    bag = bag_of(field, prepared, (linear_folds(field, 0.5), whole))
    assert list(bag.figures["members"]) == ["0"]
    assert bag.ensemble.networks == FOLDS


def test_the_winner_stays_where_another_says_it_all(
    folder: Path, prepared: Prepared, whole: LinearModel
) -> None:
    """best.yaml is its configuration."""
    field = raced(folder, 0.55)
    bag = bag_of(field, prepared, (linear_folds(field, 0.99), whole))
    weights = bag.figures["members"]
    assert set(weights) == {"0", LINEAR}
    assert weights["0"] >= SMALLEST_WEIGHT * weights[LINEAR] - 1e-4
    assert bag.ensemble.members[0].config == bag.config


def test_offsets_are_for_f1_and_are_judged_on_other_folds(folder: Path, prepared: Prepared) -> None:
    field = raced(folder, 0.8, objective="val_f1")
    bag = bag_of(field, prepared)
    logs, labels, fold_of = said(field)
    blend = fit_blend(logs, labels, fold_of)
    assert bag.ensemble.offsets == tuple(best_offsets(blend.log_probabilities, labels))
    judged = blend.log_probabilities.copy()
    for fold in ALL:
        held = fold_of == fold
        judged[held] += best_offsets(blend.log_probabilities[~held], labels[~held])
    expected = classification_metrics(softmax(judged, axis=1), labels)
    assert bag.figures["f1"] == pytest.approx(expected["f1"])
    without = classification_metrics(np.exp(blend.log_probabilities), labels)
    assert bag.figures["without_offsets"]["f1"] == pytest.approx(without["f1"])


@pytest.mark.parametrize(("folds", "rows"), [(3, ROWS), (2, ROWS * 2 // 3), (1, ROWS), (0, ROWS)])
def test_a_linear_model_of_fewer_folds_joins_on_these(
    folder: Path, prepared: Prepared, whole: LinearModel, folds: int, rows: int
) -> None:
    """On one alone its weight cannot be found: it is left out."""
    field = raced(folder, 0.8)
    bag = bag_of(field, prepared, (linear_folds(field, 0.9, folds), whole))
    assert (LINEAR in bag.figures["members"]) == (folds > 1)
    assert bag.figures["rows"] == rows
    assert bag.ensemble.networks == FOLDS


def test_networks_whose_weights_are_lost_are_left_out_and_named(
    folder: Path, prepared: Prepared
) -> None:
    field = raced(folder, 0.8, 0.7)
    run = RunFolder(folder)
    first, second = field.now()
    written: dict[int, LSTMClassifier] = {}
    for run_of in first.runs.values():
        config = dataclasses.replace(first.final, seed=run_of.seed)
        model = LSTMClassifier(config, prepared.vocab_size, 2)
        place = trial_folder(run.checkpoints, CONFIRMATION, run_of.number)
        Checkpoints(place).save_weights(run_of.report["step"], model.state_dict(), None)
        written[run_of.number] = model
    place = trial_folder(run.checkpoints, CONFIRMATION, first.runs[1].number)
    place.write("best-000001.safetensors", b"\x08")
    notes: list[str] = []
    kept, found = with_networks(run, prepared, [first, second], notes.append)
    assert [(c.trial, list(c.runs)) for c in kept] == [(0, [0, 2])]  # the second has none at all
    assert [config.seed for config, _ in found[0]] == [1000, 1002]
    for (_, model), fold in zip(found[0], (0, 2), strict=True):
        wanted = written[first.runs[fold].number].state_dict()
        state = model.state_dict()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert len(notes) == 1 + FOLDS
    assert all("weights of run" in note and "cannot be read" in note for note in notes)


def test_networks_alone_are_their_average(prepared: Prepared, folder: Path) -> None:
    field = raced(folder, 0.8)
    mine = networks(field.now(), prepared)[0]
    ensemble = networks_alone(mine, prepared.max_length).eval()
    rows = prepared.splits["test"]
    each = [
        networks_alone([one], prepared.max_length).eval().row_probabilities(rows) for one in mine
    ]
    mean = np.mean(np.log(each), axis=0)
    np.testing.assert_allclose(
        ensemble.row_probabilities(rows), softmax(mean, axis=1), rtol=0, atol=1e-5
    )
