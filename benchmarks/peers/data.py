"""Prepared rows as the peers read them: padded to one length, in a TensorDataset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import TensorDataset

COVERED = 95  # percent of the training rows that fit the fixed length; the rest are cut


@dataclass(frozen=True)
class Data:
    """Rows of ids [rows, length] int64 with labels [rows] int64; `vocab_size` is the padding."""

    train: TensorDataset
    val: TensorDataset
    vocab_size: int
    classes: int


def load(folder: Path) -> Data:
    """The training and validation rows of a prepared folder; the test rows stay unread."""
    info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    train, val = (pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "val"))
    length, padding = int(np.percentile(train["input_ids"].map(len), COVERED)), info["vocab_size"]
    padded = (_padded(rows, length, padding) for rows in (train, val))
    return Data(*padded, vocab_size=info["vocab_size"], classes=len(info["labels"]))


def _padded(rows: pd.DataFrame, length: int, padding: int) -> TensorDataset:
    """Padding goes before the text, so that the last step of every row is a word."""
    ids = np.full((len(rows), length), padding, dtype=np.int64)
    for row, tokens in zip(ids, rows["input_ids"], strict=True):
        row[length - min(length, len(tokens)) :] = tokens[:length]
    return TensorDataset(torch.from_numpy(ids), torch.tensor(rows["label"].to_numpy()).long())
