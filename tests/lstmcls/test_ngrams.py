"""The evidence of n-grams against counts made one text at a time."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmcls import ngrams
from lstmcls.dataset import TokenDataset, unlabelled
from lstmcls.ngrams import GAIN, SMOOTHING, NgramEvidence

CLASSES = 3
texts = st.lists(
    st.tuples(st.lists(st.integers(1, 5), min_size=1, max_size=7), st.integers(0, CLASSES - 1)),
    min_size=1,
    max_size=12,
)
Text = tuple[list[int], int]


def _dataset(of: list[Text]) -> TokenDataset:
    rows = unlabelled([ids for ids, _ in of])
    return TokenDataset(rows.ids, rows.offsets, np.array([label for _, label in of], np.int32))


def _grams(ids: list[int], longest: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + n]) for n in range(1, longest + 1) for i in range(len(ids) - n + 1)]


def _expected(of: list[Text], ids: list[int], longest: int, own: int | None) -> list[float]:
    """The evidence of `ids`, which is one of the texts, of class `own`, or of no text (None)."""
    often = Counter(gram for text, _ in of for gram in _grams(text, longest))
    per_class = [
        Counter(gram for text, label in of if label == k for gram in set(_grams(text, longest)))
        for k in range(CLASSES)
    ]
    prior = [max(1e-6, sum(label == k for _, label in of) / len(of)) for k in range(CLASSES)]
    evidence = [0.0] * CLASSES
    for gram in _grams(ids, longest):
        counts = [per_class[k][gram] - (own == k) if often[gram] > 1 else 0 for k in range(CLASSES)]
        for k in range(CLASSES):
            smoothed = (counts[k] + SMOOTHING * CLASSES * prior[k]) / (
                sum(counts) + SMOOTHING * CLASSES
            )
            evidence[k] += math.log(smoothed / prior[k])
    return [value / math.sqrt(len(_grams(ids, longest))) for value in evidence]


def _of(model: NgramEvidence, ids: list[int], own: int | None = None) -> list[float]:
    padded = torch.tensor([[*ids, 0, 0]])
    real = torch.arange(len(ids) + 2)[None] < len(ids)
    counted = None if own is None else torch.tensor([own])
    evidence: list[float] = model(padded, real, counted)[0].tolist()
    return evidence


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 3))
def test_a_text_is_judged_by_the_counts_of_the_others(of: list[Text], longest: int) -> None:
    model = NgramEvidence(longest, CLASSES)
    model.count(_dataset(of))
    ids, label = of[0]
    assert _of(model, ids, label) == pytest.approx(_expected(of, ids, longest, label), abs=1e-4)
    new = [5, 1, 2]
    assert _of(model, new) == pytest.approx(_expected(of, new, longest, None), abs=1e-4)


def test_counted_in_pieces_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    of = [(rng.integers(1, 9, size=6).tolist(), int(rng.integers(CLASSES))) for _ in range(50)]
    whole, pieces = NgramEvidence(2, CLASSES), NgramEvidence(2, CLASSES)
    whole.count(_dataset(of))
    monkeypatch.setattr(ngrams, "CHUNK", 7)
    pieces.count(_dataset(of))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, pieces.state_dict()[name])


def test_the_most_frequent_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "KEPT", 2)
    model = NgramEvidence(1, CLASSES)
    model.count(_dataset([([1, 2, 3], 0), ([1, 2, 3], 1), ([1, 3], 2)]))
    assert model.slots.tolist() == [1, 3]
    assert _of(model, [2]) == [0.0] * CLASSES  # log(1), of a quotient of equal numbers


def test_many_classes_keep_fewer() -> None:
    assert NgramEvidence(1, 1000).counts.numel() <= ngrams.COUNTS + 1000


def test_the_trust_multiplies_the_evidence() -> None:
    model = NgramEvidence(1, CLASSES)
    model.count(_dataset([([1, 2], 0), ([1], 0), ([2], 1)]))
    before = _of(model, [1])
    with torch.no_grad():
        model.trust.weight[model.index[1]] = 2 / GAIN
    assert _of(model, [1]) == pytest.approx([3 * value for value in before])


def test_weights_loaded_elsewhere_find_their_ngrams() -> None:
    model, other = NgramEvidence(2, CLASSES), NgramEvidence(2, CLASSES)
    model.count(_dataset([([1, 2, 3], 0), ([1, 2, 4], 1)]))
    other.load_state_dict(model.state_dict())
    with torch.device("meta"):
        lean = NgramEvidence(2, CLASSES)
    lean.load_state_dict(model.state_dict(), assign=True)
    assert any(_of(model, [1, 2, 3], 0))
    # The same kernels on the same shapes.
    assert _of(other, [1, 2, 3]) == _of(lean, [1, 2, 3]) == _of(model, [1, 2, 3])


def test_uncounted_it_says_nothing() -> None:
    assert _of(NgramEvidence(2, CLASSES), [1, 2, 3]) == [0.0] * CLASSES
