"""`python -m lstmcls.train` as a user runs it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import THREADS

from lstmcls.artifact import load_artifact
from lstmcls.cli import BadInput, RunFailed
from lstmcls.train import main

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SMALL = ["embedding_dim=8", "hidden_size=8", "batch_size=16", "epochs=1"]
SETTINGS = [word for setting in SMALL for word in ("--set", setting)]


def test_one_run_from_the_command_line(
    command: Command, prepared_folder: Path, tmp_path: Path
) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "deep" / "model"
    config.write_text("variant: plain\nlr: 1e-2\nfirst_report: 0.5\nhidden_size: 99\n")
    found = command(
        "lstmcls.train", "--data", prepared_folder, "--out", out, "--config", config, *SETTINGS
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    assert "320 texts to train on, 40 to validate, 2 classes; variant plain, cpu" in lines[0]
    assert [line.split()[:2] for line in lines[1:3]] == [["epoch", "0.5"], ["epoch", "1"]]
    assert all("accuracy" in line and "F1" in line and "tokens/s" in line for line in lines[1:3])
    evaluate = ["python", "-m", "lstmcls.evaluate", str(out), str(prepared_folder)]
    assert lines[-1].endswith(shlex.join(evaluate))
    artifact = load_artifact(out)
    assert (artifact.config.variant, artifact.config.lr) == ("plain", 0.01)
    assert artifact.config.hidden_size == 8  # --set is over the file
    metrics = artifact.metrics
    assert 1 <= metrics["threads"] <= THREADS  # as many as there are cores, where that is less
    assert metrics["device"] == "cpu"
    assert [point["epoch"] for point in metrics["curve"]] == [0.5, 1.0]
    assert metrics["val"]["accuracy"] == max(p["val_accuracy"] for p in metrics["curve"])
    assert metrics["seconds"] > 0


def test_a_config_file_of_a_model_trains_the_same_model_again(
    prepared_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(prepared_folder), "--device", "cpu", "--quiet"]
    assert main([*data, "--out", str(tmp_path / "a"), *SETTINGS]) == 0
    config = str(tmp_path / "a" / "config.yaml")
    assert main([*data, "--out", str(tmp_path / "b"), "--config", config]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2  # --quiet: the last line of each
    one, other = (tmp_path / n / "model.safetensors" for n in "ab")
    assert one.read_bytes() == other.read_bytes()  # trained twice in this process


def test_a_run_that_diverges_fails_and_writes_nothing(
    called: Command, prepared_folder: Path, tmp_path: Path
) -> None:
    wild = ["optimizer=sgd", "lr=1000", "momentum=0.99", "weight_decay=10", "epochs=10"]
    settings = [word for setting in wild for word in ("--set", setting)]
    out = tmp_path / "model"
    found = called("lstmcls.train", "--data", prepared_folder, "--out", out, *SETTINGS, *settings)
    assert found.returncode == 1
    assert found.stderr.startswith("failed: diverged: ")
    assert len(found.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_bad_settings_are_told_at_once_with_status_2(
    called: Command, prepared_folder: Path, tmp_path: Path
) -> None:
    found = called(
        "lstmcls.train", "--data", prepared_folder, "--out", tmp_path / "m",
        "--set", "hiden_size=8", "--set", "lr=-1",
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        "error: --set: hiden_size: no such setting; did you mean 'hidden_size'?",
        "error: --set: lr: expected above 0 and at most 1000, got -1.0",
    ]


@pytest.mark.parametrize("kind", ["file", "other files", "below a file", "the data"])
def test_an_out_that_would_lose_files_is_refused_before_any_work(
    kind: str, prepared_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    out, message = {
        "file": (tmp_path / "file", "is a file"),
        "other files": (tmp_path / "other", "holds something else than a model (thesis.txt"),
        "below a file": (tmp_path / "file" / "model", "cannot be written"),
        "the data": (prepared_folder, "holds something else than a model"),
    }[kind]
    with pytest.raises(BadInput) as fault:
        main(["--data", str(tmp_path / "no data needed"), "--out", str(out)])
    assert message in str(fault.value)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_and_an_older_model_are_replaced(
    prepared_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    out.mkdir()
    arguments = ["--data", str(prepared_folder), "--out", str(out), "--quiet", *SETTINGS]
    assert main(arguments) == 0
    assert main([*arguments, "--set", "hidden_size=5"]) == 0
    assert load_artifact(out).config.hidden_size == 5


def test_a_model_beside_other_files_is_not_replaced(prepared_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    arguments = ["--data", str(prepared_folder), "--out", str(out), "--quiet", *SETTINGS]
    assert main(arguments) == 0
    (out / "notes.txt").write_text("precious")
    with pytest.raises(BadInput, match=r"something else than a model \(notes.txt"):
        main(arguments)
    assert (out / "notes.txt").read_text() == "precious"


def test_data_that_is_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a prepared folder"):
        main(["--data", str(tmp_path), "--out", str(tmp_path / "m")])


def test_a_full_disk_is_a_failed_run(prepared_folder: Path, tmp_path: Path) -> None:
    # A name that is too long for the file system stands in for a disk that refuses.
    out = tmp_path / ("m" * 250)
    with pytest.raises(RunFailed, match="cannot be written"):
        main(["--data", str(prepared_folder), "--out", str(out), "--quiet", *SETTINGS])
