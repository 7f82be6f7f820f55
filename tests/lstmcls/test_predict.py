"""`python -m lstmcls.predict`: arguments, standard input and files of every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ENVIRONMENT, PROBABILITY, reviews

from lstmcls.artifact import load_artifact
from lstmcls.cli import BadInput
from lstmcls.predict import _chunks, main, predictions
from lstmcls.reading import open_file

Command = Callable[..., "subprocess.CompletedProcess[str]"]
TEXTS = ["the box was good", "a very slow hotel", 'quoted, "comma"\nand a line', "电影 ü", ""]


def test_texts_as_arguments(called: Command, trained: Path) -> None:
    found = called("lstmcls.predict", trained, "the box was good", "a very slow\thotel")
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    rows = [line.split("\t") for line in found.stdout.splitlines()]
    assert [row[0] for row in rows] == ["pos", "neg"]
    assert all(0.5 <= float(row[1]) <= 1 for row in rows)
    assert [row[2] for row in rows] == ["the box was good", "a very slow hotel"]


def test_lines_of_standard_input_as_json(command: Command, trained: Path) -> None:
    found = command("lstmcls.predict", trained, "--json", stdin="good 电影\r\n\nbroken box\n")
    assert found.returncode == 0, found.stderr
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["good 电影", "", "broken box"]
    assert (rows[0]["label"], rows[2]["label"]) == ("pos", "neg")
    for row in rows:
        assert row["probability"] == max(row["probabilities"].values())
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=PROBABILITY)


def _write(path: Path, texts: list[str]) -> Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": texts}), path)
        return path
    with io.StringIO(newline="") as file:
        if name.endswith((".csv", ".tsv")):
            writer = csv.writer(file, delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writerows([["text"], *([text] for text in texts)])
        else:
            file.writelines(json.dumps({"text": text, "n": [1]}) + "\n" for text in texts)
        content = file.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file]


ENDINGS = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "csv.gz", "jsonl.gz"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_of_prepare_is_read_without_labels(ending: str, tmp_path: Path) -> None:
    source = open_file(_write(tmp_path / f"texts.{ending}", TEXTS), labelled=False)
    assert [text for chunk in _chunks(source) for text in chunk] == TEXTS


def test_chunks_are_bounded_by_texts_and_by_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lstmcls.predict.CHUNK", 2000)
    monkeypatch.setattr("lstmcls.predict.BATCH_CHARACTERS", 10_000)
    texts = ["good"] * 2000 + ["long " * 20] * 1000 + ["bad"] * 3
    source = open_file(_write(tmp_path / "t.parquet", texts), labelled=False)
    chunks = list(_chunks(source))
    assert [len(chunk) for chunk in chunks] == [2000, 1000, 3]
    assert [text for chunk in chunks for text in chunk] == texts


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_to_a_file(
    ending: str,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lstmcls.predict.CHUNK", 1000)
    texts = TEXTS + [text for text, _ in reviews(2500)]
    source = _write(tmp_path / "texts.parquet", texts)
    out = tmp_path / f"labels.{ending}"
    out.write_text("older")
    assert main([str(trained), "--file", str(source), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 2505 texts\n"
    rows = _read(out)
    assert [row["text"] for row in rows] == texts
    expected = predictions(load_artifact(trained), texts)
    for row, wanted in zip(rows, expected, strict=True):
        assert row["label"] == wanted["label"]
        assert float(row["probability"]) == pytest.approx(wanted["probability"], abs=PROBABILITY)
    one, wanted = rows[7], expected[7]
    named = one["probabilities"] if ending == "jsonl" else one
    for label, value in wanted["probabilities"].items():
        found = named[label if ending == "jsonl" else f"probability_{label}"]
        assert float(found) == pytest.approx(value, abs=PROBABILITY)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, out.name])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("source", ["shop.csv", "shop.jsonl", "shop.parquet"])
def test_the_files_own_columns_stay(
    source: str, ending: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [text for text, _ in reviews(40)]
    table = [
        {"id": str(n), "comment": text, "label": None if n == 3 else "old", "tags": f'["{n}"]'}
        for n, text in enumerate(texts)
    ]
    path = tmp_path / source
    if source.endswith("csv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    elif source.endswith("jsonl"):
        path.write_text(
            "".join(json.dumps({**row, "tags": json.loads(row["tags"])}) + "\n" for row in table)
        )
    else:
        pq.write_table(pa.Table.from_pylist(table), path)
    out = tmp_path / f"out.{ending}"
    options = ["--file", str(path), "--text", "comment", "--out", str(out)]
    assert main([str(trained), *options]) == 0
    rows = _read(out)
    expected = predictions(load_artifact(trained), texts)
    assert [row["label"] for row in rows] == [row["label"] for row in expected]
    assert [row["comment"] for row in rows] == texts
    assert [row["id"] for row in rows] == [str(n) for n in range(40)]
    assert [row["given_label"] or None for row in rows] == [row["label"] for row in table]
    nested = source.endswith("jsonl") and ending == "jsonl"
    assert rows[7]["tags"] == (["7"] if nested else '["7"]')
    assert "text" not in rows[0]


def test_what_json_has_no_word_for_is_null(trained: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "out.jsonl"
    numbers, lists = [1.5, float("nan"), float("-inf")], [[0.5], [float("nan"), 2.0], []]
    pq.write_table(pa.table({"text": ["good", "bad", "box"], "x": numbers, "y": lists}), path)
    assert main([str(trained), "--file", str(path), "--out", str(out)]) == 0

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in out.read_text().splitlines()]
    assert [row["x"] for row in rows] == [1.5, None, None]
    assert [row["y"] for row in rows] == [[0.5], [None, 2.0], []]


def test_a_number_that_json_should_not_hold_leaves_an_empty_cell(
    trained: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "t.jsonl", tmp_path / "out.csv"
    path.write_text('{"text": "good", "x": NaN, "y": [NaN, 1]}\n')  # as Python itself writes it
    assert main([str(trained), "--file", str(path), "--out", str(out)]) == 0
    (row,) = _read(out)
    assert (row["x"], row["y"]) == ("", "[null, 1]")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_json_may_hold_is_kept_or_made_whole(
    ending: str, trained: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "t.jsonl", tmp_path / f"out.{ending}"
    lines = ['{"text": "hi \\ud83d there", "of": ["\\ud83d"]}', *['{"text": "good"}'] * 100]
    path.write_text("\n".join([*lines, '{"text": "bad", "late": 7}']))
    assert main([str(trained), "--file", str(path), "--out", str(out)]) == 0
    rows = _read(out)
    assert rows[0]["text"] == "hi \ufffd there"
    assert "\ufffd" in str(rows[0]["of"])
    assert str(rows[101]["late"]) == "7"


def test_columns_of_one_name_are_told_apart(trained: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "t.csv", tmp_path / "out.csv"
    path.write_text("id,text,id,text\n1,good,2,bad\n")
    assert main([str(trained), "--file", str(path), "--out", str(out)]) == 0
    (row,) = _read(out)
    assert [row[name] for name in ("id", "text", "id.1", "text.1")] == ["1", "good", "2", "bad"]


def test_parquet_keeps_its_types(trained: Path, tmp_path: Path) -> None:
    when = [datetime(2026, 1, n, tzinfo=UTC) for n in (1, 2)]
    table = pa.table({"when": when, "text": ["good", "bad"], "n": [1, None], "of": [[1], []]})
    pq.write_table(table, tmp_path / "t.parquet")
    for ending in ("parquet", "jsonl"):
        out = tmp_path / f"out.{ending}"
        assert main([str(trained), "--file", str(tmp_path / "t.parquet"), "--out", str(out)]) == 0
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table)
    assert _read(tmp_path / "out.jsonl")[1]["when"] == "2026-01-02 00:00:00+00:00"


def test_a_file_through_the_command_line(
    called: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "texts.csv", TEXTS)
    found = called("lstmcls.predict", trained, "--file", "texts.csv", "--out", "labels.csv")
    assert found.returncode == 0, found.stderr
    assert found.stdout == "labels.csv: 5 texts\n"
    assert [row["text"] for row in _read(tmp_path / "labels.csv")] == TEXTS


def test_a_damaged_file_leaves_no_output_and_has_status_2(
    called: Command, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "good"}\n' * 5000 + "{broken\n")
    out = tmp_path / "labels.csv"
    found = called("lstmcls.predict", trained, "--file", path, "--out", out)
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        f"{path}: texts from column 'text'",
        f"error: {path}: line 5001: not valid JSON; expected one object",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["texts.jsonl"]


def test_the_text_column_can_be_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("id,words\n1,good box\n")
    with pytest.raises(BadInput, match=r"no text column.*name it with --text"):
        main([str(trained), "--file", str(path)])
    with pytest.raises(BadInput, match="did you mean 'words'"):
        main([str(trained), "--file", str(path), "--text", "word"])
    assert main(["--text", "words", str(trained), "--file", str(path)]) == 0  # in any order
    assert capsys.readouterr().out.endswith("\tgood box\n")


def test_a_text_that_looks_like_an_option(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--json", "--", str(trained), "-good"], [str(trained), "--", "-good"]):
        assert main(arguments) == 0
        assert "-good" in capsys.readouterr().out


def test_wrong_combinations(trained: Path, tmp_path: Path) -> None:
    model, file = str(trained), str(_write(tmp_path / "t.csv", TEXTS))
    for arguments, message in (
        ([model, "good", "--file", file], "give texts or --file, not both"),
        ([model, "good", "--out", "x.csv"], "--out needs --file"),
        ([model, "good", "--text", "x"], "--text needs --file"),
        ([model, "--file", file, "--out", "x.csv", "--json"], "--json is for standard output"),
        ([model, "--file", file, "--out", "x.xlsx"], "expected a file ending in .csv, .jsonl"),
        ([model, "--file", file, "--out", str(tmp_path / "n" / "x.csv")], "no such folder"),
        ([model, "--file", str(tmp_path / "none.csv")], "no such file"),
        ([model, "--file", str(tmp_path)], "is a folder"),
        ([model, "--file", str(trained / "README.md")], "unknown file ending"),
        ([str(tmp_path), "good"], "not a whole model"),
    ):
        with pytest.raises(BadInput) as fault:
            main(arguments)
        assert message in str(fault.value)


def test_bytes_that_are_no_text(trained: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [
            "bash",
            "-c",
            f"printf 'good\\n\\xff\\n' | {sys.executable} -m lstmcls.predict '{trained}'; "
            "exit ${PIPESTATUS[1]}",
        ],
        capture_output=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr == b"error: standard input: line 2: not valid UTF-8\n"


def test_an_argument_that_is_no_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(trained), "good \udcff"]) == 0
    assert capsys.readouterr().out.endswith("\tgood \ufffd\n")


def test_a_reader_that_closes_the_pipe_is_no_fault(trained: Path, tmp_path: Path) -> None:
    _write(tmp_path / "t.csv", ["good box"] * 50_000)
    found = subprocess.run(
        ["bash", "-c",
         f"{sys.executable} -m lstmcls.predict '{trained}' --file t.csv | head -n 1; "
         "exit ${PIPESTATUS[0]}"],
        capture_output=True, cwd=tmp_path, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert found.stdout.endswith(b"\tgood box\n")
    assert found.stderr == b"t.csv: texts from column 'text'\n"
    assert found.returncode == 0
