"""Bad input through the real commands: clear lines, status 2, no traceback, nothing written."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import yaml
from conftest import reviews, write_csv
from driving import SPACE

from lstmcls.cli import run

Make = Callable[[Path, Path, Path], list[str]]  # (tmp, prepared, artifact) -> the command


def _raw(content: bytes | str, name: str = "x.csv", *options: str) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        path = tmp / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["lstmcls.prepare", str(path), "--out", str(tmp / "out"), *options]

    return make


def _good(*options: str) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        path = write_csv(tmp / "good.csv", reviews(60))
        return ["lstmcls.prepare", str(path), "--out", str(tmp / "out"), *options]

    return make


def _space(change: Callable[[dict[str, dict[str, object]]], object], *options: str) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        space = json.loads(json.dumps({**SPACE, "data": str(prepared)}))
        change(space)
        (tmp / "s.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
        return ["tune.search", "--space", str(tmp / "s.yaml"), "--out", str(tmp / "out"), *options]

    return make


def _text_space(text: str) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        (tmp / "s.yaml").write_text(text, encoding="utf-8")
        return ["tune.search", "--space", str(tmp / "s.yaml"), "--out", str(tmp / "out")]

    return make


def _search(*options: str) -> Make:
    return _space(lambda space: None, *options)


def _prepared(change: Callable[[Path], object]) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        shutil.copytree(prepared, tmp / "data")
        change(tmp / "data")
        return ["tune.search", "--data", str(tmp / "data"), "--out", str(tmp / "out")]

    return make


def _damaged(name: str, content: bytes | None) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        shutil.copytree(artifact, tmp / "model")
        if content is None:
            (tmp / "model" / name).unlink()
        else:
            (tmp / "model" / name).write_bytes(content)
        return ["lstmcls.predict", str(tmp / "model"), "some text"]

    return make


def _train(*options: str) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        return ["lstmcls.train", "--data", str(prepared), "--out", str(tmp / "out"), *options]

    return make


def _run_folder(command: str, journal: bytes, *options: str) -> Make:
    def make(tmp: Path, prepared: Path, artifact: Path) -> list[str]:
        folder = tmp / "run"
        folder.mkdir()
        text = yaml.safe_dump({**SPACE, "data": str(prepared)})
        (folder / "space.yaml").write_text(text, encoding="utf-8")
        (folder / "study.journal").write_bytes(journal)
        if command == "tune.export":
            return [command, str(folder), "--to", str(tmp / "out"), *options]
        return [command, "--resume", str(folder), *options]

    return make


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _older(folder: Path) -> None:
    info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**info, "format": 0}), encoding="utf-8")


ROWS = "text,label\n" + "\n".join(f"word {i} here,{'ab'[i % 2]}" for i in range(40)) + "\n"
LR = {"float": [1e-3, 0.1]}

CASES: list[tuple[str, Make, str]] = [
    ("no file", lambda t, p, a: ["lstmcls.prepare", "no.csv", "--out", str(t / "out")], "no.csv"),
    ("empty file", _raw(""), "empty"),
    ("no such columns", _raw("a,b\n1,2\n"), "text"),
    ("named column missing", _raw(ROWS, "x.csv", "--text", "txt"), "text"),
    ("unknown ending", _raw(ROWS, "x.doc"), "x.doc"),
    ("one class", _raw("text,label\na b,1\nc d,1\n"), "class"),
    ("small class", _raw("text,label\n" + "a b,x\n" + "".join(f"c {i},y\n" for i in range(30))), "x"),  # noqa: E501
    ("truncated parquet", _raw(b"PAR1\x00\x00", "x.parquet"), "x.parquet"),
    ("truncated gzip", _raw(b"\x1f\x8b\x08\x00", "x.csv.gz"), "x.csv.gz"),
    ("not UTF-8", _raw(b"text,label\n\xff\xfe\xfa,1\n"), "UTF-8"),
    ("line that is no object", _raw('{"text": "a", "label": 1}\n[1]\n', "x.jsonl"), "2"),
    ("split that does not sum", _good("--split", "0.5,0.1,0.1"), "split"),
    ("unknown tokenizer", _good("--tokenizer", "wrod"), "word"),
    ("vocabulary of one", _good("--vocab-size", "1"), "vocab-size"),
    ("max length of none", _good("--max-length", "0"), "max-length"),
    ("built-in misspelt", lambda t, p, a: ["lstmcls.prepare", "reviws", "--out", "o"], "reviews"),
    ("older prepared folder", _prepared(_older), "prepare it again"),
    ("split missing", _prepared(lambda d: (d / "val.parquet").unlink()), "val.parquet missing"),
    ("split damaged", _prepared(lambda d: _cut(d / "val.parquet")), "val.parquet"),
    ("dataset.json damaged", _prepared(lambda d: _cut(d / "dataset.json")), "damaged"),
    ("folder not prepared", _prepared(lambda d: (d / "dataset.json").unlink()), "dataset.json"),
    ("no such space", lambda t, p, a: ["tune.search", "--space", "ful"], "did you mean 'full'"),
    ("space not YAML", _text_space("space: [1"), "line"),
    ("space empty", _text_space(""), "s.yaml"),
    ("unknown section", _space(lambda s: s.update(bugdet={})), "did you mean 'budget'"),
    ("unknown setting", _space(lambda s: s["space"].update(hiden_size=LR)), "hidden_size"),
    ("unknown kind", _space(lambda s: s["space"].update(lr={"flaot": [0, 1]})), "float"),
    ("wrong type", _space(lambda s: s["space"].update(lr={"float": ["a", 1]})), "space.lr.float"),
    ("low above high", _space(lambda s: s["space"].update(lr={"float": [1, 0.1]})), "space.lr"),
    ("log from 0", _space(lambda s: s["space"].update(dropout={"float": [0, 0.5], "log": True})), "log"),  # noqa: E501
    ("no choices", _space(lambda s: s["space"].update(optimizer={"categorical": []})), "optimizer"),
    ("bad choice", _space(lambda s: s["space"].update(optimizer={"categorical": ["adma"]})), "adam"),  # noqa: E501
    ("unknown parent", _space(lambda s: s["space"].update(lr={**LR, "when": {"optimzer": "sgd"}})), "optimzer"),  # noqa: E501
    ("cycle", _space(lambda s: s["space"].update(
        lr={"categorical": [0.1], "when": {"dropout": 0.1}},
        dropout={"categorical": [0.1], "when": {"lr": 0.1}})), "when"),
    ("searched and fixed", _space(lambda s: s["fixed"].update(lr=0.1)), "fixed.lr"),
    ("point outside", _space(lambda s: s.update(enqueue=[{"lr": 5}])), "enqueue"),
    ("point with unknown key", _space(lambda s: s.update(enqueue=[{"lrr": 0.01}])), "lrr"),
    ("metric nobody reports", _space(lambda s: s.update(objective={"metric": "val_acuracy"})), "val_accuracy"),  # noqa: E501
    ("bad mode", _space(lambda s: s.update(objective={"metric": "val_loss", "mode": "up"})), "mode"),  # noqa: E501
    ("unknown sampler", _space(lambda s: s.update(sampler="tpee")), "tpe"),
    ("grid without steps", _space(lambda s: s.update(sampler="grid")), "grid"),
    ("reduction of one", _space(lambda s: s.update(asha={"reduction_factor": 1})), "asha"),
    ("grace above epochs", _space(lambda s: s.update(asha={"grace_epochs": 99})), "asha"),
    ("no CPUs", _space(lambda s: s.update(resources={"cpu": 0})), "resources.cpu"),
    ("negative GPUs", _search("--gpus-per-trial", "-1"), "resources.gpu"),
    ("no trials", _search("--trials", "0"), "budget.trials"),
    ("negative minutes", _search("--minutes", "-3"), "budget.minutes"),
    ("minutes that are a word", _search("--minutes", "ten"), "budget.minutes"),
    ("seed that is a word", _search("--seed", "x"), "seed"),
    ("concurrency of none", _search("--concurrency", "0"), "concurrency"),
    ("--set unknown", _search("--set", "hiden=3"), "hiden"),
    ("--set wrong value", _search("--set", "batch_size=many"), "batch_size"),
    ("--set without =", _search("--set", "epochs"), "key=value"),
    ("--data unknown", _search("--data", "reveiws"), "did you mean 'reviews'"),
    ("--warm-start nothing", _search("--warm-start", "nowhere"), "nowhere"),
    ("--resume nothing", lambda t, p, a: ["tune.search", "--resume", str(t)], "not the folder"),
    ("--resume with --data", _run_folder("tune.search", b"", "--data", "reviews"), "--data"),
    ("journal damaged inside", _run_folder("tune.search", b'{"a"\n{"op_code": 0}\n'), "line 1"),
    ("export without winner", _run_folder("tune.export", b""), "no winner yet"),
    ("export of nothing", lambda t, p, a: ["tune.export", str(t), "--to", "o"], "not the folder"),
    ("train: unknown setting", _train("--set", "hidden=3"), "did you mean 'hidden_size'"),
    ("train: no config", _train("--config", "no.yaml"), "no.yaml"),
    ("no model", lambda t, p, a: ["lstmcls.predict", str(t / "m"), "x"], "no such folder"),
    ("weights missing", _damaged("model.safetensors", None), "model.safetensors missing"),
    ("weights damaged", _damaged("model.safetensors", b"\x10\0\0\0\0\0\0\0{}"), "model.safetensors"),  # noqa: E501
    ("config damaged", _damaged("config.yaml", b"{"), "config.yaml"),
    ("config of another network", _damaged("config.yaml", b"hidden_size: 99\n"), "does not fit"),
    ("tokenizer damaged", _damaged("tokenizer.json", b"{}"), "tokenizer.json"),
    ("labels damaged", _damaged("labels.json", b"[]"), "labels.json"),
    ("metrics damaged", _damaged("metrics.json", b"{}"), "metrics.json"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input(
    make: Make,
    expected: str,
    prepared_folder: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    module, *arguments = make(tmp_path, prepared_folder, trained)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr("sys.argv", [module, *arguments])
    with pytest.raises(SystemExit) as ended:
        run(importlib.import_module(module).main)
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed.err
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert lines, printed.err
    assert any(expected in line for line in lines), lines
    assert "Traceback" not in printed.err
    assert printed.out == ""
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    left = {p for p in set(after) - set(before) if p.name != ".lock"}
    assert not left
    assert all(after[path] == before[path] for path in before if path.is_file())
    assert not ray.is_initialized()


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 40
