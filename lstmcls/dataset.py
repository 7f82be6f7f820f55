"""Tokenized rows as flat arrays, and the prepared folders that hold them.

Parquet is decoded once into three arrays (ids, offsets, labels) that other processes can map
without copying. Batches are vectorised gathers: no Python loop over tokens, no DataLoader.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from lstmcls.characters import code_units, encode_characters, read_characters
from lstmcls.cli import BadInput
from lstmcls.splitting import FORMAT, SPLITS
from lstmcls.tokenizer import encode, load_tokenizer

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class TokenDataset:
    """Rows of token ids: row r is `ids[offsets[r]:offsets[r + 1]]`, its class `labels[r]`.

    ids: int16 or int32, all rows end to end; offsets: int64, rows + 1; labels: int32, rows.
    characters: uint16, the UTF-16 code units of the normalized texts, with offsets of their own;
    None where the data was prepared without them. A network does not read them.
    """

    ids: NDArray[np.signedinteger[Any]]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int32]
    characters: NDArray[np.uint16] | None = None
    character_offsets: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each row; a new array, which is private to a worker: four bytes a row."""
        return np.subtract(self.offsets[1:], self.offsets[:-1], dtype=np.int32, casting="same_kind")

    @property
    def nbytes(self) -> int:
        arrays = (self.ids, self.offsets, self.labels, self.characters, self.character_offsets)
        return sum(each.nbytes for each in arrays if each is not None)

    def known(self, vocabulary: int, longest: int = 0) -> NDArray[np.bool_]:
        """Which ids [vocabulary] the rows hold in their first `longest` tokens; 0: in all."""
        known = np.zeros(vocabulary, bool)
        starts, lengths = self.offsets[:-1], self.lengths
        for step in range(min(longest or lengths.max(), lengths.max())):
            known[self.ids[starts[lengths > step] + step]] = True
        return known

    def longest(self, rows: int) -> TokenDataset:
        """A copy of the longest `rows` rows."""
        return self.chosen(np.argsort(self.lengths, kind="stable")[-rows:])

    def chosen(self, rows: NDArray[np.integer[Any]]) -> TokenDataset:
        """A copy of the rows of these numbers, in their order."""
        ids, offsets = _gathered(self.ids, self.offsets, rows)
        if self.characters is None or self.character_offsets is None:
            return TokenDataset(ids, offsets, self.labels[rows])
        characters = _gathered(self.characters, self.character_offsets, rows)
        return TokenDataset(ids, offsets, self.labels[rows], *characters)

    def between(self, start: int, end: int) -> TokenDataset:
        """The rows from `start` to before `end`: a view but for its offsets."""
        ids, offsets = _run(self.ids, self.offsets, start, end)
        if self.characters is None or self.character_offsets is None:
            return TokenDataset(ids, offsets, self.labels[start:end])
        characters = _run(self.characters, self.character_offsets, start, end)
        return TokenDataset(ids, offsets, self.labels[start:end], *characters)

    def tokens_only(self) -> TokenDataset:
        """Itself without characters, which no network reads."""
        return TokenDataset(self.ids, self.offsets, self.labels)

    def on(self, device: torch.device | str, longest: int = 0) -> Rows:
        """The arrays as tensors: views of the same memory on a CPU, one copy on a GPU.

        `longest`: tokens after which a row is cut; 0: it is not.
        """
        with warnings.catch_warnings():
            # Arrays from Ray's object store are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            arrays = (self.ids, self.offsets, self.labels)
            ids, offsets, labels = (torch.from_numpy(array).to(device) for array in arrays)
        lengths = self.lengths
        if longest:
            np.minimum(lengths, longest, out=lengths)
        return Rows(ids, offsets, labels, lengths)


def unlabelled(rows: list[list[int]], texts: Iterable[str] | None = None) -> TokenDataset:
    """Rows of ids, none of them empty, as a dataset; every label is 0.

    `texts`: of the same rows, as `encode_characters` gives them.
    """
    offsets = _ends(map(len, rows))
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1]))
    labels = np.zeros(len(rows), dtype=np.int32)
    if texts is None:
        return TokenDataset(ids, offsets, labels)
    return TokenDataset(ids, offsets, labels, *code_units([texts]))


def tokenized(tokenizer: Tokenizer, texts: list[str], max_characters: int) -> TokenDataset:
    """Raw texts as `prepare` would write them with this tokenizer, which cuts them; labels are 0.

    `max_characters`: after which a text is cut; 0: without characters, as older data has none.
    """
    ids = encode(tokenizer, texts)
    if not max_characters:
        return unlabelled(ids)
    return unlabelled(ids, encode_characters(tokenizer, texts, max_characters))


def joined(parts: Sequence[TokenDataset]) -> TokenDataset:
    """The rows of all `parts`, one after the other; without characters where one part has none."""
    ids = np.concatenate([part.ids for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    offsets = _ends(chain.from_iterable(np.diff(part.offsets) for part in parts))
    texts = [part.characters for part in parts if part.characters is not None]
    if len(texts) < len(parts):
        return TokenDataset(ids, offsets, labels)
    ends = [part.character_offsets for part in parts if part.character_offsets is not None]
    character_offsets = _ends(chain.from_iterable(map(np.diff, ends)))
    return TokenDataset(ids, offsets, labels, np.concatenate(texts), character_offsets)


def _run(
    flat: NDArray[Number], offsets: NDArray[np.int64], start: int, end: int
) -> tuple[NDArray[Number], NDArray[np.int64]]:
    """A view of some rows of a flat array that follow each other, and its offsets."""
    return flat[offsets[start] : offsets[end]], offsets[start : end + 1] - offsets[start]


def _gathered(
    flat: NDArray[Number], offsets: NDArray[np.int64], rows: NDArray[np.integer[Any]]
) -> tuple[NDArray[Number], NDArray[np.int64]]:
    """A copy of these rows of a flat array, and its offsets."""
    pieces = [flat[offsets[row] : offsets[row + 1]] for row in rows]
    return np.concatenate([flat[:0], *pieces]), _ends(map(len, pieces))


def _ends(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths], dtype=np.int64)


@dataclass(frozen=True)
class Rows:
    """A TokenDataset as tensors on one device.

    `lengths`: tokens read of each row. It stays on the CPU, so that a batch's width is known
    without a wait for the GPU.
    """

    ids: Tensor
    offsets: Tensor
    labels: Tensor
    lengths: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(
        self, rows: NDArray[np.integer[Any]], pad_to: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(ids [B, T] int64 padded with 0, lengths [B] int64, labels [B] int64).

        T is the longest of the rows, or `pad_to` where that is given.
        """
        index = self.index(rows)
        starts = self.offsets[index]
        width = int(self.lengths[rows].max())
        lengths = (self.offsets[index + 1] - starts).clamp_(max=width)
        steps = torch.arange(pad_to or width, device=index.device)
        real = steps < lengths[:, None]
        positions = (starts[:, None] + steps).clamp_(max=len(self.ids) - 1)
        ids = self.ids[positions].long().masked_fill_(~real, 0)
        return ids, lengths, self.labels[index].long()

    def index(self, rows: NDArray[np.integer[Any]]) -> Tensor:
        """Row numbers [B] int64 on the device; only pinned memory is copied without a wait."""
        index = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        return index.pin_memory().to("cuda", non_blocking=True) if self.ids.is_cuda else index


@dataclass(frozen=True)
class Prepared:
    """A prepared folder in memory; `info` is its dataset.json."""

    folder: Path
    info: dict[str, Any]
    splits: dict[str, TokenDataset]

    @property
    def labels(self) -> list[str]:
        return list(self.info["labels"])

    @property
    def vocab_size(self) -> int:
        return int(self.info["vocab_size"])

    @property
    def max_length(self) -> int:
        """Tokens after which a text was cut."""
        return int(self.info["max_length"])

    @property
    def max_characters(self) -> int:
        """Characters after which a text was cut; 0 where the data was prepared without them."""
        return int(self.info.get("max_characters", 0))


def read_info(folder: Path) -> dict[str, Any]:
    """The dataset.json of a prepared folder.

    Raises:
        BadInput: no such folder, not a prepared one, damaged, or of another version.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise BadInput(f"{folder}: not a prepared folder (no dataset.json); see lstmcls.prepare")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise BadInput(f"{path}: damaged; prepare the data again") from None
    version = info.get("format") if isinstance(info, dict) else None
    if version != FORMAT:
        raise BadInput(f"{path}: format {version}, this version reads {FORMAT}; prepare it again")
    missing = [
        name
        for name in (*(f"{split}.parquet" for split in SPLITS), "tokenizer.json")
        if not (folder / name).is_file()
    ]
    if missing:
        raise BadInput(f"{folder}: {', '.join(missing)} missing; prepare the data again")
    required = {"labels", "vocab_size", "max_length"}
    if not required <= info.keys():
        raise BadInput(f"{path}: lacks {', '.join(sorted(required - info.keys()))}")
    for name in ("vocab_size", "max_length"):
        if not isinstance(info[name], int) or info[name] < 1:
            raise BadInput(f"{path}: damaged ({name} is {info[name]!r}); prepare the data again")
    labels = info["labels"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadInput(f"{path}: damaged (labels are {labels!r:.60}); prepare the data again")
    return dict(info)


def load_prepared(folder: Path, splits: tuple[str, ...] = ("train", "val")) -> Prepared:
    """Decode the named splits; test is read only by those who ask for it.

    Raises:
        BadInput: the folder is not a whole prepared folder of this version.
    """
    info = read_info(folder)
    vocab_size, classes = int(info["vocab_size"]), len(info["labels"])
    # Needed only when the model is written, which is too late to hear that it is damaged.
    known = load_tokenizer(folder / "tokenizer.json").get_vocab_size()
    if known != vocab_size:
        raise BadInput(
            f"{folder}: tokenizer.json knows {known} tokens, dataset.json {vocab_size}; "
            "prepare the data again"
        )
    data = {name: _read_split(folder / f"{name}.parquet", vocab_size, classes) for name in splits}
    return Prepared(folder, info, data)


def _read_split(path: Path, vocab_size: int, classes: int) -> TokenDataset:
    try:
        table = pq.read_table(path, columns=["input_ids", "label"], memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    _check_columns(path, table)
    tokens = table.column("input_ids").combine_chunks()
    offsets = np.asarray(tokens.offsets, dtype=np.int64)
    ids: NDArray[Any] = np.asarray(tokens.values)[offsets[0] : offsets[-1]]
    labels = table.column("label").to_numpy()
    if len(labels) == 0:
        raise BadInput(f"{path}: has no rows")
    empty = np.diff(offsets) < 1
    if empty.any():
        raise BadInput(f"{path}: row {int(empty.argmax())} has no tokens")
    # Before the ids are narrowed, which would wrap a wrong one round into the vocabulary.
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise BadInput(f"{path}: a token id lies outside the vocabulary of {vocab_size}")
    if labels.min() < 0 or labels.max() >= classes:
        raise BadInput(f"{path}: a label lies outside the {classes} classes of dataset.json")
    dtype = np.int16 if vocab_size <= 2**15 else np.int32
    return TokenDataset(
        ids.astype(dtype), offsets - offsets[0], labels.astype(np.int32), *read_characters(path)
    )


def _check_columns(path: Path, table: pa.Table) -> None:
    tokens, labels = table.column("input_ids"), table.column("label")
    if not pa.types.is_list(tokens.type) or not pa.types.is_integer(tokens.type.value_type):
        raise BadInput(f"{path}: 'input_ids' is {tokens.type}, expected list<int32>")
    if not pa.types.is_integer(labels.type):
        raise BadInput(f"{path}: 'label' is {labels.type}, expected int32")
    if tokens.null_count or any(chunk.values.null_count for chunk in tokens.chunks):
        raise BadInput(f"{path}: 'input_ids' has missing values; prepare the data again")
    if labels.null_count:
        raise BadInput(f"{path}: 'label' has missing values; prepare the data again")
