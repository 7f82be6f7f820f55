"""LSTMClassifier against nn.LSTM with the same weights, switch by switch."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import THREADS, assert_close, assert_close_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstmcls.config import TrainConfig
from lstmcls.dataset import Rows, TokenDataset, unlabelled
from lstmcls.model import LSTMClassifier, _max_over_time, class_probabilities

VOCABULARY, CLASSES = 20, 3
LENGTHS = [5, 1, 7, 3]


def _model(**fields: Any) -> LSTMClassifier:
    plain = {"dropout": 0.0, "bidirectional": False, "max_pooling": False, "zero_state": True}
    torch.manual_seed(0)
    config = TrainConfig(embedding_dim=4, hidden_size=6, **(plain | fields))
    return LSTMClassifier(config, VOCABULARY, CLASSES).eval()


def _batch(lengths: list[int], pad_to: int | None = None) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(len(lengths), pad_to or max(lengths), dtype=torch.int64)
    draw = torch.Generator().manual_seed(1)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(2, VOCABULARY, (length,), generator=draw)
    return ids, torch.tensor(lengths)


def _reference_lstm(model: LSTMClassifier) -> nn.LSTM:
    """One nn.LSTM with the weights of all the model's layers and directions."""
    config = model.config
    lstm = nn.LSTM(
        config.embedding_dim,
        config.hidden_size,
        config.layers,
        batch_first=True,
        bidirectional=config.bidirectional,
    )
    weights = {
        name.replace("_l0", f"_l{depth}") + ("_reverse" if direction else ""): weight
        for depth, layer in enumerate(model.lstms)
        for direction, part in enumerate(cast(nn.ModuleList, layer))
        for name, weight in part.state_dict().items()
    }
    lstm.load_state_dict(weights)
    return lstm


def _reference(model: LSTMClassifier, ids: Tensor, lengths: Tensor) -> Tensor:
    config, lstm = model.config, _reference_lstm(model)
    x = model.embedding(ids)
    if config.padding == "counted":
        outputs = lstm(x)[0]
        features = outputs.amax(dim=1) if config.max_pooling else outputs[:, -1]
        return cast(Tensor, model.head(features))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, (hidden, _) = lstm(packed)
    if config.max_pooling:
        padded, _ = pad_packed_sequence(outputs, batch_first=True, padding_value=-torch.inf)
        features = padded.amax(dim=1)
    else:
        features = torch.cat(list(hidden[-2:] if config.bidirectional else hidden[-1:]), dim=1)
    return cast(Tensor, model.head(features))


@pytest.mark.parametrize("padding", ["masked", "counted"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("max_pooling", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_logits_and_gradients_are_those_of_nn_lstm(
    padding: str, bidirectional: bool, max_pooling: bool, layers: int
) -> None:
    model = _model(
        padding=padding, bidirectional=bidirectional, max_pooling=max_pooling, layers=layers
    )
    ids, lengths = _batch(LENGTHS, pad_to=9)
    found, wanted = model(ids, lengths), _reference(model, ids, lengths)
    assert_close(found, wanted)
    gradients = [
        torch.autograd.grad(logits.square().sum(), [model.embedding.weight, model.head.weight])
        for logits in (found, wanted)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        assert_close(mine, theirs)


def test_masked_dropout_acts_on_the_input_and_on_the_pooled_features() -> None:
    model = _model(dropout=0.5).train()
    ids, lengths = _batch(LENGTHS)
    torch.manual_seed(3)
    found = model(ids, lengths)
    torch.manual_seed(3)
    embedded = model.embedding(ids)
    x = embedded * functional.dropout(torch.ones_like(embedded[:, :1]), 0.5)  # at every time step
    outputs = cast(nn.ModuleList, model.lstms[0])[0](x)[0]
    last = outputs[torch.arange(len(ids)), lengths - 1]
    wanted = model.head(functional.dropout(last, 0.5))
    assert_close(found, wanted)
    assert not torch.allclose(found, model.eval()(ids, lengths))


def test_counted_dropout_with_one_layer_drops_nothing() -> None:
    model = _model(dropout=0.5, padding="counted")
    ids, lengths = _batch(LENGTHS)
    # In training and in evaluation another kernel computes it.
    assert_close(model.train()(ids, lengths), model.eval()(ids, lengths))


def test_counted_dropout_acts_between_layers_only() -> None:
    model = _model(dropout=0.5, padding="counted", layers=2).train()
    ids, lengths = _batch(LENGTHS)
    torch.manual_seed(3)
    found = model(ids, lengths)
    first, second = (cast(nn.ModuleList, layer)[0] for layer in model.lstms)
    torch.manual_seed(3)
    between = functional.dropout(first(model.embedding(ids))[0].contiguous(), 0.5)
    assert_close(found, model.head(second(between)[0][:, -1]))


def test_dropout_is_off_in_evaluation() -> None:
    ids, lengths = _batch(LENGTHS)
    dropped, whole = _model(dropout=0.9), _model(dropout=0.0)
    assert torch.equal(dropped(ids, lengths), whole(ids, lengths))  # one kernel, one shape


@pytest.mark.parametrize("training", [True, False])
def test_random_states_are_fresh_normal_numbers_at_every_forward(training: bool) -> None:
    model = _model(zero_state=False, bidirectional=True, layers=2).train(training)
    states: list[Tensor] = []

    def keep(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        states.extend(arguments[1])

    for layer in model.lstms:
        for part in cast(nn.ModuleList, layer):
            part.register_forward_pre_hook(keep)
    ids, lengths = _batch([2] * 200)
    first, second = model(ids, lengths), model(ids, lengths)
    assert not torch.equal(first, second)
    assert len(states) == 2 * 2 * 2 * 2  # forwards, layers, directions, h0 and c0
    assert all(state.shape == (1, 200, 6) for state in states)
    assert len({float(state[0, 0, 0]) for state in states}) == len(states)
    values = torch.stack(states)
    assert abs(float(values.mean())) < 0.05
    assert abs(float(values.std()) - 1) < 0.05
    assert abs(float((values.abs() < 1).float().mean()) - 0.6827) < 0.03


def test_a_random_state_is_the_state_of_nn_lstm() -> None:
    model = _model(zero_state=False)
    ids, lengths = _batch([4, 4])
    states = model.initial_states(2, torch.Generator().manual_seed(5))
    found = model(ids, lengths, states)
    draw = torch.randn(2, 1, 2, 6, generator=torch.Generator().manual_seed(5))
    outputs = _reference_lstm(model)(model.embedding(ids), (draw[0], draw[1]))[0]
    assert_close(found, model.head(outputs[:, -1]))


rows_of_lengths = st.lists(st.integers(1, 8), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(rows_of_lengths, st.integers(0, 6), st.data())
def test_masked_logits_do_not_depend_on_the_padding(
    lengths: list[int], extra: int, data: st.DataObject
) -> None:
    switches = ("bidirectional", "max_pooling", "mean_pooling", "attention_pooling")
    numbers = {"layers": data.draw(st.integers(1, 2)), "ngrams": data.draw(st.integers(0, 3))}
    model = _model(**{name: data.draw(st.booleans()) for name in switches}, **numbers)
    _count_ngrams(model)
    ids, row_lengths = _batch(lengths, pad_to=max(lengths) + extra)
    together = model(ids, row_lengths)
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length], row_lengths[row : row + 1])
        assert_close(together[row], alone[0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("max_pooling", [False, True])
def test_counted_logits_depend_on_the_padding(bidirectional: bool, max_pooling: bool) -> None:
    model = _model(padding="counted", bidirectional=bidirectional, max_pooling=max_pooling)
    short, long = _batch([3], pad_to=3), _batch([3], pad_to=12)
    assert not torch.allclose(model(*short), model(*long), atol=1e-4)


def test_max_pooling_ignores_padding_that_would_win() -> None:
    model = _model(max_pooling=True)
    with torch.no_grad():
        model.embedding.weight[0] = 100.0  # the padding's vector
    ids, lengths = _batch([2, 6])
    assert_close(model(ids, lengths)[0], model(ids[:1, :2], lengths[:1])[0])


def test_steps_that_are_maximal_together_share_the_gradient() -> None:
    """As of `amax`; over equal padding, read as any token, an LSTM's output soon stays the same."""
    x = torch.tensor([[[1.0, 5], [3, 2], [3, 5], [3, 0]]], requires_grad=True)
    (found,) = torch.autograd.grad(_max_over_time(x).sum(), x)
    (expected,) = torch.autograd.grad(x.amax(dim=1).sum(), x)
    assert_close(found, expected)
    assert_close(found.sum(dim=1), torch.ones(1, 2))


@pytest.mark.parametrize("max_pooling", [False, True])
def test_mean_pooling_reads_the_mean_over_real_tokens_too(max_pooling: bool) -> None:
    model = _model(bidirectional=True, max_pooling=max_pooling, mean_pooling=True)
    ids, lengths = _batch(LENGTHS)
    found = model(ids, lengths)
    for row, length in enumerate(LENGTHS):
        output = _reference_lstm(model)(model.embedding(ids[row : row + 1, :length]))[0][0]
        ends = torch.cat([output[-1, :6], output[0, 6:]])
        first = output.amax(dim=0) if max_pooling else ends
        expected = model.head(torch.cat([first, output.mean(dim=0)]))
        assert_close(found[row], expected)


def test_attention_pooling_weighs_the_steps_by_what_they_say() -> None:
    model = _model(bidirectional=True, max_pooling=True, attention_pooling=True)
    ids, lengths = _batch(LENGTHS)
    assert model.queries is not None
    for query in (torch.zeros(2, 6), 3 * torch.randn(2, 6)):
        with torch.no_grad():
            model.queries.copy_(query)
        found = model(ids, lengths)
        for row, length in enumerate(LENGTHS):
            output = _reference_lstm(model)(model.embedding(ids[row : row + 1, :length]))[0][0]
            means = []
            for direction, mine in zip(output.split(6, dim=1), query, strict=True):
                weights = torch.exp(direction @ mine)
                means.append((weights[:, None] * direction).sum(0) / weights.sum())
            expected = model.head(torch.cat([output.amax(dim=0), *means]))
            assert_close(found[row], expected)


def _count_ngrams(model: LSTMClassifier) -> None:
    if model.ngrams is not None:
        draw = np.random.default_rng(2)
        rows = unlabelled(draw.integers(2, VOCABULARY, size=(50, 8)).tolist())
        labels = draw.integers(0, CLASSES, size=50, dtype=np.int32)
        model.ngrams.count(TokenDataset(rows.ids, rows.offsets, labels))


@pytest.mark.parametrize("padding", ["masked", "counted"])
def test_the_evidence_of_ngrams_is_added(padding: str) -> None:
    model = _model(ngrams=2, padding=padding)
    ids, lengths = _batch(LENGTHS)
    without = model(ids, lengths)  # nothing is counted
    _count_ngrams(model)
    assert model.ngrams is not None
    labels = torch.tensor([0, 1, 2, 0])
    real = torch.arange(max(LENGTHS)) < lengths[:, None]
    for counted in (None, labels):
        evidence = model.ngrams(ids, real, counted)
        assert evidence.abs().sum(dim=1).min() > 0.01
        found = model(ids, lengths, counted=counted)
        assert_close(found, without + evidence)


def test_token_dropout_leaves_out_whole_tokens_in_training() -> None:
    model = _model(token_dropout=0.4)
    seen: list[Tensor] = []
    model.lstms[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[index, union-attr, operator]
    ids, lengths = _batch([50] * 20)
    model(ids, lengths)
    model.train()(ids, lengths)
    vectors = model.embedding(ids)
    assert torch.equal(seen[0], vectors)  # copied
    kept = (seen[1] == vectors).all(dim=2)  # copied, or times 1
    assert (kept | (seen[1] == 0).all(dim=2)).all()
    assert 0.5 < kept.float().mean() < 0.7


def _data(lengths: list[int]) -> TokenDataset:
    draw = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = draw.integers(1, VOCABULARY, offsets[-1]).astype(np.int16)
    return TokenDataset(ids, offsets, np.zeros(len(lengths), dtype=np.int32))


def test_probabilities_keep_the_order_of_the_rows() -> None:
    model = _model(bidirectional=True)
    lengths = [int(n) for n in np.random.default_rng(1).integers(1, 30, 300)]
    data = _data(lengths)
    rows = data.on("cpu")
    found = class_probabilities(model, rows)
    assert found.shape == (300, CLASSES)
    assert_close_probabilities(found.sum(axis=1), np.ones(300))
    for row in (0, 1, 150, 299):
        ids, length, _ = rows.batch(np.array([row]))
        alone = model(ids, length).softmax(dim=1)[0].detach().numpy()
        assert_close_probabilities(found[row], alone)


@pytest.mark.parametrize("training", [True, False])
def test_probabilities_repeat_with_random_states_and_leave_the_mode(training: bool) -> None:
    model = _model(zero_state=False, dropout=0.5).train(training)
    data = _data([3, 5, 2])
    before = torch.get_rng_state()
    first = class_probabilities(model, data.on("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(7)
    again = class_probabilities(model, data.on("cpu"))
    np.testing.assert_array_equal(first, again)  # the same batches on the same threads
    assert model.training is training


@pytest.mark.parametrize("zero_state", [True, False])
def test_probabilities_are_the_same_with_any_number_of_threads(zero_state: bool) -> None:
    model = _model(bidirectional=True, layers=2, zero_state=zero_state)
    data = _data([int(n) for n in np.random.default_rng(1).integers(1, 30, 300)])
    try:
        torch.set_num_threads(1)
        expected = class_probabilities(model, data.on("cpu"))
        torch.set_num_threads(3)
        found = class_probabilities(model, data.on("cpu"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(THREADS)
    np.testing.assert_array_equal(found, expected)  # one thread computes each batch, three or one


@pytest.mark.parametrize("zero_state", [True, False])
@pytest.mark.parametrize("padding", ["masked", "counted"])
def test_long_rows_are_judged_few_at_a_time_with_the_same_states(
    padding: str, zero_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(bidirectional=True, zero_state=zero_state, padding=padding)
    rows = _data([int(n) for n in np.random.default_rng(1).integers(1, 40, 300)]).on("cpu")
    pad_to = 40 if padding == "counted" else None
    whole = class_probabilities(model, rows, pad_to)
    sizes: list[int] = []
    gather = Rows.batch

    def watched(rows: Rows, batch: Any, pad_to: int | None = None) -> Any:
        ids, lengths, labels = gather(rows, batch, pad_to)
        sizes.append(ids.numel())
        return ids, lengths, labels

    monkeypatch.setattr(Rows, "batch", watched)
    monkeypatch.setattr("lstmcls.model.EVAL_TOKENS", 100)
    found = class_probabilities(model, rows, pad_to)
    assert max(sizes) <= 100
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)  # other shapes, other last bits
    monkeypatch.setattr("lstmcls.model.EVAL_TOKENS", 1)  # not even one row
    np.testing.assert_allclose(class_probabilities(model, rows, pad_to), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_random_states_are_drawn_as_they_are_needed(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(zero_state=False)
    monkeypatch.setattr("lstmcls.model.EVAL_BATCH", 4)
    drawn, ahead = 0, []
    draw, forward = model.initial_states, model.forward
    lock = threading.Lock()

    def drawing(*arguments: Any) -> Any:
        nonlocal drawn
        with lock:
            drawn += 1
            ahead.append(drawn)
        return draw(*arguments)

    def passing(*arguments: Any) -> Tensor:
        nonlocal drawn
        logits = forward(*arguments)
        with lock:
            drawn -= 1
        return logits

    monkeypatch.setattr(model, "initial_states", drawing)
    monkeypatch.setattr(model, "forward", passing)
    try:
        torch.set_num_threads(threads)
        class_probabilities(model, _data([5] * 300).on("cpu"))
    finally:
        torch.set_num_threads(1)
    assert len(ahead) == 75
    assert max(ahead) <= (1 if threads == 1 else 2 * threads + 1)


def test_a_fault_in_a_thread_is_raised() -> None:
    model, data = _model(), _data([3] * 300)
    data.ids[-1] = VOCABULARY  # not in the embedding
    try:
        torch.set_num_threads(2)
        with pytest.raises(IndexError):
            class_probabilities(model, data.on("cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(THREADS)


def test_a_network_without_numbers_takes_no_compiler() -> None:
    code = (
        "import sys, torch; from lstmcls.config import TrainConfig; "
        "from lstmcls.model import LSTMClassifier; torch.set_default_device('meta'); "
        "LSTMClassifier(TrainConfig(), 9, 2); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
