"""LSTMClassifier: the notebook's network with four switches, and its class probabilities.

Rows are padded at the end. `padding: masked` reads only real tokens: the last real token,
the maximum over real tokens, a reverse direction that starts at the last real token.
`padding: counted` is the notebook's arithmetic: padding is read like any other token.
No packed sequences: padded FP32 input is what oneDNN and cuDNN are fast at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lstmcls.batches import ordered_batches
from lstmcls.config import TrainConfig
from lstmcls.dataset import Rows
from lstmcls.ngrams import NgramEvidence

EVAL_BATCH = 128  # rows of a forward pass without gradients, at most,
EVAL_TOKENS = 2**16  # and its tokens, padding included: of long rows so many take memory enough


class LSTMClassifier(nn.Module):
    """Token ids [B, T] and lengths [B] to class logits [B, C].

    The four switches of `config`:
        bidirectional: a second LSTM reads each row from its end; features double.
        dropout: masked: on the embedded input, where it drops the same features of a row at
            every time step (Gal & Ghahramani 2016), on what goes from layer to layer likewise,
            and on the pooled features. counted: between LSTM layers only, as
            `nn.LSTM(dropout=...)`, which with one layer drops nothing.
        zero_state: h0 and c0 are zeros; otherwise fresh N(0, 1) at every forward pass.
        max_pooling: maximum over time; otherwise the last time step (of the reverse
            direction: masked its own last step, counted its output at the row's last step).
    Beyond the notebook:
        mean_pooling: the mean over time is read too (concat pooling, Howard & Ruder 2018).
        attention_pooling: a mean weighted by the softmax over time of each output's product with
            a learned vector is read too (Zhou et al. 2016, section 3.3); it begins as the mean.
        ngrams: the evidence of n-grams of up to so many tokens is added (see ngrams.py).
        token_dropout: in training, tokens whose vector is 0 (Iyyer et al. 2015, word dropout).
    """

    def __init__(self, config: TrainConfig, vocab_size: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        directions = 2 if config.bidirectional else 1
        width = config.hidden_size * directions
        inputs = [config.embedding_dim] + [width] * (config.layers - 1)
        vectors = torch.empty(vocab_size, config.embedding_dim)
        if not vectors.is_meta:  # where it would draw nothing, but import a compiler for seconds
            nn.init.normal_(vectors)
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim, _weight=vectors)
        self.lstms = nn.ModuleList(
            nn.ModuleList(
                nn.LSTM(size, config.hidden_size, batch_first=True) for _ in range(directions)
            )
            for size in inputs
        )
        poolings = 1 + config.mean_pooling + config.attention_pooling
        self.head = nn.Linear(width * poolings, num_classes)
        self.queries: nn.Parameter | None = None
        if config.attention_pooling:
            self.queries = nn.Parameter(torch.zeros(directions, config.hidden_size))
        self.ngrams = NgramEvidence(config.ngrams, num_classes) if config.ngrams else None

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        states: Tensor | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, C]; `states` as of `initial_states`, which draws them where none are given.

        `counted`: labels [B] of texts that the n-grams were counted in.
        """
        masked = self.config.padding == "masked"
        steps = torch.arange(ids.shape[1], device=ids.device)
        tokens = real = steps < lengths[:, None]
        if not masked:  # but for the n-grams, which were counted without padding
            lengths = torch.full_like(lengths, ids.shape[1])
            real = torch.ones_like(real)
        if states is None:
            states = self.initial_states(ids.shape[0])
        # The reverse direction reads real tokens from the last to the first, then padding.
        backwards = torch.where(real, lengths[:, None] - 1 - steps, steps)
        x = self._drop_tokens(self.embedding(ids))
        if masked:
            x = self._drop_features(x)
        for depth, lstms in enumerate(self.lstms):
            initial = None if states is None else states[depth]
            outputs = self._layer(cast(nn.ModuleList, lstms), x, backwards, initial)
            if depth + 1 < len(self.lstms):
                x = torch.cat(_in_text_order(outputs, backwards), dim=2)
                x = self._drop_features(x) if masked else self._drop(x)
        features = self._pool(outputs, real, lengths, backwards)
        logits: Tensor = self.head(self._drop(features) if masked else features)
        return logits if self.ngrams is None else logits + self.ngrams(ids, tokens, counted)

    def initial_states(self, rows: int, generator: torch.Generator | None = None) -> Tensor | None:
        """h0 and c0 [layers, directions, 2, rows, H], drawn on the CPU; None: they are zeros."""
        if self.config.zero_state:
            return None
        directions = len(cast(nn.ModuleList, self.lstms[0]))
        shape = (len(self.lstms), directions, 2, rows, self.config.hidden_size)
        return torch.randn(shape, generator=generator)

    def _layer(
        self, lstms: nn.ModuleList, x: Tensor, backwards: Tensor, states: Tensor | None
    ) -> list[Tensor]:
        """Each direction's output [B, T, H], in the order in which that direction reads."""
        inputs = [x, _reordered(x, backwards)] if len(lstms) == 2 else [x]
        if states is None:
            return [lstm(read)[0] for lstm, read in zip(lstms, inputs, strict=True)]
        pairs = [(state[:1], state[1:]) for state in states.to(x.device, x.dtype).unbind()]
        return [lstm(read, pair)[0] for lstm, read, pair in zip(lstms, inputs, pairs, strict=True)]

    def _pool(
        self, outputs: list[Tensor], real: Tensor, lengths: Tensor, backwards: Tensor
    ) -> Tensor:
        """Features [B, F] of each direction's output [B, T, H]."""
        features = [self._strongest_or_last(outputs, real, lengths, backwards)]
        if self.config.mean_pooling:
            share = (real / lengths[:, None]).to(outputs[0].dtype)
            features += [_weighted(output, share) for output in outputs]
        if self.queries is not None:
            for output, query in zip(outputs, self.queries, strict=True):
                scores = (output @ query).masked_fill(~real, -torch.inf)
                features.append(_weighted(output, scores.softmax(dim=1)))
        return torch.cat(features, dim=1)

    def _strongest_or_last(
        self, outputs: list[Tensor], real: Tensor, lengths: Tensor, backwards: Tensor
    ) -> Tensor:
        if self.config.max_pooling:
            # An LSTM's output lies in (-1, 1), so this keeps padding from being the maximum; the
            # backward pass of an addition costs next to nothing.
            below = torch.where(real, 0.0, -4.0).to(outputs[0].dtype)[..., None]
            return torch.cat([_max_over_time(o + below) for o in outputs], dim=1)
        if self.config.padding == "counted":
            outputs = _in_text_order(outputs, backwards)
        rows = torch.arange(lengths.shape[0], device=lengths.device)
        return torch.cat([output[rows, lengths - 1] for output in outputs], dim=1)

    def _drop_tokens(self, x: Tensor) -> Tensor:
        """`x` [B, T, E] without a share of its tokens; not scaled up, as none of it is missed."""
        if not self.training or not self.config.token_dropout:
            return x
        kept = torch.rand(x.shape[:2], device=x.device) >= self.config.token_dropout
        return x * kept[..., None]

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.config.dropout, self.training)

    def _drop_features(self, x: Tensor) -> Tensor:
        if not self.training or not self.config.dropout:
            return x
        return x * self._drop(torch.ones_like(x[:, :1]))


class _MaxOverTime(torch.autograd.Function):
    """`x.amax(dim=1)` [B, F]: its own backward pass is slow, as is the forward pass of `max`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        largest = x.amax(dim=1)
        ctx.save_for_backward(x, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, largest = ctx.saved_tensors
        there = (x == largest[:, None]).to(x.dtype)
        spread: Tensor = there * (gradient / there.sum(dim=1))[:, None]
        return spread


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """The sum over time [B, F] of `x` [B, T, F] times `weights` [B, T]."""
    mean: Tensor = (weights.to(x.dtype)[:, None] @ x)[:, 0]
    return mean


def _max_over_time(x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return x.amax(dim=1)
    largest: Tensor = _MaxOverTime.apply(x)  # type: ignore[no-untyped-call]
    return largest


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """`x` [B, T, F] with the steps of each row in the order [B, T]: whole rows are copied."""
    rows = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return functional.embedding(rows + order, x.flatten(0, 1))


def _in_text_order(outputs: list[Tensor], backwards: Tensor) -> list[Tensor]:
    """The reverse direction's output turned round again; the index is its own inverse."""
    return outputs[:1] + [_reordered(o, backwards) for o in outputs[1:]]


def class_probabilities(
    model: LSTMClassifier, rows: Rows, pad_to: int | None = None
) -> NDArray[np.float32]:
    """Probabilities [rows, C] of every row; the rows are on the model's device.

    Random initial states are drawn from the config's seed, so that the same rows get the same
    states every time and everywhere, and the same numbers on one machine. The last digits of a
    row's numbers depend on the rows beside it, on the CPU and, where there is a single batch, on
    the number of threads: of several batches each thread takes one.
    """
    result = torch.empty(len(rows), model.head.out_features, device=rows.ids.device)
    was_training = model.training
    model.eval()

    @torch.inference_mode()
    def compute(batch: NDArray[np.int64], states: Tensor | None) -> None:
        ids, lengths, _ = rows.batch(batch, pad_to)
        result[rows.index(batch)] = model(ids, lengths, states).float().softmax(dim=1)

    batches = list(ordered_batches(rows.lengths, EVAL_BATCH))
    passes = _passes(model, batches, rows.lengths, pad_to)
    if rows.ids.is_cuda or len(batches) < 2 or torch.get_num_threads() == 1:
        for batch, states in passes:
            compute(batch, states)
    else:
        _side_by_side(compute, passes)
    model.train(was_training)
    return result.cpu().numpy()


def _passes(
    model: LSTMClassifier,
    batches: Iterable[NDArray[np.int64]],
    lengths: NDArray[np.int32],
    pad_to: int | None,
) -> Iterator[tuple[NDArray[np.int64], Tensor | None]]:
    """Row numbers and initial states of each forward pass: `batches`, cut to EVAL_TOKENS.

    Random states are drawn for whole batches, one after the other as they are asked for: so a row's
    are the same whatever fits into a pass, and few are held.
    """
    generator = torch.Generator().manual_seed(model.config.seed)
    for batch in batches:
        states = model.initial_states(len(batch), generator)
        fitting = max(1, EVAL_TOKENS // (pad_to or int(lengths[batch].max())))
        for start in range(0, len(batch), fitting):
            part = slice(start, start + fitting)
            yield batch[part], None if states is None else states[..., part, :]


def _side_by_side(work: Callable[..., None], calls: Iterable[tuple[Any, ...]]) -> None:
    """`work` of the arguments of each of `calls`, as many at a time as PyTorch may use threads.

    Within one LSTM, whose steps are short and wait for each other, threads gain little. `calls` is
    read little further than what is under way: `Executor.map` would read all of it first.
    """
    threads = torch.get_num_threads()
    running = deque[Future[None]]()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for arguments in calls:
                if len(running) == 2 * threads:
                    running.popleft().result()
                running.append(pool.submit(work, *arguments))
            for future in running:
                future.result()
    finally:
        torch.set_num_threads(threads)  # which parts of PyTorch keep for the whole process
