"""Several classifiers as one: their log-probabilities, weighted and added.

A logarithmic opinion pool (Genest & Zidek 1986, section 3): networks that were trained on different
folds of the same rows, as Breiman's bagging (1996), and a linear model, which errs elsewhere.
`blend.fit_weights` says how much each counts; where a macro F1 is what matters, an offset for each
class is added (`calibration.best_offsets`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig, config_from
from lstmcls.dataset import TokenDataset
from lstmcls.fit import judged_rows
from lstmcls.linear import LinearModel
from lstmcls.model import LSTMClassifier

SMALLEST = 1e-12  # of a probability, before its logarithm


@dataclass(frozen=True)
class Member:
    """One classifier of an ensemble; `config` is None of a linear model."""

    weight: float
    config: TrainConfig | None

    @property
    def kind(self) -> TrainConfig | None:
        """Equal for members that differ in their seed and their training rows alone."""
        return self.config and dataclasses.replace(self.config, seed=0)


class Ensemble(nn.Module):
    """Networks and at most one linear model that are asked together.

    Args:
        members: one for each of `classifiers`, in their order.
        offsets: added to the log-probability of each class; none where it is empty.
        max_length: tokens after which the training data were cut.
    """

    def __init__(
        self,
        members: Sequence[Member],
        classifiers: Iterable[LSTMClassifier | LinearModel],
        offsets: Sequence[float],
        max_length: int,
    ) -> None:
        super().__init__()
        self.members, self.offsets = tuple(members), tuple(offsets)
        self.max_length = max_length
        self.classifiers = nn.ModuleList(classifiers)

    @property
    def pairs(self) -> list[tuple[Member, LSTMClassifier | LinearModel]]:
        """Each member with its classifier."""
        classifiers = cast(Iterable[LSTMClassifier | LinearModel], self.classifiers)
        return list(zip(self.members, classifiers, strict=True))

    @property
    def networks(self) -> int:
        """How many of the members are networks."""
        return sum(member.config is not None for member in self.members)

    @property
    def reads_characters(self) -> bool:
        return any(isinstance(c, LinearModel) and c.reads[1][1] > 0 for _, c in self.pairs)

    def row_probabilities(self, data: TokenDataset) -> NDArray[np.float32]:
        """Class probabilities [rows, classes].

        Raises:
            BadInput: a member reads characters, which the data lacks.
        """
        total: NDArray[Any] = np.asarray(self.offsets or 0.0, np.float64)
        for member, classifier in self.pairs:
            total = total + member.weight * log_probabilities(classifier, data, self.max_length)
        return np.asarray(softmax(total, axis=1), dtype=np.float32)

    def forward(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        character_ids: Tensor | None = None,
        character_lengths: Tensor | None = None,
    ) -> Tensor:
        """Class probabilities [B, C] of padded rows; inputs as of `LinearModel.forward`.

        Networks with random initial states begin with their mean, zeros.
        """
        total = torch.tensor(self.offsets or [0.0], dtype=torch.float32)
        for member, classifier in self.pairs:
            if isinstance(classifier, LinearModel):
                found = classifier(input_ids, lengths, character_ids, character_lengths)
            else:
                found = _logits(classifier, input_ids, lengths, self.max_length).log_softmax(dim=1)
            total = total + member.weight * found
        return total.softmax(dim=1)

    def first(self, networks: int) -> Ensemble:
        """The ensemble without its networks after the first `networks`.

        Those that differ in their seed alone are weighted so that their sum stays as it was.
        """
        kept, left = [], networks
        for member, classifier in self.pairs:
            if member.config is None or left > 0:
                kept.append((member, classifier))
            left -= member.config is not None
        before, after = (_weights_by_config([m for m, _ in each]) for each in (self.pairs, kept))
        members = [Member(m.weight * before[m.kind] / after[m.kind], m.config) for m, _ in kept]
        return Ensemble(members, [c for _, c in kept], self.offsets, self.max_length)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: all but the tensors, which `state_dict()` has."""
        members = [
            {"weight": member.weight}
            | ({"linear": True} if member.config is None else {"network": member.config.to_dict()})
            for member in self.members
        ]
        return {"members": members, "offsets": list(self.offsets)}

    @classmethod
    def of(
        cls,
        plain: Any,
        tensors: Mapping[str, Tensor],
        vocab_size: int,
        classes: int,
        max_length: int,
    ) -> Ensemble:
        """The ensemble that `to_dict()` and `state_dict()` gave.

        Raises:
            BadInput: they do not fit together.
        """
        members, offsets = _read(plain, classes)
        expected, classifiers = 0, list[LSTMClassifier | LinearModel]()
        for place, member in enumerate(members):
            prefix = f"classifiers.{place}."
            mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            expected += len(mine)
            if member.config is None:
                classifiers.append(LinearModel.of(mine))
            else:
                classifiers.append(network_of(member.config, vocab_size, classes, mine))
        if expected != len(tensors):
            raise BadInput(f"{len(tensors) - expected} tensors are of no member")
        return cls(members, classifiers, offsets, max_length)


def network_of(
    config: TrainConfig, vocab_size: int, classes: int, weights: Mapping[str, Tensor]
) -> LSTMClassifier:
    """The network of `config` with `weights`, compared with it before memory is taken.

    Raises:
        BadInput: the weights are those of another network.
    """
    with torch.device("meta"):
        model = LSTMClassifier(config, vocab_size, classes)
    expected = model.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        where = "lacks" if name in expected else "has an unknown"
        raise BadInput(f"does not fit its config ({where} tensor '{name}')")
    for name, tensor in weights.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise BadInput(
                f"does not fit its config, labels and tokenizer ({name} is "
                f"{_shape(tensor)}, expected {_shape(want)})"
            )
    # Copied: a file's tensors lie at any address, and on some CPUs the sums depend on that.
    model.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return model


def log_probabilities(
    classifier: LSTMClassifier | LinearModel, data: TokenDataset, max_length: int
) -> NDArray[np.float32]:
    """log P(class) [rows, classes] of every row, none of them infinite; there may be no row."""
    linear = classifier if isinstance(classifier, LinearModel) else None
    if not len(data):
        bias = classifier.bias if isinstance(classifier, LinearModel) else classifier.head.bias
        return np.zeros((0, len(bias)), np.float32)
    if linear is not None:
        return linear.logits(data)
    assert isinstance(classifier, LSTMClassifier)
    return np.log(np.maximum(judged_rows(classifier, data, max_length), np.float32(SMALLEST)))


def _logits(model: LSTMClassifier, ids: Tensor, lengths: Tensor, max_length: int) -> Tensor:
    """Of padded rows, cut and padded as `judged_rows` does."""
    longest, pad_to = model.config.longest(max_length), model.config.pad_to(max_length)
    if longest < max_length:
        ids, lengths = ids[:, :longest], lengths.clamp(max=longest)
    if pad_to is not None:
        ids = nn.functional.pad(ids, (0, pad_to - ids.shape[1]))
    config = model.config
    states = None
    if not config.zero_state:
        directions = 1 + config.bidirectional
        states = torch.zeros(config.layers, directions, 2, ids.shape[0], config.hidden_size)
    logits: Tensor = model(ids, lengths, states)
    return logits


def _weights_by_config(members: Sequence[Member]) -> dict[TrainConfig | None, float]:
    total: dict[TrainConfig | None, float] = {}
    for member in members:
        total[member.kind] = total.get(member.kind, 0.0) + member.weight
    return total


def _read(plain: Any, classes: int) -> tuple[list[Member], list[float]]:
    """The members and the offsets in what a file holds."""
    try:
        members = [_member(entry) for entry in plain["members"]]
        offsets = [float(offset) for offset in plain["offsets"]]
    except BadInput:  # which is a ValueError
        raise
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadInput(f"expected members and offsets ({type(error).__name__}: {error})") from None
    if not members or sum(member.config is None for member in members) > 1:
        raise BadInput(f"has {len(members)} members; expected some, at most one of them linear")
    if len(offsets) not in (0, classes) or not np.isfinite(offsets).all():
        raise BadInput(f"has {len(offsets)} offsets; expected none or {classes}, finite")
    return members, offsets


def _member(entry: Any) -> Member:
    weight = entry["weight"]
    if type(weight) not in (int, float) or not 0 <= weight < np.inf:
        raise BadInput(f"a member's weight is {weight!r:.60}, expected 0 or more")
    config = None if entry.get("linear") is True else config_from(entry["network"])
    return Member(float(weight), config)


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape))}"
