"""Bad input to every command: status 2, lines that say what to change, nothing written, no Ray."""

from __future__ import annotations

import gzip
import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from conftest import reviews, write_csv
from driving import write_space
from ray._raylet import AuthenticationTokenLoader

from lstmcls.artifact import NEEDED
from lstmcls.cli import run
from tune.space import Objective, load_space
from tune.study import SEARCH, open_study

SPACE = """\
space:
  lr: {float: [0.001, 0.1], log: true}
  optimizer: {categorical: [sgd, adam]}
  momentum: {float: [0.0, 0.9], when: {optimizer: sgd}}
fixed: {epochs: 1, hidden_size: 8, embedding_dim: 8}
data: data
"""


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster's, which --address needs: a home without one is another fault."""
    loader = AuthenticationTokenLoader.instance()
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "5" * 64)
        loader.reset_cache()
        yield
    loader.reset_cache()


@pytest.fixture
def place(
    tmp_path: Path,
    prepared_folder: Path,
    trained: Path,
    token: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working directory with good input of every kind, for a case to spoil."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(prepared_folder, tmp_path / "data")
    shutil.copytree(trained, tmp_path / "model")
    write_csv(tmp_path / "good.csv", reviews(40))
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    space = load_space(str(write_space(folder / "space.yaml", tmp_path / "data")))
    open_study(folder / "study.journal", SEARCH, space.objective)
    (folder / ".lock").touch()
    return tmp_path


def _text(name: str, content: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_text(content, encoding="utf-8")


def _bytes(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(content)


def _cut(name: str) -> Callable[[Path], object]:
    """Half of the file."""

    def spoil(place: Path) -> None:
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[: len(content) // 2])

    return spoil


def _gone(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).unlink()


def _info(**changes: object) -> Callable[[Path], object]:
    """dataset.json of the prepared folder, with other values."""

    def spoil(place: Path) -> None:
        path = place / "data" / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def _space(old: str, new: str) -> Callable[[Path], object]:
    assert old in SPACE
    return _text("space.yaml", SPACE.replace(old, new))


def _winner(place: Path) -> None:
    shutil.copytree(place / "model", place / "run" / "best")


def _damaged_winner(place: Path) -> None:
    _winner(place)
    (place / "run" / "best" / "labels.json").write_text("[")


def _another_tokenizer(place: Path) -> None:
    path = place / "data" / "tokenizer.json"
    path.write_text(path.read_text().replace('"box"', '"crate"'))


def _damaged_middle(place: Path) -> None:
    path = place / "run" / "study.journal"
    path.write_bytes(b'{"op_code": 0,\n' + path.read_bytes())


def _begun_with_other_data(place: Path) -> None:
    study = open_study(place / "run" / "study.journal", SEARCH, Objective())
    study.set_user_attr("data", "other")


def _damaged_other_run(place: Path) -> None:
    (place / "other").mkdir()
    (place / "other" / "space.yaml").write_text("space: [", encoding="utf-8")
    (place / "other" / "study.journal").touch()


def _in_own_folder(name: str, content: str) -> Callable[[Path], object]:
    """A file of the user's in own/, which a run or prepared data would have under that name."""

    def spoil(place: Path) -> None:
        (place / "own").mkdir()
        (place / "own" / name).write_text(content, encoding="utf-8")

    return spoil


def _nothing(place: Path) -> None:
    pass


PREPARE, TRAIN, EVALUATE = "lstmcls.prepare", "lstmcls.train", "lstmcls.evaluate"
PREDICT, SEARCHING, EXPORT = "lstmcls.predict", "tune.search", "tune.export"
SUBMIT, REPORT = "tune.submit.__main__", "tune.report.__main__"
JOB = "--space space.yaml --shared /shared"
NODES = "--space space.yaml --cpus-per-node 1 --time 1:00:00"
NEW = "--space space.yaml --out new"

# command, arguments, what spoils the good input, what the message says
CASES: list[tuple[str, str, Callable[[Path], object], str]] = [
    (PREPARE, "goood.csv --out new", _nothing, "no such file; did you mean 'good.csv'"),
    (PREPARE, "empty.csv --out new", _text("empty.csv", ""), "is empty"),
    (PREPARE, "head.csv --out new", _text("head.csv", "text,label\n"), "head.csv"),
    (PREPARE, "x.csv --out new", _text("x.csv", "a,b\n1,2\n"), "no text column"),
    (PREPARE, "good.csv --out new --text comment", _nothing, "no column 'comment'"),
    (PREPARE, "good.csv --out new --label text", _nothing, "both the text and the label"),
    (PREPARE, "x.csv --out new", _text("x.csv", "text,label\na,p\nb,p\n"), "every label is 'p'"),
    (PREPARE, "x.csv --out new", _text("x.csv", "text,label\na,p\nb,p\nc,p\nd,n\n"), "fewer than"),
    (PREPARE, "x.csv --out new", _text("x.csv", "text,label\na,p,q\n"), "3 fields, expected 2"),
    (PREPARE, "x.csv --out new", _bytes("x.csv", b"text,label\n\xff,p\n"), "not valid UTF-8"),
    (PREPARE, "x.jsonl --out new", _text("x.jsonl", '{"text": "a"\n'), "not valid JSON"),
    (PREPARE, "x.xls --out new", _text("x.xls", "?"), "unknown file ending"),
    (PREPARE, "data/train.parquet --out new", _cut("data/train.parquet"), "Parquet file"),
    (
        PREPARE,
        "x.csv.gz --out new",
        _bytes("x.csv.gz", gzip.compress(b"text,label\n" * 99)[:-9]),
        "gzip",
    ),
    (PREPARE, "good.csv --out data", _gone("data/dataset.json"), "empty folder"),
    (PREPARE, "good.csv --out own", _in_own_folder("dataset.json", '{"mine": 1}'), "other files"),
    (PREPARE, "data/train.parquet --out data", _nothing, "holds the input data/train.parquet"),
    (PREPARE, "good.csv --out new --split 0.9,0.9,0.9", _nothing, "sum to 1"),
    (PREPARE, "good.csv --out new --split half", _nothing, "split"),
    (PREPARE, "good.csv --out new --vocab-size 0", _nothing, "vocab-size"),
    (PREPARE, "good.csv --out new --max-length -1", _nothing, "max-length"),
    (PREPARE, "good.csv --out new --tokenizer wrod", _nothing, "did you mean 'word'"),
    (PREPARE, "reviws --out new", _nothing, "did you mean 'reviews'"),
    (PREPARE, "good.csv --out new --test none.csv", _nothing, "no such file"),
    (PREPARE, "reviews --out new --text comment", _nothing, "--text and --label are for files"),
    (TRAIN, "--data none --out new", _nothing, "not a prepared folder"),
    (TRAIN, "--data data --out new", _info(format=99), "format 99"),
    (TRAIN, "--data data --out new", _text("data/dataset.json", "{"), "damaged"),
    (TRAIN, "--data data --out new", _info(labels=["p"]), "outside the 1 classes"),
    (TRAIN, "--data data --out new", _info(vocab_size=3), "dataset.json 3"),
    (TRAIN, "--data data --out new", _info(vocab_size=10**6), "tokenizer.json knows"),
    (TRAIN, "--data data --out new", _gone("data/val.parquet"), "val.parquet missing"),
    (TRAIN, "--data data --out new", _cut("data/train.parquet"), "cannot be read"),
    (TRAIN, "--data data --out new", _cut("data/tokenizer.json"), "tokenizer.json"),
    (TRAIN, "--data data --out new --set hiden_size=8", _nothing, "did you mean 'hidden_size'"),
    (TRAIN, "--data data --out new --set lr=fast", _nothing, "lr: "),
    (TRAIN, "--data data --out new --set lr", _nothing, "lr"),
    (TRAIN, "--data data --out new --set epochs=0", _nothing, "epochs: "),
    (TRAIN, "--data data --out new --config none.yaml", _nothing, "none.yaml"),
    (TRAIN, "--data data --out new --config x.yaml", _text("x.yaml", "lr: ["), "x.yaml"),
    (TRAIN, "--data data --out new --config x.yaml", _text("x.yaml", "lrr: 1"), "did you mean"),
    (TRAIN, "--data data --out run", _nothing, "holds something else"),
    *[(PREDICT, "model text", _gone(f"model/{n}"), f"{n} missing") for n in NEEDED],
    *[(EVALUATE, "model data", _cut(f"model/{n}"), n) for n in NEEDED],
    *[(PREDICT, "model text", _bytes(f"model/{n}", b""), n) for n in NEEDED],
    (PREDICT, "model text", _text("model/config.yaml", "hidden_size: 99\n"), "does not fit"),
    (PREDICT, "model text", _text("model/labels.json", '["a"]'), "labels.json"),
    (PREDICT, "none text", _nothing, "no such folder"),
    (PREDICT, "model text --file good.csv", _nothing, "not both"),
    (PREDICT, "model --file none.csv", _nothing, "no such file"),
    (PREDICT, "model --file good.csv --out new.doc", _nothing, "expected a file ending"),
    (PREDICT, "model --file good.csv --out ./good.csv", _nothing, "is the file that --file names"),
    (PREDICT, "model --file good.csv --out none/new.csv", _nothing, "no such folder"),
    (EVALUATE, "model none.csv", _nothing, "none.csv"),
    (EVALUATE, "model data --split train --text t", _nothing, "are for files"),
    (EVALUATE, "model x.csv", _text("x.csv", "text,label\na,poss\n"), "did you mean 'pos'"),
    (EVALUATE, "model data", _another_tokenizer, "its tokenizer is not the model's"),
    (EVALUATE, "model data", _info(labels=["neg", "good"]), "are not the model's"),
    (SEARCHING, "--space none --out new", _nothing, "no such file or search space"),
    (SEARCHING, "--space fulll --out new", _nothing, "did you mean 'full'"),
    (SEARCHING, NEW, _text("space.yaml", ""), "empty"),
    (SEARCHING, NEW, _text("space.yaml", "space: [\n"), "not valid YAML"),
    (SEARCHING, NEW, _text("space.yaml", "- lr\n"), "expected `key: value`"),
    (SEARCHING, NEW, _text("space.yaml", "fixed: {lr: 0.1}\n"), "space: needs at least one"),
    (SEARCHING, NEW, _space("fixed:", "fixd:"), "did you mean 'fixed'"),
    (SEARCHING, NEW, _space("hidden_size", "hiden_size"), "did you mean 'hidden_size'"),
    (SEARCHING, NEW, _space("epochs: 1", "epochs: many"), "fixed.epochs"),
    (SEARCHING, NEW, _space("[0.001, 0.1]", "[slow, 0.1]"), "space.lr.float"),
    (SEARCHING, NEW, _space("[0.001, 0.1]", "[0.1, 0.001]"), "above the high bound"),
    (SEARCHING, NEW, _space("float: [0.0, 0.9]", "float: [0.0, 0.9], log: true"), "above 0"),
    (SEARCHING, NEW, _space("when: {optimizer", "when: {optimiser"), "did you mean 'optimizer'"),
    (SEARCHING, NEW, _space("optimizer: sgd", "momentum: 0.5"), "depend on itself"),
    (SEARCHING, NEW, _space("[sgd, adam]}", "[sgd, adam], when: {momentum: 0}}"), "momentum"),
    (SEARCHING, NEW, _space("[sgd, adam]", "[]"), "at least one choice"),
    (
        SEARCHING,
        NEW,
        _space("{categorical: [sgd", "{categoric: [sgd"),
        "did you mean 'categorical'",
    ),
    (SEARCHING, NEW, _space("hidden_size: 8", "lr: 0.1"), "is also searched"),
    (SEARCHING, NEW, _space("data: data", "objective: {mode: up}"), "objective.mode"),
    (SEARCHING, NEW, _space("data: data", "asha: {reduction_factor: 1}"), "asha"),
    (SEARCHING, NEW, _space("data: data", "asha: {grace_epochs: 99}"), "asha"),
    (SEARCHING, NEW, _space("[sgd, adam]", "[sgd, adamm]"), "did you mean 'adam'"),
    (SEARCHING, NEW, _space("data: data", "enqueue: [{lr: 9}]"), "outside the search"),
    (SEARCHING, NEW, _space("data: data", "enqueue: [{epochs: 3}]"), "conflicts with `fixed`"),
    (SEARCHING, NEW, _space("data: data", "objective: {metric: val_acuracy}"), "did you mean"),
    (SEARCHING, NEW, _space("data: data", "sampler: {name: tpee}"), "did you mean 'tpe'"),
    (SEARCHING, NEW, _space("data: data", "sampler: {name: grid}"), "needs steps"),
    (SEARCHING, NEW, _space("data: data", "budget: {trials: 0}"), "budget.trials"),
    (SEARCHING, NEW, _space("data: data", "asha: {grace_epochs: -1}"), "asha.grace_epochs"),
    (SEARCHING, f"{NEW} --trials 0", _nothing, "--trials: expected"),
    (SEARCHING, f"{NEW} --trials many", _nothing, "--trials: expected"),
    (SEARCHING, f"{NEW} --minutes -1", _nothing, "--minutes: expected"),
    (SEARCHING, f"{NEW} --target 2", _nothing, "--target: val_accuracy is between 0 and 1"),
    (SEARCHING, f"{NEW} --concurrency 0", _nothing, "--concurrency: expected"),
    (SEARCHING, f"{NEW} --cpus-per-trial 0", _nothing, "--cpus-per-trial: expected"),
    (SEARCHING, f"{NEW} --gpus-per-trial -1", _nothing, "--gpus-per-trial: expected"),
    (SEARCHING, f"{NEW} --gpus-per-trial autoo", _nothing, "did you mean 'auto'"),
    (SEARCHING, f"{NEW} --seed -1", _nothing, "seed"),
    (SEARCHING, f"{NEW} --set hiden_size=8", _nothing, "did you mean 'hidden_size'"),
    (SEARCHING, f"{NEW} --set lr=fast", _nothing, "--set lr: expected a number"),
    (SEARCHING, f"{NEW} --data revews", _nothing, "did you mean 'reviews'"),
    (SEARCHING, f"{NEW} --data model", _nothing, "not a prepared folder"),
    (SEARCHING, f"{NEW} --data good.csv --text comment", _nothing, "no column 'comment'"),
    (SEARCHING, f"{NEW} --text comment", _nothing, "--text and --label are for files"),
    (
        SEARCHING,
        f"{NEW} --data reviews --label stars",
        _nothing,
        "--text and --label are for files",
    ),
    (SEARCHING, NEW, _cut("data/val.parquet"), "cannot be read"),
    (SEARCHING, NEW, _info(format=99), "format 99"),
    (SEARCHING, NEW, _gone("data/tokenizer.json"), "tokenizer.json missing"),
    (SEARCHING, NEW, _cut("data/tokenizer.json"), "tokenizer.json"),
    (SEARCHING, "--space space.yaml --out model", _nothing, "not empty"),
    (
        SEARCHING,
        "--space space.yaml --out own",
        _in_own_folder("space.yaml", "# mine"),
        "not empty",
    ),
    (
        SEARCHING,
        "--space own/space.yaml --out own",
        _in_own_folder("space.yaml", SPACE),
        "own: is where --space own/space.yaml lies",
    ),
    (SEARCHING, "--space space.yaml --out good.csv", _nothing, "good.csv"),
    (SEARCHING, "--space space.yaml --out good.csv/new", _nothing, "cannot be made"),
    (SEARCHING, "--space space.yaml --out run", _nothing, "go on with --resume run"),
    (SEARCHING, f"{NEW} --warm-start model", _nothing, "not the folder of a search"),
    (SEARCHING, f"{NEW} --warm-start other", _damaged_other_run, "other/space.yaml"),
    (SEARCHING, f"{NEW} --warm-start run", _damaged_middle, "run/study.journal: a line is damaged"),
    (SEARCHING, "--resume none", _nothing, "not the folder of a search"),
    (SEARCHING, "--resume model", _nothing, "not the folder of a search"),
    (SEARCHING, "--resume run --seed 1", _nothing, "--seed: a resumed search keeps"),
    (SEARCHING, "--resume run --set lr=1", _nothing, "--set: a resumed search keeps"),
    (SEARCHING, "--resume run --objective val_f1", _nothing, "--objective: a resumed search"),
    (SEARCHING, f"{NEW} --objective val_f2", _nothing, "did you mean 'val_f1'"),
    (SEARCHING, "--resume run --space full", _nothing, "--space: a resumed search keeps"),
    (SEARCHING, "--resume run --data reviews", _nothing, "--data: a resumed search keeps"),
    (SEARCHING, "--resume run", _damaged_middle, "line 1 is damaged"),
    (SEARCHING, "--resume run", _begun_with_other_data, "data: was prepared anew"),
    (SEARCHING, "--resume run", _cut("run/space.yaml"), "run/space.yaml"),
    (SEARCHING, "--resume run", _gone("data/train.parquet"), "train.parquet missing"),
    (SEARCHING, f"{NEW} --address 127.0.0.1:9", _nothing, "Connection refused"),
    (SEARCHING, f"{NEW} --address ray://head:10001", _nothing, "expected HOST:PORT of the head"),
    (SEARCHING, f"{NEW} --address here", _nothing, "--address here"),
    (SEARCHING, "--space space.yaml --auto-resume", _nothing, "name the run's folder with --out"),
    (SEARCHING, "--space space.yaml --out run --auto-resume", _nothing, "a search that differs in"),
    (SEARCHING, "--space space.yaml --out s3://bucket", _nothing, "expected s3://BUCKET/FOLDER"),
    (SEARCHING, "--space space.yaml --out s4://b/run", _nothing, "expected s3://BUCKET/FOLDER"),
    (SEARCHING, "--space space.yaml --out s3://k:s@b/run", _nothing, "s3://...@b/run: no creden"),
    (SEARCHING, "--space space.yaml --out s3://b/run?a=1", _nothing, "parameter in S3 URI: 'a'"),
    (SEARCHING, "--resume file:///none/run", _nothing, "study.journal missing"),
    (SEARCHING, "--resume file:///none/run --seed 0", _nothing, "a resumed search keeps"),
    (SUBMIT, "--space space.yaml --shared s3://b", _nothing, "expected s3://BUCKET/FOLDER"),
    (SUBMIT, "k8s --image i --name a", _nothing, "--claim: name that of /shared"),
    (SUBMIT, f"{JOB} --address http://127.0.0.1:9", _nothing, "nothing answers there"),
    (SUBMIT, "list --address http://127.0.0.1:9", _nothing, "nothing answers there"),
    (SUBMIT, "list --address 127.0.0.1:8265", _nothing, "such as http://127.0.0.1:8265"),
    (SUBMIT, "list --address ray://127.0.0.1", _nothing, "such as http://127.0.0.1:8265"),
    (SUBMIT, f"{JOB} --trials 0", _nothing, "--trials: expected"),
    (SUBMIT, f"{JOB} --name a/b", _nothing, "expected letters, digits"),
    (SUBMIT, "--space space.yaml --shared here", _nothing, "expected an absolute path"),
    (SUBMIT, "--space spac.yaml --shared /shared", _nothing, "no such file or search space"),
    (SUBMIT, f"slurm {NODES} --nodes 0", _nothing, "--nodes: expected 1 or more"),
    (SUBMIT, f"slurm {NODES} --data none.csv", _nothing, "none.csv: no such file or folder"),
    (SUBMIT, "k8s --image i --claim c --name A", _nothing, "lower-case letters"),
    (REPORT, "none", _nothing, "not the folder of a search"),
    (REPORT, "run", _damaged_middle, "study.journal: a line is damaged"),
    (EXPORT, "none --to new", _nothing, "not the folder of a search"),
    (EXPORT, "run --to new", _nothing, "has no winner yet"),
    (EXPORT, "run --to data", _winner, "not empty"),
    (EXPORT, "run --to new", _damaged_winner, "labels.json"),
]


def _contents(place: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
        if path.name != ".lock"  # holds the number of the process that looked
    }


def _started(*_: object, **__: object) -> None:
    raise AssertionError("Ray was started before the input was found bad")


@pytest.mark.parametrize(
    ("module", "arguments", "spoil", "says"),
    CASES,
    ids=[f"{n}-{case[0].split('.')[1]}-{case[3]}" for n, case in enumerate(CASES)],
)
def test_bad_input(
    module: str,
    arguments: str,
    spoil: Callable[[Path], object],
    says: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(place)
    before = _contents(place)
    monkeypatch.setattr("sys.argv", [module, *arguments.split()])
    monkeypatch.setattr(ray, "init", _started)
    with pytest.raises(SystemExit) as ended:
        run(importlib.import_module(module).main)
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed.err
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert any(says in line for line in errors), printed.err
    assert printed.err.splitlines()[-len(errors) :] == errors  # the last lines, each whole
    assert "Traceback" not in printed.err + printed.out
    assert _contents(place) == before
