"""fit(): the same numbers from the same seed, stopped and restored anywhere.

They are compared exactly: both trainings run the same kernels on the same batches, here, on as many
threads. The time that they took is another.
"""

from __future__ import annotations

import dataclasses
import io
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, Rows, unlabelled
from lstmcls.fit import (
    Diverged,
    Report,
    TrainingState,
    _keep_best,
    fit,
    report_points,
)
from lstmcls.metrics import METRICS, classification_metrics
from lstmcls.model import class_probabilities


def _state(config: TrainConfig, prepared: Prepared) -> TrainingState:
    return TrainingState.create(config, prepared.vocab_size, len(prepared.labels))


def _fit(state: TrainingState, prepared: Prepared, **options: Any) -> Any:
    pad_to = prepared.info["max_length"] if state.config.padding == "counted" else None
    splits = prepared.splits
    return fit(state, splits["train"], splits["val"], pad_to=pad_to, **options)


def _timeless(reports: list[Report]) -> list[Report]:
    return [dataclasses.replace(report, seconds=0.0) for report in reports]


def _assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_the_same_seed_gives_the_same_numbers(prepared: Prepared, tiny: TrainConfig) -> None:
    first, second = _state(tiny, prepared), _state(tiny, prepared)
    one, two = list(_fit(first, prepared)), list(_fit(second, prepared))
    assert _timeless(one) == _timeless(two)
    _assert_same_weights(first.model.state_dict(), second.model.state_dict())
    other = _state(dataclasses.replace(tiny, seed=1), prepared)
    assert _timeless(list(_fit(other, prepared))) != _timeless(one)


def test_reports_say_what_was_done(prepared: Prepared, tiny: TrainConfig) -> None:
    state = _state(dataclasses.replace(tiny, epochs=1.5), prepared)
    reports = list(_fit(state, prepared))
    assert [report.step for report in reports] == [1, 2, 3]
    assert [report.epoch for report in reports] == [0.5, 1.0, 1.5]
    assert reports[1].tokens == len(prepared.splits["train"].ids)
    assert all(b.seconds >= a.seconds >= 0 for a, b in pairwise(reports))
    for report in reports:
        assert tuple(report.val) == METRICS
        assert set(report.metrics()) == {"train_loss", *(f"val_{name}" for name in METRICS)}
        assert all(math.isfinite(value) for value in report.metrics().values())
    val = prepared.splits["val"]
    again = class_probabilities(state.model, val.on("cpu"))
    assert classification_metrics(again, val.labels) == reports[-1].val


def test_a_config_that_reads_less_trains_as_on_shorter_texts(
    prepared: Prepared, tiny: TrainConfig
) -> None:
    splits = {}
    for name, split in prepared.splits.items():
        ends = zip(split.offsets[:-1], split.offsets[1:], strict=True)
        cut = unlabelled([split.ids[a:b].tolist()[:3] for a, b in ends])
        splits[name] = dataclasses.replace(cut, labels=split.labels)
    shorter = dataclasses.replace(prepared, splits=splits)
    expected = _timeless(list(_fit(_state(tiny, prepared), shorter)))
    config = dataclasses.replace(tiny, max_length=3)
    assert _timeless(list(_fit(_state(config, prepared), prepared))) == expected


@pytest.mark.parametrize("padding", ["masked", "counted"])
def test_rows_of_like_length_share_a_batch_only_where_that_saves_padding(
    padding: str, prepared: Prepared, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[NDArray[np.int64]] = []
    gather = Rows.batch

    def watched(rows: Rows, batch: NDArray[Any], pad_to: int | None = None) -> Any:
        seen.append(rows.lengths[batch])
        return gather(rows, batch, pad_to)

    monkeypatch.setattr(Rows, "batch", watched)
    config = dataclasses.replace(tiny, padding=padding, batch_size=32)
    next(_fit(_state(config, prepared), prepared))
    spread = np.mean([lengths.std() for lengths in seen[:5]])
    overall = prepared.splits["train"].lengths.std()
    assert spread < overall / 2 if padding == "masked" else spread > overall * 0.8


@pytest.mark.parametrize("max_length", [0, 3])
@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("padding", ["masked", "counted"])
def test_a_vector_that_training_never_reads_says_nothing(
    padding: str, averaging: float, max_length: int, prepared: Prepared, tiny: TrainConfig
) -> None:
    decay = {"optimizer": "adamw", "weight_decay": 0.1}
    config = dataclasses.replace(
        tiny, padding=padding, averaging=averaging, max_length=max_length, **decay
    )
    train, unused = prepared.splits["train"], prepared.vocab_size  # an id that no text has
    ends = zip(train.offsets[:-1], train.offsets[1:], strict=True)
    read = {int(i) for a, b in ends for i in train.ids[a:b][: max_length or None]}
    never = sorted({*range(unused + 1)} - read)
    assert {0, unused} <= set(never)
    assert len(read) > 20
    state = TrainingState.create(config, unused + 1, 2)
    drawn = state.model.embedding.weight.detach().clone()
    list(_fit(state, prepared))
    assert state.best_weights is not None
    for weights in (state.model.state_dict(), state.best_weights):
        vectors = weights["embedding.weight"]
        assert (vectors[sorted(read)] != 0).all()
        if padding == "masked":
            assert (vectors[never] == 0).all()
        else:  # the notebook's, from which only the weight decay takes something
            share = vectors[unused] / drawn[unused]
            assert 0.9 < share.min() <= share.max() < 1


def test_it_learns(prepared: Prepared, tiny: TrainConfig) -> None:
    config = dataclasses.replace(tiny, epochs=6, dropout=0.0, lr=0.05)
    reports = list(_fit(_state(config, prepared), prepared))
    assert max(report.val["accuracy"] for report in reports) > 0.9
    assert reports[-1].train_loss < reports[0].train_loss / 2


RESUMED = {
    "dropout": {},
    "random states": {"zero_state": False, "optimizer": "adamw", "schedule": "cosine"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle"},
    "counted": {"padding": "counted", "optimizer": "rmsprop", "zero_state": False},
    "adagrad": {"optimizer": "adagrad", "warmup": 0.2, "layers": 2},
    "averaged": {"averaging": 0.9, "ngrams": 2, "token_dropout": 0.2, "mean_pooling": True},
    "attending": {"attention_pooling": True, "optimizer": "adamw", "weight_decay": 0.1},
}


@pytest.fixture(scope="module", params=RESUMED)
def whole_and_saved(
    request: pytest.FixtureRequest, prepared: Prepared, tiny: TrainConfig
) -> tuple[TrainingState, list[bytes]]:
    """A run that nothing interrupts, and what another one saved after each of its reports."""
    changes: dict[str, Any] = {"epochs": 1.6, "report_every": 0.35, "first_report": 0.2}
    config = dataclasses.replace(tiny, **(changes | RESUMED[request.param]))
    whole, stopped = _state(config, prepared), _state(config, prepared)
    assert len(list(_fit(whole, prepared))) == 6
    saved = []
    for _ in _fit(stopped, prepared):
        file = io.BytesIO()
        torch.save(stopped.to_dict(), file)
        saved.append(file.getvalue())
    return whole, saved


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_run_stopped_after_any_report_goes_on_exactly(
    whole_and_saved: tuple[TrainingState, list[bytes]], stop: int, prepared: Prepared
) -> None:
    whole, saved = whole_and_saved
    wanted = whole.reports
    torch.manual_seed(99)  # another process has other random numbers
    fresh = _state(whole.config, prepared)
    fresh.restore(torch.load(io.BytesIO(saved[stop - 1]), weights_only=True))
    rest = list(_fit(fresh, prepared))
    assert _timeless(fresh.reports) == _timeless(wanted)
    assert _timeless(rest) == _timeless(wanted[stop:])
    assert whole.best is not None
    assert fresh.best is not None
    assert _timeless([fresh.best]) == _timeless([whole.best])
    _assert_same_weights(fresh.model.state_dict(), whole.model.state_dict())
    assert fresh.best_weights is not None
    assert whole.best_weights is not None
    _assert_same_weights(fresh.best_weights, whole.best_weights)


def test_seconds_add_up_over_attempts(prepared: Prepared, tiny: TrainConfig) -> None:
    state = _state(tiny, prepared)
    first = next(_fit(state, prepared))
    fresh = _state(tiny, prepared)
    fresh.restore(state.to_dict())
    last = list(_fit(fresh, prepared))[-1]
    assert last.seconds >= first.seconds > 0


def test_what_the_consumer_draws_changes_nothing(prepared: Prepared, tiny: TrainConfig) -> None:
    config = dataclasses.replace(tiny, zero_state=False)
    wanted = list(_fit(_state(config, prepared), prepared))
    found = []
    for report in _fit(_state(config, prepared), prepared):
        torch.manual_seed(5)
        torch.randn(1000)
        np.random.default_rng().random(10)
        found.append(report)
    assert _timeless(found) == _timeless(wanted)


def test_two_runs_side_by_side_do_not_mix(prepared: Prepared, tiny: TrainConfig) -> None:
    other = dataclasses.replace(tiny, seed=7)
    wanted = [_timeless(list(_fit(_state(c, prepared), prepared))) for c in (tiny, other)]
    pairs = list(zip(*(_fit(_state(c, prepared), prepared) for c in (tiny, other)), strict=True))
    assert [_timeless(list(reports)) for reports in zip(*pairs, strict=True)] == wanted


@pytest.mark.parametrize(
    ("metric", "mode"), [("val_accuracy", "max"), ("val_loss", "min"), ("val_f1", "max")]
)
def test_the_best_weights_are_kept_and_not_the_last(
    metric: str, mode: str, prepared: Prepared, tiny: TrainConfig
) -> None:
    # A rate that overshoots: of some seed, another one on another CPU, the best is not the last.
    wild = dataclasses.replace(tiny, epochs=5, lr=3.0, schedule="constant", dropout=0.0)
    for seed in range(20):
        config = dataclasses.replace(wild, seed=seed)
        state = _state(config, prepared)
        reports = list(_fit(state, prepared, metric=metric, mode=mode))
        values = [report.metrics()[metric] for report in reports]
        best = values.index(max(values) if mode == "max" else min(values))
        if best < len(reports) - 1:
            break
    assert best < len(reports) - 1
    assert state.best == reports[best]
    assert state.best_weights is not None
    model = _state(config, prepared).model
    model.load_state_dict(state.best_weights)
    val = prepared.splits["val"]
    found = classification_metrics(class_probabilities(model, val.on("cpu")), val.labels)
    assert found == reports[best].val


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_wild_rate_diverges(clip_norm: float, prepared: Prepared, tiny: TrainConfig) -> None:
    config = dataclasses.replace(
        tiny, optimizer="sgd", lr=1000.0, momentum=0.99, weight_decay=10, clip_norm=clip_norm
    )
    config = dataclasses.replace(config, epochs=10)
    with pytest.raises(Diverged, match=r"the (output is not finite|loss is (nan|inf))"):
        list(_fit(_state(config, prepared), prepared))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_every_optimizer_with_every_schedule(
    optimizer: str, schedule: str, prepared: Prepared, tiny: TrainConfig
) -> None:
    config = dataclasses.replace(tiny, optimizer=optimizer, schedule=schedule, warmup=0.1)
    state = _state(config, prepared)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    assert len(list(_fit(state, prepared))) == 2
    after = state.model.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_averaged_weights_are_the_running_mean_and_are_kept(
    prepared: Prepared, tiny: TrainConfig
) -> None:
    often = {"epochs": 3, "batch_size": 160, "report_every": 0.5, "first_report": 0.5}
    plain = _state(dataclasses.replace(tiny, **often), prepared)
    plain.begin(prepared.splits["train"])
    means = [{name: weight.clone() for name, weight in plain.model.state_dict().items()}]
    averaged = _state(dataclasses.replace(plain.config, averaging=0.3), prepared)
    for trained, _ in enumerate(_fit(plain, prepared), start=1):
        assert plain.batches == trained  # so that every step is seen here
        decay = min(0.3, (trained + 1) / (trained + 10))
        weights = plain.model.state_dict()
        means.append({n: decay * mean + (1 - decay) * weights[n] for n, mean in means[-1].items()})
    list(_fit(averaged, prepared))
    _assert_same_weights(averaged.model.state_dict(), plain.model.state_dict())
    assert averaged.best_weights is not None
    assert averaged.best is not None
    for name, weight in averaged.best_weights.items():
        assert_close(weight, means[averaged.best.step][name])


def test_label_smoothing_raises_the_loss_that_is_trained(
    prepared: Prepared, tiny: TrainConfig
) -> None:
    config = dataclasses.replace(tiny, epochs=4, dropout=0.0, lr=0.05)
    smooth = dataclasses.replace(config, label_smoothing=0.4)
    plain = list(_fit(_state(config, prepared), prepared))[-1]
    smoothed = list(_fit(_state(smooth, prepared), prepared))[-1]
    # The least possible loss at 0.4 with two classes is the entropy of (0.8, 0.2).
    assert smoothed.train_loss >= 0.5004 > plain.train_loss


@settings(max_examples=200, deadline=None)
@given(st.floats(0.01, 20), st.floats(0.01, 25), st.floats(0.01, 25), st.integers(1, 400))
def test_report_points_rise_to_the_end(
    epochs: float, every: float, first: float, per_epoch: int
) -> None:
    config = TrainConfig(epochs=epochs, report_every=every, first_report=first)
    points = report_points(config, per_epoch)
    batches, trained = zip(*points, strict=True)
    assert list(batches) == sorted(set(batches))
    assert list(trained) == sorted(set(trained))
    assert batches[0] >= 1
    assert trained[-1] == epochs
    assert batches[-1] == max(1, math.ceil(round(epochs * per_epoch, 6)))
    # A report never claims more than was trained.
    assert all(e * per_epoch <= b + 1e-6 for b, e in points)


def test_report_points_by_hand() -> None:
    config = TrainConfig(epochs=2, report_every=0.5)
    assert report_points(config, 20) == [(5, 0.25), (10, 0.5), (20, 1.0), (30, 1.5), (40, 2)]
    late = TrainConfig(epochs=2, report_every=0.5, first_report=0.7)
    assert report_points(late, 10) == [(5, 0.5), (10, 1.0), (15, 1.5), (20, 2)]
    assert report_points(config, 1) == [(1, 1.0), (2, 2)]
    assert report_points(TrainConfig(epochs=0.1), 3) == [(1, 0.1)]
    assert 0.55 * 100 > 55  # as floats
    assert report_points(TrainConfig(epochs=0.55, report_every=2, first_report=1), 100) == [
        (55, 0.55)
    ]
    early = TrainConfig(epochs=2, first_report=0.02)
    assert report_points(early, 100) == [
        (2, 0.02), (6, 0.06), (18, 0.18), (100, 1.0), (200, 2)
    ]  # fmt: skip
    # Two reports never bear the same epoch.
    assert report_points(TrainConfig(epochs=1.25, report_every=1), 1) == [(1, 1.0), (2, 1.25)]


@pytest.mark.parametrize(("mode", "kept"), [("max", 0.4), ("min", 0.2)])
def test_a_first_report_that_is_no_number_is_beaten(
    mode: str, kept: float, prepared: Prepared, tiny: TrainConfig
) -> None:
    state = TrainingState.create(tiny, prepared.vocab_size, 2)
    for step, value in enumerate([math.nan, 0.2, 0.4, math.nan], start=1):
        report = Report(step, step, 0.0, {"roc_auc": value}, 0, 0.0)
        _keep_best(state, report, "val_roc_auc", mode)
    assert state.best is not None
    assert state.best.val["roc_auc"] == kept


SCALED: dict[str, dict[str, Any]] = {
    "masked": {"ngrams": 2, "mean_pooling": True, "attention_pooling": True, "layers": 2},
    "counted": {"padding": "counted", "zero_state": False, "max_pooling": False},
    "unclipped": {"clip_norm": 0.0, "optimizer": "sgd", "momentum": 0.9, "lr": 0.1},
}


@pytest.mark.parametrize("name", SCALED)
def test_a_scaled_loss_trains_to_the_same_bits(
    name: str, prepared: Prepared, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal, not close: powers of two are exact, as `precision.backward` says."""
    config = dataclasses.replace(tiny, **SCALED[name])
    plain, scaled = _state(config, prepared), _state(config, prepared)
    wanted = _timeless(list(_fit(plain, prepared)))
    monkeypatch.setattr("lstmcls.fit.loss_scale", lambda config, device: 2.0**12)
    assert _timeless(list(_fit(scaled, prepared))) == wanted
    _assert_same_weights(scaled.model.state_dict(), plain.model.state_dict())
