"""Which tokenizer serves a network best, on files of labelled texts.

`python benchmarks/tokenizing.py FILE...`: the default search's first point, trained on four fifths
of a file and judged on the rest, five times. Each time the tokenizer learns from the four fifths
alone, so every row is judged by a network and a tokenizer that never saw it.
`pieces:10` makes whole words of those seen 10 times, where `pieces` asks for tokenizer.FREQUENT.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lstmcls.config import TrainConfig, config_from
from lstmcls.dataset import TokenDataset, unlabelled
from lstmcls.fit import TrainingState, fit, judged_rows
from lstmcls.reading import open_file
from lstmcls.tokenizer import MERGED, UNK_ID, VOCABULARY, encode, normal_form, train_tokenizer
from tune.space import load_space

FOLDS = 5
LONGEST = 400  # tokens, `lstmcls.prepare`'s own limit


class Result(NamedTuple):
    """What one tokenizer reaches on one file, out of fold."""

    accuracy: float
    loss: float  # mean of -log P(the label), in nats
    vocabulary: float  # ids, mean over the folds
    tokens: float  # of a text
    unknown: float  # share of the tokens
    seconds: float  # of CPU, for all folds


def labelled(path: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a file, without the texts that a network has read before."""
    rows: dict[str, tuple[str, str]] = {}
    for batch in open_file(path).batches():
        for text, label in zip(*batch, strict=True):
            if label is not None and (normal := normal_form(text)):
                rows.setdefault(normal, (text, label))
    texts, labels = zip(*rows.values(), strict=True)
    return list(texts), list(labels)


def fold_of_each(labels: NDArray[np.int32], seed: int) -> NDArray[np.int64]:
    """The fold [rows] in which each row is judged; every class is spread evenly."""
    random = np.random.default_rng(seed)
    folds = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        folds[rows] = (np.arange(len(rows)) + random.integers(FOLDS)) % FOLDS
    return folds


def measured(
    texts: list[str], names: list[str], kind: str, config: TrainConfig, seed: int
) -> Result:
    """One tokenizer on one file; `kind` may say its threshold, as in `pieces:10`."""
    labels = np.unique(names, return_inverse=True)[1].astype(np.int32)
    folds, started = fold_of_each(labels, seed), process_time()
    probabilities = np.zeros((len(labels), labels.max() + 1), np.float32)
    vocabularies, tokens, unknown = [], 0, 0
    for fold in range(FOLDS):
        config = replace(config, seed=1000 + 100 * seed + fold)
        judged, data, vocabulary = folds == fold, *_tokenized(texts, labels, kind, folds != fold)
        train, val = (data.chosen(np.flatnonzero(rows)) for rows in (~judged, judged))
        state = TrainingState.create(config, vocabulary, probabilities.shape[1])
        for _ in fit(state, train, val):
            pass
        probabilities[judged] = judged_rows(state.judged, val, LONGEST)
        vocabularies.append(vocabulary)
        tokens, unknown = tokens + len(val.ids), unknown + int((val.ids == UNK_ID).sum())
    given = probabilities[np.arange(len(labels)), labels].clip(1e-9)
    return Result(
        float((probabilities.argmax(axis=1) == labels).mean()),
        float(-np.log(given).mean()),
        float(np.mean(vocabularies)),
        tokens / len(labels),
        unknown / tokens,
        process_time() - started,
    )


def _tokenized(
    texts: list[str], labels: NDArray[np.int32], kind: str, learnt: NDArray[np.bool_]
) -> tuple[TokenDataset, int]:
    """All rows as ids of a tokenizer trained on those that `learnt` [rows] marks, and its ids."""
    name, _, threshold = kind.partition(":")
    before = dict(MERGED)
    try:
        if threshold:
            MERGED[name] = int(threshold)
        shown = [[text for text, seen in zip(texts, learnt, strict=True) if seen]]
        tokenizer = train_tokenizer(name, shown, VOCABULARY[name])
    finally:
        MERGED.update(before)
    tokenizer.enable_truncation(LONGEST)
    return replace(unlabelled(encode(tokenizer, texts)), labels=labels), tokenizer.get_vocab_size()


def lines(
    files: list[Path], kinds: list[str], settings: dict[str, str], seeds: int
) -> Iterator[str]:
    """A Markdown table: one line for each file, tokenizer and seed."""
    space = load_space("full")
    first = space.config(space.enqueue[0]).to_dict()
    config = config_from({**first, "report_every": 1000, **settings})  # validated once, at the end
    yield "| file | tokenizer | accuracy | log-loss | vocabulary | tokens a text | [UNK] | CPU s |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for path in files:
        texts, names = labelled(path)
        for kind in kinds:
            for seed in range(seeds):
                found = measured(texts, names, kind, config, seed)
                yield (
                    f"| {path.name} | {kind} | {found.accuracy:.4f} | {found.loss:.4f} "
                    f"| {found.vocabulary:,.0f} | {found.tokens:.1f} | {found.unknown:.1%} "
                    f"| {found.seconds:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tokenizers", nargs="+", default=["word", "pieces"], metavar="KIND")
    parser.add_argument("--set", nargs="+", default=[], metavar="K=V", help="training settings")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    from machine import described  # found beside this file only where it is run as a script

    torch.set_num_threads(1)
    print(described())
    settings = dict(setting.split("=", 1) for setting in args.set)
    for line in lines(args.files, args.tokenizers, settings, args.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
