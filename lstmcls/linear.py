"""A linear text classifier: TF-IDF of n-grams of tokens and characters, and logistic regression.

It is what an LSTM has to beat (Wang & Manning 2012) and, as it errs elsewhere, a good member of an
ensemble with one. It is trained in seconds on a CPU, and knows no order beyond its n-grams.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lstmcls.cli import BadInput
from lstmcls.dataset import TokenDataset
from lstmcls.metrics import classification_metrics
from lstmcls.ngrams import hashes
from lstmcls.tfidf import BUCKETS, Span, Spans, counted, grams, kept, spans_of, stacked, weighted
from lstmcls.tokenizer import UNK_ID

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

STRENGTHS = (1.0, 4.0, 16.0, 64.0)  # the inverse of the regularization; held-out rows choose
MOST_KEPT = 2**19  # n-grams that have weights, the most frequent ones;
MOST_WEIGHTS = 2**22  # fewer where there are many classes
# What training may take; of more rows some are drawn. Measured on 20,000 film reviews, which are
# just below both: 16 s of one CPU core and 3 s for each strength, 0.9 GB.
MOST_GRAMS = 2**27  # n-grams counted
MOST_ENTRIES = 2**25  # different n-grams of all rows, some 28 bytes each in the solver
FEW_CLASSES = 8  # of more classes, each of which takes its time, the entries are fewer


class LinearModel(nn.Module):
    """log P(class) of texts: one logistic regression for each class, scaled to sum to 1.

    Without a weight it knows nothing: `fit_linear` makes one, and `of` makes one of its
    `state_dict()`, which holds all that it needs.
    """

    slots: Tensor  # int32 [K], ascending: the n-grams that have weights
    idf: Tensor  # float32 [1 + K]; row 0: all other n-grams
    weights: Tensor  # float32 [1 + K, C]
    bias: Tensor  # float32 [C]
    spans: Tensor  # int32 [2, 2]: the shortest and longest n-gram of tokens, of characters
    index: Tensor  # int32 [2 * BUCKETS]: each slot's row in `weights`

    def __init__(self, n_grams: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("slots", torch.zeros(n_grams, dtype=torch.int32))
        self.register_buffer("idf", torch.zeros(1 + n_grams))
        self.register_buffer("weights", torch.zeros(1 + n_grams, classes))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("spans", torch.zeros(2, 2, dtype=torch.int32))
        # Large and told by `slots`, so not kept with the weights.
        self.register_buffer("index", torch.zeros(0, dtype=torch.int32), persistent=False)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> LinearModel:
        """The model whose `state_dict()` this is.

        Raises:
            BadInput: it is not that of a linear model.
        """
        sized = {"slots", "bias"} <= state.keys() and all(t.dim() for t in state.values())
        model = cls(len(state["slots"]), len(state["bias"])) if sized else cls(0, 0)
        for name, wanted in model.state_dict().items():
            found = state.get(name)
            if found is None or (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
                raise BadInput(f"linear model: tensor '{name}' is missing or of another shape")
        if (
            len(state["slots"])
            and not 0 <= int(state["slots"].min()) <= int(state["slots"].max()) < 2 * BUCKETS
        ):
            raise BadInput("linear model: tensor 'slots' has a value out of range")
        model.load_state_dict(dict(state))
        return model.indexed()

    def indexed(self) -> LinearModel:
        """Itself, with the `index` that its slots tell."""
        self.index = torch.zeros(2 * BUCKETS, dtype=torch.int32, device=self.slots.device)
        rows = torch.arange(1, 1 + len(self.slots), dtype=torch.int32, device=self.slots.device)
        self.index[self.slots.long()] = rows
        return self

    @property
    def reads(self) -> Spans:
        """`spans` as numbers."""
        tokens, characters = self.spans.tolist()
        return (tokens[0], tokens[1]), (characters[0], characters[1])

    def forward(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        character_ids: Tensor | None = None,
        character_lengths: Tensor | None = None,
    ) -> Tensor:
        """log P(class) [B, C] of padded token ids [B, T] and code units [B, S], all int64."""
        tokens, characters = self.reads
        total = self.bias + self._evidence(input_ids, lengths, tokens, 0)
        if characters[1]:
            if character_ids is None or character_lengths is None:
                raise ValueError("this linear model reads characters")
            total = total + self._evidence(character_ids, character_lengths, characters, BUCKETS)
        return (-functional.softplus(-total)).log_softmax(dim=1)

    def _evidence(self, ids: Tensor, lengths: Tensor, span: Span, base: int) -> Tensor:
        """One block's part of the sums [B, C]."""
        places = torch.arange(ids.shape[1], device=ids.device)
        known = within = (places < lengths[:, None]) & (ids != UNK_ID)
        found = []
        for n, hashed in enumerate(hashes(ids, span[1]), 1):
            if n > 1:
                within = within[:, :-1] & known[:, n - 1 :]
            if n >= span[0]:
                found.append(self.index[base + hashed % BUCKETS].long() * within)
        # One that has no weight is added: a text may be too short for any.
        index = functional.pad(torch.cat(found, dim=1), (1, 0)).sort(dim=1).values
        # How often an n-gram is in its row is the length of its run among the sorted.
        run = functional.pad(index[:, 1:] != index[:, :-1], (1, 0)).long().cumsum(dim=1)
        once = torch.ones_like(index, dtype=torch.float32)
        count = torch.zeros_like(once).scatter_add(1, run, once).gather(1, run)
        value = (1 + count.log()) * self.idf[index]
        # Each of the `count` places adds its share.
        total = ((value / count)[..., None] * self.weights[index]).sum(dim=1)
        square = (value * value / count).sum(dim=1, keepdim=True)
        return total / square.clamp(min=1e-12).sqrt()

    def logits(self, data: TokenDataset) -> NDArray[np.float32]:
        """What `forward` gives, of all rows in bulk: log P(class) float32 [rows, C].

        Raises:
            BadInput: the model reads characters, which the data lacks.
        """
        if self.reads[1][1] and data.characters is None:
            raise BadInput("these data were prepared without characters; prepare them again")
        idf, weights, bias, index = (
            tensor.cpu().numpy() for tensor in (self.idf, self.weights, self.bias, self.index)
        )
        sums = [weighted(c, index, idf) @ weights[1:] + bias for c in counted(data, self.reads)]
        log: NDArray[Any] = -np.logaddexp(np.float32(0), -np.concatenate(sums))
        log -= np.logaddexp.reduce(log, axis=1, keepdims=True)
        return cast(NDArray[np.float32], log)


def fit_linear(train: TokenDataset, classes: int, strength: float) -> LinearModel:
    """The model of `train`, which reads characters where `train` has them.

    Of very many rows some are drawn. A class without a row is never likely.

    Args:
        strength: the inverse of the regularization (C of scikit-learn).
    """
    return _Problem.of(train, classes).solved(strength)


def fit_linear_path(
    train: TokenDataset, classes: int, strengths: Sequence[float]
) -> Iterator[LinearModel]:
    """The models of `train` at each of `strengths`; what they share is counted a single time."""
    problem = _Problem.of(train, classes)
    return (problem.solved(strength) for strength in strengths)


def chosen_linear(
    train: TokenDataset, val: TokenDataset, classes: int, metric: str, mode: str
) -> tuple[LinearModel, dict[str, float]]:
    """The model of the strength that is best on `val`, and what it reaches there.

    The METRICS, `train_rows` and `val_rows`: of very many rows some are drawn. Best is by `metric`
    (one of OBJECTIVES), then by the loss.
    """
    problem, val = _Problem.of(train, classes), _drawn(val, MOST_GRAMS)
    name, sign = metric.removeprefix("val_"), -1 if mode == "max" else 1
    found: list[tuple[LinearModel, dict[str, float]]] = []
    for strength in STRENGTHS:
        model = problem.solved(strength)
        found.append((model, classification_metrics(np.exp(model.logits(val)), val.labels)))
    model, reached = min(
        found, key=lambda pair: (np.isnan(pair[1][name]), sign * pair[1][name], pair[1]["loss"])
    )
    return model, {**reached, "train_rows": len(problem.labels), "val_rows": len(val)}


@dataclass(frozen=True)
class _Problem:
    """The features of training rows and their labels."""

    x: csr_matrix
    labels: NDArray[np.int32]
    classes: int
    slots: NDArray[np.int64]
    idf: NDArray[np.float32]
    spans: Spans

    @classmethod
    def of(cls, train: TokenDataset, classes: int) -> _Problem:
        train, spans = _drawn(train, MOST_GRAMS), spans_of(train)
        rows_with = np.zeros(2 * BUCKETS, np.int64)
        for counts in counted(train, spans):
            rows_with += np.bincount(counts.slot, minlength=2 * BUCKETS)
        slots = kept(rows_with, len(train), min(MOST_KEPT, MOST_WEIGHTS // classes))
        # Smoothed as in scikit-learn: as if one more row had every n-gram.
        idf = np.log((1 + len(train)) / (1 + rows_with[slots])) + 1
        idf = np.concatenate([[0], idf]).astype(np.float32)
        index = np.zeros(2 * BUCKETS, np.int32)
        index[slots] = np.arange(1, 1 + len(slots))
        entries, most = int(rows_with[slots].sum()), MOST_ENTRIES * FEW_CLASSES
        most //= max(FEW_CLASSES, classes)
        if entries > most:
            train = _some(train, len(train) * most // entries)
        features = (weighted(counts, index, idf) for counts in counted(train, spans))
        x = stacked(features, (len(train), len(slots)), entries)
        return cls(x, train.labels, classes, slots, idf, spans)

    def solved(self, strength: float) -> LinearModel:
        from sklearn.linear_model import LogisticRegression

        model = LinearModel(len(self.slots), self.classes)
        model.slots.copy_(torch.from_numpy(self.slots))
        model.idf.copy_(torch.from_numpy(self.idf))
        model.spans.copy_(torch.tensor(self.spans))
        for label in range(self.classes):
            mine = self.labels == label
            if mine.all() or not mine.any():
                model.bias[label] = np.log1p(len(mine)) * (1 if mine.all() else -1)
            elif self.classes == 2 and label == 1:
                model.weights[:, 1], model.bias[1] = -model.weights[:, 0], -model.bias[0]
            else:
                # Dual coordinate descent takes a quarter of the time of L-BFGS on all classes at
                # a time, and is as good. Its order of rows is drawn.
                solver = LogisticRegression(
                    C=strength, solver="liblinear", dual=True, tol=0.01, random_state=0
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that a hundred passes did not suffice
                    solver.fit(self.x, mine)
                model.weights[1:, label] = torch.from_numpy(solver.coef_[0])
                model.bias[label] = float(solver.intercept_[0])
        return model.indexed()


def _drawn(data: TokenDataset, most: int) -> TokenDataset:
    """Rows of `data` with about `most` n-grams, or all."""
    there = int(grams(data, spans_of(data)).sum())
    return data if there <= most else _some(data, len(data) * most // there)


def _some(data: TokenDataset, rows: int) -> TokenDataset:
    return data.chosen(np.random.default_rng(0).permutation(len(data))[: max(1, rows)])
