"""`python -m lstmcls.evaluate`: the recorded numbers again, and clear faults."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import reviews, write_csv

from lstmcls.artifact import load_artifact
from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.evaluate import evaluate_files, evaluate_prepared, main, trained_splits
from lstmcls.prepare import prepare
from lstmcls.train import train

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_validation_split_gives_the_recorded_numbers(
    command: Command, trained: Path, prepared_folder: Path
) -> None:
    found = command("lstmcls.evaluate", trained, prepared_folder, "--split", "val", "--json")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    recorded = load_artifact(trained).metrics
    assert result["metrics"] == recorded["val"]
    assert result["per_class"] == recorded["per_class"]
    assert recorded["val"]["accuracy"] > 0.9
    assert (result["rows"], result["skipped"], result["labels"]) == (40, 0, ["neg", "pos"])


@pytest.mark.parametrize("padding", ["masked", "counted"])
@pytest.mark.parametrize("zero_state", [True, False])
@pytest.mark.parametrize("max_length", [0, 3])
def test_recorded_numbers_come_again_for_every_kind_of_network(
    padding: str,
    zero_state: bool,
    max_length: int,
    tmp_path: Path,
    prepared: Prepared,
    prepared_folder: Path,
    tiny: TrainConfig,
) -> None:
    config = dataclasses.replace(
        tiny, padding=padding, zero_state=zero_state, max_length=max_length, dropout=0.3
    )
    list(train(prepared, config, tmp_path / "m"))
    artifact = load_artifact(tmp_path / "m")
    assert evaluate_prepared(artifact, prepared_folder, "val")["metrics"] == artifact.metrics["val"]


def test_tables_for_people(called: Command, trained: Path, prepared_folder: Path) -> None:
    found = called("lstmcls.evaluate", trained, prepared_folder)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0] == f"{prepared_folder}, split test: 40 texts"
    for name in ("loss", "accuracy", "precision", "recall", "f1", "roc_auc"):
        assert any(line.startswith(f"{name} ") for line in lines)
    assert "class  precision  recall    f1        texts" in lines
    assert lines[-3].split() == ["neg", "pos"]
    counts = [[int(n) for n in line.split()[1:]] for line in lines[-2:]]
    assert [sum(row) for row in counts] == [20, 20]


def test_a_raw_file_gives_the_numbers_of_its_prepared_rows(
    trained: Path, prepared_folder: Path, reviews_csv: Path
) -> None:
    artifact = load_artifact(trained)
    whole = evaluate_files(artifact, [reviews_csv])
    assert whole["rows"] == 400
    per_split = [evaluate_prepared(artifact, prepared_folder, s) for s in ("train", "val", "test")]
    right = sum(r["confusion"][k][k] for r in per_split for k in range(2))
    assert whole["metrics"]["accuracy"] == right / 400


def test_several_files_are_one_set_and_rows_without_text_or_label_are_counted(
    trained: Path, tmp_path: Path
) -> None:
    rows = reviews(40)
    first = write_csv(tmp_path / "a.csv", [*rows[:20], ("", "pos"), ("good", "")])
    second = tmp_path / "b.jsonl"
    lines = (json.dumps({"review": text, "sentiment": label}) for text, label in rows[20:])
    second.write_text("\n".join(lines))
    artifact = load_artifact(trained)
    result = evaluate_files(artifact, [first, second])
    assert (result["rows"], result["skipped"]) == (40, 2)
    together = evaluate_files(artifact, [write_csv(tmp_path / "c.csv", rows)])
    assert result["confusion"] == together["confusion"]


def test_one_class_alone_has_no_roc_auc(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "pos.csv", [row for row in reviews(20) if row[1] == "pos"])
    assert main([str(trained), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["roc_auc"] is None
    assert main([str(trained), "--text", "text", str(path)]) == 0
    assert "not defined" in capsys.readouterr().out


def test_named_columns(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.tsv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["words", "mood"], ["good box", "pos"], ["bad box", "neg"]])
    artifact = load_artifact(trained)
    assert evaluate_files(artifact, [path], "words", "mood")["rows"] == 2
    with pytest.raises(BadInput, match=r"no column 'word'.*did you mean 'words'"):
        evaluate_files(artifact, [path], "word", "mood")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny: TrainConfig) -> tuple[Path, Path]:
    """A model trained on two columns of a file that has others of usual names; and that file."""
    folder = tmp_path_factory.mktemp("shop")
    path = folder / "shop.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "comment", "stars", "label"])
        for number, (text, label) in enumerate(reviews(400)):
            writer.writerow([number, "bad broken slow", text, label, "shipped"])
    prepare([str(path)], folder / "data", text="comment", label="stars", max_length=12,
            progress=False)  # fmt: skip
    config = dataclasses.replace(tiny, epochs=6, dropout=0.1, lr=0.05)
    list(train(load_prepared(folder / "data"), config, folder / "model"))
    return folder / "model", path


def test_the_columns_of_the_training_come_before_those_of_usual_names(
    shop: tuple[Path, Path], called: Command
) -> None:
    model, path = shop
    found = called("lstmcls.evaluate", model, path, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["metrics"]["accuracy"] > 0.9
    line = f"{path}: texts from column 'comment', labels from column 'stars'"
    assert found.stderr.splitlines() == [line]
    named = called("lstmcls.evaluate", model, path, "--label", "label")
    assert named.returncode == 2  # that column holds no label of the model
    assert "texts from column 'comment', labels from column 'label'" in named.stderr
    other = called("lstmcls.evaluate", model, path, "--text", "stars")
    assert "error: " in other.stderr
    assert "texts from column 'stars', labels from column 'label'" in other.stderr


def test_a_file_without_the_columns_of_the_training_is_read_as_ever(
    shop: tuple[Path, Path], reviews_csv: Path, called: Command
) -> None:
    found = called("lstmcls.evaluate", shop[0], reviews_csv, "--json")
    assert json.loads(found.stdout)["metrics"]["accuracy"] > 0.9
    assert "texts from column 'text', labels from column 'label'" in found.stderr


def test_a_prediction_reads_the_column_of_the_training(
    shop: tuple[Path, Path], called: Command
) -> None:
    model, path = shop
    found = called("lstmcls.predict", model, "--file", path)
    assert found.stderr.splitlines() == [f"{path}: texts from column 'comment'"]
    texts = [line.split("\t")[2] for line in found.stdout.splitlines()]
    assert texts == [text for text, _ in reviews(400)]
    named = called("lstmcls.predict", model, "--file", path, "--text", "text")
    assert named.stderr.splitlines() == [f"{path}: texts from column 'text'"]
    assert {line.split("\t")[2] for line in named.stdout.splitlines()} == {"bad broken slow"}


def test_an_unknown_label_has_status_2_and_the_nearest_name(
    called: Command, trained: Path, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "odd.csv", [("good box", "pos"), ("bad box", "negg")])
    found = called("lstmcls.evaluate", trained, path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.splitlines() == [
        f"{path}: texts from column 'text', labels from column 'label'",
        f"error: {path}: the model knows no label 'negg', only neg, pos; did you mean 'neg'?",
    ]


def _other_folder(folder: Path, rows: list[tuple[str, str]], **options: Any) -> Path:
    prepare(
        [str(write_csv(folder.with_suffix(".csv"), rows))],
        folder, **{"max_length": 12, "progress": False, **options},
    )  # fmt: skip
    return folder


def test_a_folder_with_other_labels_is_refused(trained: Path, tmp_path: Path) -> None:
    rows = [(text, {"pos": "up", "neg": "down"}[label]) for text, label in reviews(100)]
    folder = _other_folder(tmp_path / "d", rows)
    with pytest.raises(BadInput, match=r"its labels \(down, up\) are not the model's \(neg, pos\)"):
        main([str(trained), str(folder)])


def test_rows_that_are_longer_than_the_model_reads_are_cut(
    tmp_path: Path, tiny: TrainConfig
) -> None:
    shorter = _other_folder(tmp_path / "shorter", reviews(400), max_length=3)
    longer = _other_folder(tmp_path / "longer", reviews(400))
    list(train(load_prepared(shorter), tiny, tmp_path / "m"))
    artifact = load_artifact(tmp_path / "m")
    found = evaluate_prepared(artifact, longer, "val")
    assert found["metrics"] == artifact.metrics["val"]


@pytest.mark.parametrize("options", [{"tokenizer": "char"}, {"max_length": 5}, {"vocab_size": 20}])
def test_a_folder_with_another_tokenizer_is_refused(
    options: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    folder = _other_folder(tmp_path / "d", reviews(400), **options)
    with pytest.raises(BadInput, match="its tokenizer is not the model's"):
        main([str(trained), str(folder)])


def test_wrong_combinations(
    trained: Path, prepared_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    model, data, raw = str(trained), str(prepared_folder), str(reviews_csv)
    for arguments, message in (
        ([model, data, raw], "a prepared folder is evaluated alone"),
        ([model, raw, "--split", "val"], "--split is for a prepared folder"),
        ([model, data, "--text", "x"], "--text and --label are for files"),
        ([model, str(tmp_path)], "not a prepared folder"),
        ([model, str(tmp_path / "none.csv")], "no such file"),
        ([str(tmp_path / "none"), raw], "no such folder"),
        ([str(tmp_path), raw], "not a whole model"),
    ):
        with pytest.raises(BadInput) as fault:
            main(arguments)
        assert message in str(fault.value)


def test_a_file_without_a_usable_row(trained: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "empty.csv", [("", "pos"), ("good", "")])
    with pytest.raises(BadInput, match="no row has both a text and a label"):
        main([str(trained), str(path)])


@pytest.mark.parametrize(
    ("metrics", "splits"),
    [
        ({"val": {}}, ("train",)),
        ({"val": {}, "divided_anew": True}, ("train", "val")),
        ({"out_of_fold": {}}, ("train", "val")),
        ({"trained_on": 9}, ("train", "val")),
    ],
)
def test_the_splits_that_a_model_was_trained_on_are_known(
    metrics: dict[str, Any], splits: tuple[str, ...]
) -> None:
    assert trained_splits(metrics) == splits
