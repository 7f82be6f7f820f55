"""What the n-grams of a text say of its class: naive Bayes, and a learned trust in each n-gram.

Before training it is counted in how many texts of each class an n-gram occurs. Its evidence is
log P(class | n-gram) / P(class), smoothed (Wang & Manning 2012, NBSVM, whose ratios these are),
times a trust that begins at 1 and is trained with the network beside it (Cheng et al. 2016, wide
& deep). A training text is judged by the counts of all others: with its own it would look
all but solved, and the network would learn nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lstmcls.dataset import TokenDataset

SLOTS = 2**22  # an n-gram is known by its hash
KEPT = 2**17  # of the slots, the most frequent have counts and a trust;
COUNTS = 2**22  # fewer where there are so many classes that their counts would be more
SMOOTHING = 1.0  # texts of each class, were all as frequent, that every n-gram has on top
# Trusts are sums of few gradients, each of a rare n-gram: a step of the other weights is too small.
GAIN = 5.0
CHUNK = 2**18  # tokens counted at a time, about: as fast as more, and in less memory

_Ids = TypeVar("_Ids", Tensor, NDArray[np.int64])


class NgramEvidence(nn.Module):
    """Token ids [B, T] to evidence [B, C] for each class, over the square root of the n-grams.

    Without `count`, or for texts of unknown n-grams alone, it is 0.
    """

    slots: Tensor
    counts: Tensor
    prior: Tensor
    index: Tensor

    def __init__(self, longest: int, num_classes: int) -> None:
        super().__init__()
        self.longest = longest
        kept = min(KEPT, COUNTS // num_classes)
        self.register_buffer("slots", torch.full((kept,), -1, dtype=torch.int32))  # -1: none
        self.register_buffer("counts", torch.zeros(1 + kept, num_classes))  # row 0: not kept
        self.register_buffer("prior", torch.full((num_classes,), 1 / num_classes))
        self.trust = nn.Embedding(1 + kept, 1, _weight=torch.zeros(1 + kept, 1))
        # Large and told by `slots`, so not kept with the weights.
        self.register_buffer("index", torch.zeros(0, dtype=torch.int32), persistent=False)
        self.register_load_state_dict_post_hook(_find_again)  # type: ignore[no-untyped-call]
        self._find()

    def forward(self, ids: Tensor, real: Tensor, counted: Tensor | None = None) -> Tensor:
        """Evidence [B, C]; `real` [B, T]: not padding.

        `counted`: labels [B] of texts that are themselves among the counted, as in training.
        """
        index = torch.cat([self.index[hashed] for hashed in hashes(ids, self.longest)], dim=1)
        present = torch.cat([real[:, n:] for n in range(self.longest)], dim=1)
        counts = functional.embedding(index, self.counts)
        if counted is not None:
            own = functional.one_hot(counted, len(self.prior))[:, None]
            counts = (counts - own).clamp(min=0)
        weight = present[..., None] * (1 + GAIN * cast(Tensor, self.trust(index)))
        # No matrix product, which autocast would round: hundreds of small terms are added here.
        total = (weight * self._log_ratios(counts)).sum(dim=1)
        return total / present.sum(dim=1, keepdim=True).clamp(min=1).sqrt()

    def count(self, texts: TokenDataset) -> None:
        """Learn which n-grams there are and in how many texts of each class they occur."""
        occurrences = np.zeros(SLOTS, dtype=np.int64)
        for _, hashed in ngrams_of(texts, self.longest):
            occurrences += np.bincount(hashed, minlength=SLOTS)
        known = np.flatnonzero(occurrences > 1)
        kept = known[np.argsort(-occurrences[known], kind="stable")[: len(self.slots)]]
        self.slots.fill_(-1)[: len(kept)] = torch.from_numpy(kept).to(self.slots.device)
        self._find()
        index = self.index.cpu().numpy()
        rows_of_counts, classes = self.counts.shape
        counts = np.zeros(rows_of_counts * classes, dtype=np.int64)
        for rows, hashed in ngrams_of(texts, self.longest):
            once = _distinct(rows * rows_of_counts + index[hashed])
            entries = once % rows_of_counts * classes + texts.labels[once // rows_of_counts]
            counts += np.bincount(entries, minlength=len(counts))
        self.counts.copy_(torch.from_numpy(counts).view(-1, classes))
        self.counts[0] = 0
        shares = np.bincount(texts.labels, minlength=classes) / len(texts)
        self.prior.copy_(torch.from_numpy(shares))

    def _log_ratios(self, counts: Tensor) -> Tensor:
        """log P(class | n-gram) / P(class) [..., C] of `counts` [..., C]."""
        added = SMOOTHING * len(self.prior)
        prior = self.prior.clamp(min=1e-6)  # a class without a text
        total = counts.sum(dim=-1, keepdim=True)
        return ((counts + added * prior) / (prior * (total + added))).log()

    def _find(self) -> None:
        """Make `index` [SLOTS]: each slot's row in `counts`, 0 where it has none."""
        if self.slots.is_meta:  # until weights are loaded
            return
        self.index = torch.zeros(SLOTS, dtype=torch.int32, device=self.slots.device)
        rows = torch.arange(1, len(self.counts), dtype=torch.int32, device=self.slots.device)
        used = (self.slots >= 0) & (self.slots < SLOTS)
        self.index[self.slots[used].long()] = rows[used]


def _find_again(model: NgramEvidence, keys: object) -> None:
    del keys
    model._find()


def _distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `np.unique`, which takes forty times as long."""
    numbers = np.sort(numbers)
    distinct: NDArray[np.int64] = numbers[np.diff(numbers, prepend=-1) != 0]
    return distinct


def hashes(ids: _Ids, longest: int) -> Iterator[_Ids]:
    """Slots of the n-grams of 1, 2, ... `longest` tokens that start at each place of `ids`."""
    hashed = ids
    for n in range(1, longest + 1):
        if n > 1:
            hashed = hashed[..., :-1] * 1_000_003 + ids[..., n - 1 :]
        hashed = hashed % SLOTS
        yield hashed


def ngrams_of(
    texts: TokenDataset, longest: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(row, slot) of every n-gram of `texts`, about CHUNK tokens at a time."""
    cuts = np.searchsorted(texts.offsets, np.arange(0, texts.offsets[-1], CHUNK))
    for start, end in pairwise([*cuts.tolist(), len(texts)]):
        offsets = texts.offsets[start : end + 1]
        ids = texts.ids[offsets[0] : offsets[-1]].astype(np.int64)
        rows = np.repeat(np.arange(start, end), np.diff(offsets))
        for n, hashed in enumerate(hashes(ids, longest)):
            within = rows[: len(hashed)] == rows[n:]
            yield rows[: len(hashed)][within], hashed[within]
