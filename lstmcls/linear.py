"""What an LSTM has to beat: TF-IDF of token n-grams and logistic regression, in seconds.

On long reviews with a clear verdict such models are hard to beat (Wang & Manning 2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lstmcls.dataset import TokenDataset
from lstmcls.metrics import classification_metrics
from lstmcls.ngrams import ngrams_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NGRAM = 3  # tokens, at most
BUCKETS = 2**20  # into which the slots of n-grams are put
FEWEST = 2  # rows that an n-gram must be in
STRENGTHS = (1.0, 4.0, 16.0)  # the inverse of the regularization; validation chooses
MOST_WEIGHTS = 2**22  # n-grams, of which the most frequent are kept, times classes
MOST_ROWS = 100_000  # trained on, divided by the classes; more of them would take minutes
FEWEST_ROWS = 10_000  # trained on all the same
MOST_TOKENS = 6_000_000  # in these rows: each takes 110 bytes while it is counted and weighted


def linear_metrics(
    train: TokenDataset, val: TokenDataset, classes: int, metric: str, mode: str
) -> dict[str, float]:
    """The METRICS on `val`, of the strength that is best by `metric` (one of OBJECTIVES).

    `train_rows` and `val_rows` are added: of many rows, or of long ones, some are drawn. Empty
    where there is nothing to learn: one class, or no n-gram twice.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    most = max(FEWEST_ROWS, MOST_ROWS // classes)
    train, val = _drawn(train, most), _drawn(val, most)
    counts, weighting = ngram_counts(train), TfidfTransformer(sublinear_tf=True)
    known = _known(counts, classes)
    if len(np.unique(train.labels)) < 2 or not len(known):
        return {}
    x, x_val = weighting.fit_transform(counts[:, known]), ngram_counts(val)[:, known]
    found: list[dict[str, float]] = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300).fit(x, train.labels)
        probabilities = np.zeros((len(val), classes))
        probabilities[:, model.classes_] = model.predict_proba(weighting.transform(x_val))
        found.append(classification_metrics(probabilities, val.labels))
    name, sign = metric.removeprefix("val_"), -1 if mode == "max" else 1
    best = min(found, key=lambda m: (np.isnan(m[name]), sign * m[name], m["loss"]))
    return {**best, "train_rows": len(train), "val_rows": len(val)}


def _known(counts: csr_matrix, classes: int) -> NDArray[np.int64]:
    """The buckets that enough rows have; of too many those that most rows have."""
    rows_with = np.bincount(counts.indices, minlength=BUCKETS)
    frequent = np.argsort(-rows_with, kind="stable")[: MOST_WEIGHTS // classes]
    return np.sort(frequent[rows_with[frequent] >= FEWEST])


def _drawn(data: TokenDataset, most: int) -> TokenDataset:
    """At most `most` rows, of at most MOST_TOKENS tokens together."""
    if len(data) <= most and len(data.ids) <= MOST_TOKENS:
        return data
    rows = np.random.default_rng(0).permutation(len(data))[:most]
    tokens = np.cumsum(data.lengths[rows])
    return data.chosen(rows[: np.searchsorted(tokens, MOST_TOKENS, side="right")])


def ngram_counts(data: TokenDataset) -> csr_matrix:
    """How often each n-gram of up to NGRAM tokens is in each row: [rows, BUCKETS]."""
    from scipy.sparse import csr_matrix

    pieces = [
        (rows.astype(np.int32), (slots % BUCKETS).astype(np.int32))
        for rows, slots in ngrams_of(data, NGRAM)
    ]
    rows_of, columns = zip(*pieces, strict=True)
    at: tuple[NDArray[Any], NDArray[Any]] = (np.concatenate(rows_of), np.concatenate(columns))
    counts = csr_matrix(
        (np.ones(len(at[0]), np.float32), at), shape=(len(data), BUCKETS)
    )  # which adds up what falls together
    return counts
