"""Every command at a terminal that is not UTF-8, over data, labels and folders that are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, HANG, reviews, write_csv
from driving import write_space

LATIN = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
NAMES = {"neg": "差", "pos": "好 – ½"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data, and a run with a winner, in a folder of a name that Latin-1 cannot print."""
    place = tmp_path_factory.mktemp("北京")
    write_csv(place / "店.csv", [(f"{text} 电影", NAMES[label]) for text, label in reviews(200)])
    done = command(place, LATIN, "lstmcls.prepare", "店.csv", "--out", "数据")
    assert done.returncode == 0, done.stderr
    assert r"\u597d" in done.stdout
    fixed = {"epochs": 1, "first_report": 0.5}
    confirm = {"top": 1, "folds": 2}
    write_space(
        place / "spaß.yaml", place / "数据", fixed=fixed, budget={"trials": 2}, confirm=confirm
    )
    done = command(place, LATIN, "tune.search", "--space", "spaß.yaml", "--out", "跑")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "report:  \\u8dd1/report.html" in done.stdout
    return place


def command(
    place: Path, environment: dict[str, str], module: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=place,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        encoding="latin-1",
        timeout=HANG,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("lstmcls.prepare", "店.csv --out OUT/数据", r"/\u6570\u636e"),
        ("lstmcls.train", "--data 数据 --out OUT/模 --set epochs=1", r"/\u6a21: validation"),
        ("lstmcls.predict", "跑/best 好电影", "\\u597d\\u7535\\u5f71\n"),
        ("lstmcls.predict", "跑/best --file 店.csv --out OUT/店.jsonl", r"/\u5e97.jsonl: 200"),
        ("lstmcls.evaluate", "跑/best 店.csv", r"\u597d \u2013 ½"),
        ("tune.export", "跑 --to OUT/出", r"/\u51fa"),
        ("tune.report", "跑", r"\u8dd1/report.html"),
    ],
    ids=lambda value: value.split()[0] if value.startswith(("lstmcls", "tune")) else "",
)
def test_what_the_terminal_cannot_show_is_shown_as_its_code(
    place: Path, module: str, arguments: str, says: str, tmp_path: Path
) -> None:
    done = command(place, LATIN, module, *arguments.replace("OUT", str(tmp_path)).split())
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


@pytest.mark.parametrize("module", ["lstmcls.predict", "lstmcls.evaluate"])
def test_an_ascii_locale(place: Path, module: str, tmp_path: Path) -> None:
    shutil.copytree(place / "跑" / "best", tmp_path / "model")
    shutil.copy(place / "店.csv", tmp_path / "shop.csv")
    file = [] if module == "lstmcls.evaluate" else ["--file"]
    done = command(tmp_path, ASCII, module, "model", *file, "shop.csv")
    assert done.returncode == 0, done.stderr
    assert (r"\u7535\u5f71" if file else r"\u597d \u2013 \xbd") in done.stdout


@pytest.mark.parametrize(
    ("module", "arguments", "folder", "says"),
    [
        ("lstmcls.prepare", "店.csv --out new", ".", r"\u5e97.csv: cannot"),
        ("lstmcls.predict", "best good", "跑", r"/\u8dd1: cannot"),
        ("tune.search", "--space s.yaml --out 新", ".", r"\u65b0: cannot"),
    ],
    ids=lambda value: value if value.startswith(("lstmcls", "tune")) else "",
)
def test_names_that_an_ascii_locale_cannot_read_are_a_line(
    place: Path, module: str, arguments: str, folder: str, says: str
) -> None:
    before = sorted(place.rglob("*"))
    done = command(place / folder, ASCII, module, *arguments.split())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert line.endswith("set PYTHONUTF8=1, or a UTF-8 locale such as LC_ALL=C.UTF-8")
    assert sorted(place.rglob("*")) == before


def test_what_another_program_reads_is_whole_whatever_the_terminal(place: Path) -> None:
    """JSON, and a script for a cluster: codes in them would be other values."""
    done = command(place, LATIN, "lstmcls.predict", "跑/best", "--json", "电影 😀")
    assert json.loads(done.stdout)["text"] == "电影 😀"
    done = command(
        place, LATIN, "tune.submit", "slurm", "--space", "spaß.yaml", "--shared", str(place),
        "--name", "a", "--data", str(place / "店.csv"),
        "--nodes", "1", "--cpus-per-node", "1", "--time", "1:00:00",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "北京0/店.csv" in done.stdout.encode("latin-1").decode("utf-8")


def test_bad_input_is_a_line(place: Path) -> None:
    done = command(place, LATIN, "tune.search", "--space", "跑跑.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith(r"error: \u8dd1\u8dd1.yaml: no such file")
