from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ENVIRONMENT
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmcls.cli import BadInput
from lstmcls.passes import survey, texts, write
from lstmcls.prepare import prepare
from lstmcls.reading import open_file
from lstmcls.splitting import DROPPED, SPLITS, TRAIN
from lstmcls.tokenizer import KINDS, encode, load_tokenizer, train_tokenizer

WORDS = ["good", "bad", "film", "book", "great", "poor", "story", "actor", "long", "fine"]


def table(rows: int = 60) -> pd.DataFrame:
    texts = [
        f'{WORDS[i % 10]}, "{WORDS[i // 10 % 10]}"\n{WORDS[i % 7]} 好看 {i}' for i in range(rows)
    ]
    return pd.DataFrame({"text": texts, "label": [i % 2 for i in range(rows)]})


def write_csv(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def quietly(*inputs: Path | str, out: Path, **settings: Any) -> dict[str, Any]:
    return prepare([str(i) for i in inputs], out, progress=False, **settings)


def read(out: Path, split: str) -> list[tuple[tuple[int, ...], int]]:
    found = pq.read_table(out / f"{split}.parquet").to_pydict()
    return [(tuple(i), n) for i, n in zip(found["input_ids"], found["label"], strict=True)]


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "dataset.json"}


def test_every_format_gives_the_same_folder(tmp_path: Path) -> None:
    frame = table()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "a.csv.gz", index=False)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "a.jsonl.gz", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    files = sorted(tmp_path.glob("a.*"))
    assert len(files) == 6
    prepared = {}
    for path in files:
        out = tmp_path / f"out-{path.name}"
        told = quietly(path, out=out)
        told.pop("sources")
        prepared[path.name] = (content(out), told)
    first = prepared.pop("a.csv")
    assert all(other == first for other in prepared.values())


def test_the_folder_is_as_promised(tmp_path: Path) -> None:
    table(100).to_csv(tmp_path / "a.csv", index=False)
    told = quietly(tmp_path / "a.csv", out=tmp_path / "out", max_length=5)
    out = tmp_path / "out"
    assert json.loads((out / "dataset.json").read_text()) == told
    assert {p.name for p in out.iterdir()} == {
        "train.parquet", "val.parquet", "test.parquet", "tokenizer.json", "dataset.json",
    }  # fmt: skip
    schema = pq.read_schema(out / "train.parquet")
    assert schema.field("input_ids").type == pa.list_(pa.int32())
    assert schema.field("label").type == pa.int32()
    assert schema.field("characters").type == pa.string()
    assert told["format"] == 1
    assert told["labels"] == ["0", "1"]
    assert [told["rows"][s] for s in SPLITS] == [80, 10, 10]
    assert told["classes"]["val"] == {"0": 5, "1": 5}
    assert told["truncated_share"] == 1
    assert told["tokens"] == {"train": 400, "val": 50, "test": 50}
    assert told["split"] == [0.8, 0.1, 0.1]
    assert told["sources"][0]["name"] == "a.csv"
    assert told["sources"][0]["bytes"] == (tmp_path / "a.csv").stat().st_size
    assert told["vocab_size"] == load_tokenizer(out / "tokenizer.json").get_vocab_size()


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_file_alone_gives_the_written_ids(kind: str, tmp_path: Path) -> None:
    frame = table()
    frame.to_parquet(tmp_path / "a.parquet")
    out = tmp_path / "out"
    quietly(tmp_path / "a.parquet", out=out, tokenizer=kind, max_length=9)
    again = encode(load_tokenizer(out / "tokenizer.json"), frame["text"].tolist())
    written = sorted(ids for split in SPLITS for ids, _ in read(out, split))
    assert written == sorted(map(tuple, again))


def test_what_is_dropped_and_counted(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(f"text {i}", "a" if i % 2 else "b") for i in range(20)]
    rows += [("text 1", "a"), (" text 1\n", "a"), ("both", "a"), ("both", "b"), ("both", "a")]
    rows += [("   ", "a"), ("<br /><br />", "a"), (None, "b"), ("no label", None)]
    told = quietly(write_csv(tmp_path / "a.csv", rows), out=tmp_path / "out")
    counts = told["rows"]
    assert counts["read"] == 29
    assert {name: counts[name] for name in DROPPED} == {
        "missing_label": 1, "empty": 3, "duplicates": 2, "contradictory": 3, "found_in_test": 0,
    }  # fmt: skip
    assert sum(counts[split] for split in SPLITS) == 20


SHAPES: list[Any] = [  # ways to write one text, as a network reads it
    str.upper, str.title, "<br />{}".format, "{}<BR/> ".format, lambda t: t.replace(" ", " \n "),
    lambda t: "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in t),  # wide: NFKC
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_a_network_reads_as_one_do_not_cross_the_split(
    kind: str, tmp_path: Path
) -> None:
    rows = [(f"the {WORDS[i % 10]} film {i}!", i % 2) for i in range(120)]
    rows += [(SHAPES[i % 6](text), label) for i, (text, label) in enumerate(rows)]
    told = quietly(write_csv(tmp_path / "a.csv", rows), out=tmp_path / "out", tokenizer=kind)
    assert told["rows"]["duplicates"] == 120
    read_as = [[ids for ids, _ in read(tmp_path / "out", split)] for split in SPLITS]
    assert sum(map(len, read_as)) == 120
    if kind == "char":  # which tells all numbers apart
        assert len({ids for split in read_as for ids in split}) == 120


def test_texts_that_a_network_reads_as_one_may_contradict_or_be_in_the_test_set(
    tmp_path: Path,
) -> None:
    rows = [(f"text {i}", i % 2) for i in range(40)] + [("TEXT  0", 1), ("text<br>2", 0)]
    write_csv(tmp_path / "a.csv", rows)
    write_csv(tmp_path / "t.csv", [("Text 4\n", 0), ("TEXT 5", 1), ("new", 0), ("New", 0)])
    told = quietly(tmp_path / "a.csv", out=tmp_path / "out", test=str(tmp_path / "t.csv"))
    counts = told["rows"]
    dropped = {name: counts[name] for name in DROPPED if counts[name]}
    assert dropped == {"duplicates": 1, "contradictory": 2, "found_in_test": 2}
    assert counts["test"] == 4


any_rows = st.lists(st.tuples(st.text(max_size=8), st.sampled_from(["a", "b", None])), max_size=30)


@settings(max_examples=60, deadline=None)
@given(rows=any_rows, kind=st.sampled_from(KINDS), seed=st.integers(0, 9))
def test_any_rows_are_split_or_counted(
    rows: list[tuple[str, str | None]],
    kind: str,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("p")
    rows = rows + [(f"{label} row {i}", label) for label in "ab" for i in range(3)]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (folder / "a.jsonl").write_text("\n".join(lines))
    out = folder / "out"
    told = quietly(folder / "a.jsonl", out=out, tokenizer=kind, seed=seed)
    counts = told["rows"]
    assert counts.pop("read") == len(rows) == sum(counts.values())
    for split in SPLITS:
        written = read(out, split)
        assert len(written) == counts[split] == sum(told["classes"][split].values())
        assert sum(len(ids) for ids, _ in written) == told["tokens"][split]
        assert all(ids and min(ids) > 0 and max(ids) < told["vocab_size"] for ids, _ in written)
        assert {label for _, label in written} == {0, 1}


def test_splits_share_no_text_and_follow_the_seed(tmp_path: Path) -> None:
    frame = pd.concat([table(200), table(150)])
    frame.to_parquet(tmp_path / "a.parquet")
    made = []
    for name, seed in (("x", 3), ("y", 3), ("z", 4)):
        quietly(tmp_path / "a.parquet", out=tmp_path / name, tokenizer="char", seed=seed)
        splits = [{ids for ids, _ in read(tmp_path / name, split)} for split in SPLITS]
        assert sum(map(len, splits)) == len(set().union(*splits)) == 200
        made.append(content(tmp_path / name))
    assert made[0] == made[1] != made[2]


def test_the_tokenizer_knows_the_training_split_alone(tmp_path: Path) -> None:
    rows = [(f"{'alpha' * 2}{i} x", i % 2) for i in range(10)]
    test = [(f"zebra zebra zebra {i}", i % 2) for i in range(10)]
    write_csv(tmp_path / "a.csv", rows)
    write_csv(tmp_path / "t.csv", test)
    quietly(tmp_path / "a.csv", out=tmp_path / "out", test=str(tmp_path / "t.csv"))
    vocabulary = load_tokenizer(tmp_path / "out" / "tokenizer.json").get_vocab()
    assert "x" in vocabulary
    assert "zebra" not in vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_is_named_is_used(kind: str, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "a.csv", index=False)
    told = quietly(tmp_path / "a.csv", out=tmp_path / "out", tokenizer=kind)
    assert told["tokenizer"] == kind
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == told


def test_an_official_test_set_stays_whole(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [(f"text {i}", i % 2) for i in range(40)])
    write_csv(tmp_path / "t.csv", [("text 0", 1), ("text 1", 1), ("new", 0), ("new", 0)])
    told = quietly(tmp_path / "a.csv", out=tmp_path / "out", test=str(tmp_path / "t.csv"))
    counts = told["rows"]
    assert counts["found_in_test"] == 2
    assert counts["test"] == 4
    assert counts["train"] + counts["val"] == 38
    assert told["split"] == [0.9, 0.1]
    two = quietly(
        tmp_path / "a.csv", out=tmp_path / "two", test=str(tmp_path / "t.csv"), split=(0.9, 0.1)
    )
    assert two["rows"] == counts


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    frame = table(60)
    frame.to_parquet(tmp_path / "all.parquet")
    frame[:25].to_csv(tmp_path / "a.csv", index=False)
    frame[25:].rename(columns={"text": "Review"}).to_parquet(tmp_path / "b.parquet")
    quietly(tmp_path / "all.parquet", out=tmp_path / "x")
    told = quietly(tmp_path / "a.csv", tmp_path / "b.parquet", out=tmp_path / "y")
    assert content(tmp_path / "x") == content(tmp_path / "y")
    assert [source["name"] for source in told["sources"]] == ["a.csv", "b.parquet"]


def test_the_builtin_reviews(tmp_path: Path) -> None:
    told = quietly("reviews", out=tmp_path / "out")
    assert told["labels"] == ["negative", "positive"]
    assert told["rows"]["read"] > 35_000
    assert sum(told["rows"][split] for split in SPLITS) > 17_000
    assert told["vocab_size"] > 3000


GOOD = [(f"text {i}", i % 2) for i in range(20)]
BAD_DATA: list[tuple[list[tuple[Any, ...]], str]] = [
    ([], r"no row with both a text and a label \(0 rows read\)"),
    ([("x", None), (None, 1)], r"no row with both .*\(2 rows read\)"),
    ([("x", 1), ("y", 1)], "every label is '1'; expected two classes or more"),
    ([*GOOD, ("rare", 7), ("rarer", 7)], "class '7' has 2 usable rows, fewer than the 3 splits"),
    ([*GOOD, ("x", 7), ("x", 8)], "class '7' has 0 usable rows"),
    ([(f"text {i}", f"label {i}") for i in range(1001)], "more than 1000 different labels"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_DATA)
def test_bad_data(rows: list[tuple[Any, ...]], message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(BadInput, match=message):
        quietly(path, out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": (0.9, 0.1)}, "two need --test"),
        ({"split": (0.8, 0.1, 0.2)}, "sum to 1.*got 0.8,0.1,0.2"),
        ({"split": (0.9, 0.1, 0.0)}, "above 0"),
        ({"split": ()}, "got nothing"),
        ({"split": (float("nan"), 0.5, 0.5)}, "above 0"),
        ({"tokenizer": "words"}, r"got 'words'; did you mean 'word'\?"),
        ({"vocab_size": 2}, "vocab-size: expected at least 3"),
        ({"max_length": 0}, "max-length: expected at least 1 token"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"text": "txt"}, r"no column 'txt' .*did you mean 'text'\?"),
        ({"test": "missing.csv"}, "missing.csv: no such file"),
    ],
)
def test_bad_settings(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", GOOD)
    with pytest.raises(BadInput, match=message):
        quietly(path, out=tmp_path / "out", **wrong)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_a_test_label_that_training_lacks(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", GOOD)
    test = write_csv(tmp_path / "t.csv", [("x", "positive")])
    with pytest.raises(BadInput, match=r"t.csv: label 'positive' is not among .*\(0, 1\)"):
        quietly(path, out=tmp_path / "out", test=str(test))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"reveiws: no such file.*did you mean 'reviews'\?"):
        quietly("reveiws", out=tmp_path / "out")
    with pytest.raises(BadInput, match="no input"):
        quietly(out=tmp_path / "out")


def test_only_an_empty_or_prepared_folder_is_replaced(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", GOOD)
    out = tmp_path / "out"
    out.mkdir()
    quietly(path, out=out)
    before = content(out)
    quietly(path, out=out, tokenizer="char")
    assert content(out) != before
    (out / "mine.csv").write_text("precious")
    with pytest.raises(BadInput, match=r"holds other files \(mine.csv\)"):
        quietly(path, out=out)
    with pytest.raises(BadInput, match="is a file"):
        quietly(path, out=path)
    with pytest.raises(BadInput, match="holds other files"):
        quietly(path, out=tmp_path)
    assert (out / "mine.csv").read_text() == "precious"


def test_a_fault_in_the_last_row_leaves_the_old_folder(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", GOOD)
    quietly(path, out=tmp_path / "out")
    before = content(tmp_path / "out")
    path.write_text(path.read_text() + "ragged\n")
    with pytest.raises(BadInput, match="line 22: 1 fields, expected 2"):
        quietly(path, out=tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_source_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", GOOD)
    source = open_file(path)
    seen = survey([source], None, progress=False)
    for rows in (GOOD[:-1], [*GOOD, ("more", 1)]):
        write_csv(path, rows)
        with pytest.raises(BadInput, match="changed while it was read"):
            write(tmp_path, [source], seen, train_tokenizer("char", [["x"]], 9), 9, progress=False)
    path.write_text("text,label\nragged\n")
    with pytest.raises(BadInput, match="line 2"):
        train_tokenizer("word", texts([source], seen.fate == TRAIN), 9)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lstmcls.prepare", *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[2],
    )


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(table().to_csv(index=False).encode()))
    done = command(path, "--out", tmp_path / "out", "--split", "0.6,0.2,0.2", "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert "rows       60 read; dropped: none" in done.stdout
    assert "36 rows" in done.stdout
    assert "\x1b" not in done.stderr + done.stdout
    assert (tmp_path / "out" / "dataset.json").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["no.csv"], ["reviews", "--split", "a,b"], ["reviews", "--tokenizer", "wrd"]],
)
def test_the_command_on_bad_input(arguments: list[str], tmp_path: Path) -> None:
    done = command(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_teaches_with_an_example() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert "python -m lstmcls.prepare reviews --out" in done.stdout
