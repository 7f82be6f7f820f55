"""Batches against naive loops, and every way in which a prepared folder can be damaged."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lstmcls.batches import FEWEST, WINDOW, ordered_batches, random_batches, shuffled_batches
from lstmcls.cli import BadInput
from lstmcls.dataset import Prepared, TokenDataset, load_prepared, read_info

token_rows = st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=9), min_size=1)


def _dataset(rows: list[list[int]]) -> TokenDataset:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    ids = np.array([i for row in rows for i in row], dtype=np.int16)
    return TokenDataset(ids, offsets, np.arange(len(rows), dtype=np.int32))


@settings(max_examples=50, deadline=None)
@given(token_rows, st.data(), st.integers(0, 4), st.integers(0, 10))
def test_a_batch_is_what_a_loop_gathers(
    rows: list[list[int]], data: st.DataObject, extra: int, cut: int
) -> None:
    numbers = st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8)
    chosen = np.array(data.draw(numbers))
    whole = _dataset(rows)
    rows = [row[: cut or None] for row in rows]
    longest = max(len(rows[r]) for r in chosen)
    pad_to = longest + extra if extra else None
    ids, lengths, labels = whole.on("cpu", cut).batch(chosen, pad_to)
    wanted = [rows[r] + [0] * ((pad_to or longest) - len(rows[r])) for r in chosen]
    assert ids.tolist() == wanted
    assert lengths.tolist() == [len(rows[r]) for r in chosen]
    assert labels.tolist() == chosen.tolist()


row_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=200).map(np.array)


@settings(max_examples=50, deadline=None)
@given(row_lengths, st.integers(1, 30), st.integers(0, 9))
def test_an_epoch_has_every_row_once(lengths: Any, batch_size: int, seed: int) -> None:
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    again = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 9))
def test_random_batches_are_those_of_a_shuffled_data_loader(
    rows: int, batch_size: int, seed: int
) -> None:
    batches = random_batches(rows, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(rows))
    loader = DataLoader(range(rows), batch_size, shuffle=True)  # type: ignore[arg-type]
    assert [len(batch) for batch in batches] == [len(batch) for batch in loader]
    again = random_batches(rows, batch_size, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@settings(max_examples=50, deadline=None)
@given(row_lengths, st.integers(1, 30))
def test_ordered_batches_have_every_row_once_by_length(lengths: Any, batch_size: int) -> None:
    batches = list(ordered_batches(lengths, batch_size))
    order = np.concatenate(batches)
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()
    for batch in batches:
        assert len(batch) <= batch_size
        assert len(batch) <= FEWEST or lengths[batch].max() <= 1.2 * lengths[batch].min()


def test_rows_of_like_length_are_together_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, WINDOW * 8)
    batches = shuffled_batches(lengths, 8, np.random.default_rng([0, 0]))
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert padded < 1.05 * lengths.sum()
    other = shuffled_batches(lengths, 8, np.random.default_rng([0, 1]))
    assert {frozenset(b) for b in batches} != {frozenset(b) for b in other}


def test_an_epoch_adds_little_to_the_rows_that_all_workers_share() -> None:
    rows = 100_000
    data = TokenDataset(
        np.ones(rows * 10, np.int16), np.arange(rows + 1) * 10, np.zeros(rows, np.int32)
    )
    tracemalloc.start()
    lengths = data.lengths
    kept = shuffled_batches(lengths, 64, np.random.default_rng(0))
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 1563
    assert now < 11 * rows  # four bytes each for the lengths and the order, and views
    assert peak < 17 * rows


def test_read_only_arrays_are_viewed_without_a_warning() -> None:
    data = _dataset([[1, 2], [3]])
    for array in (data.ids, data.offsets, data.labels):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = data.on("cpu")
    assert rows.ids.data_ptr() == data.ids.ctypes.data


def test_a_prepared_folder_comes_back_as_its_parquet_files(
    prepared: Prepared, prepared_folder: Path
) -> None:
    assert prepared.labels == ["neg", "pos"]
    assert prepared.vocab_size == prepared.info["vocab_size"]
    for name, split in prepared.splits.items():
        table = pq.read_table(prepared_folder / f"{name}.parquet").to_pydict()
        ends = zip(split.offsets[:-1], split.offsets[1:], strict=True)
        assert [split.ids[a:b].tolist() for a, b in ends] == table["input_ids"]
        assert split.labels.tolist() == table["label"]
        assert split.ids.dtype == np.int16
        units, ends_of_texts = split.characters, split.character_offsets
        assert units is not None
        assert ends_of_texts is not None
        ends = pairwise(ends_of_texts)
        assert ["".join(map(chr, units[a:b])) for a, b in ends] == table["characters"]
        arrays = (split.ids, split.offsets, split.labels, units, ends_of_texts)
        assert split.nbytes == sum(array.nbytes for array in arrays)


def test_test_is_not_read_unless_asked_for(prepared_folder: Path) -> None:
    assert set(load_prepared(prepared_folder).splits) == {"train", "val"}


def _info(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "dataset.json"
        info = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in info.items() if v != "GONE"}))

    return change


def _table(
    ids: Any, labels: Any, names: tuple[str, str] = ("input_ids", "label")
) -> Callable[[Path], None]:
    columns = dict(zip(names, (ids, labels), strict=True))
    return lambda folder: pq.write_table(pa.table(columns), folder / "val.parquet")


def _int_lists(rows: list[Any]) -> Any:
    return pa.array(rows, pa.list_(pa.int32()))


def _ints(values: list[Any]) -> Any:
    return pa.array(values, pa.int32())


def _cut(folder: Path) -> None:
    path = folder / "val.parquet"
    path.write_bytes(path.read_bytes()[:-50])


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "not a prepared folder"),
    "no json": (lambda f: (f / "dataset.json").unlink(), "no dataset.json"),
    "cut json": (lambda f: (f / "dataset.json").write_text('{"labels": ['), "damaged"),
    "json of another kind": (lambda f: (f / "dataset.json").write_text("[1]"), "format None"),
    "binary json": (lambda f: (f / "dataset.json").write_bytes(b"\xff\x00"), "damaged"),
    "old format": (_info(format=0), "format 0, this version reads 1"),
    "no labels": (_info(labels="GONE"), "lacks labels"),
    "labels of another kind": (_info(labels=3), "labels"),
    "vocab_size of another kind": (_info(vocab_size="many"), "vocab_size"),
    "max_length of another kind": (_info(max_length=None), "max_length"),
    "no parquet": (lambda f: (f / "test.parquet").unlink(), "test.parquet missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json missing"),
    "cut parquet": (_cut, "cannot be read"),
    "not parquet": (lambda f: (f / "val.parquet").write_text("hello"), "cannot be read"),
    "no rows": (_table(_int_lists([]), _ints([])), "has no rows"),
    "empty row": (_table(_int_lists([[2], []]), _ints([0, 1])), "row 1 has no tokens"),
    "missing row": (
        _table(_int_lists([[2], None]), _ints([0, 1])),
        "'input_ids' has missing values",
    ),
    "missing id": (
        _table(_int_lists([[2], [None]]), _ints([0, 1])),
        "'input_ids' has missing values",
    ),
    "missing label": (
        _table(_int_lists([[2], [2]]), _ints([0, None])),
        "'label' has missing values",
    ),
    "id too large": (_table(_int_lists([[2], [70_000]]), _ints([0, 1])), "outside the vocabulary"),
    "id that wraps round": (
        _table(_int_lists([[2], [2**16 + 1]]), _ints([0, 1])),
        "outside the vocabulary",
    ),
    "negative id": (_table(_int_lists([[2], [-1]]), _ints([0, 1])), "outside the vocabulary"),
    "label too large": (_table(_int_lists([[2], [2]]), _ints([0, 2])), "outside the 2 classes"),
    "negative label": (_table(_int_lists([[2], [2]]), _ints([0, -1])), "outside the 2 classes"),
    "no id column": (_table(_int_lists([[2]]), _ints([0]), ("ids", "label")), "input_ids"),
    "no label column": (_table(_int_lists([[2]]), _ints([0]), ("input_ids", "y")), "label"),
    "ids are no lists": (_table(_ints([2]), _ints([0])), "input_ids"),
    "labels are text": (_table(_int_lists([[2]]), pa.array(["neg"])), "label"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_in_one_clear_line(name: str, prepared_folder: Path, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    folder = tmp_path / "data"
    shutil.copytree(prepared_folder, folder)
    damage(folder)
    with pytest.raises(BadInput) as fault:
        load_prepared(folder)
    assert message in str(fault.value)
    assert str(folder) in str(fault.value)
    assert len(fault.value.messages) == 1


def test_read_info_alone_finds_the_same_faults(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a prepared folder"):
        read_info(tmp_path)
