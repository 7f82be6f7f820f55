"""What the documents name exists, and what they show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, HANG, reviews, write_csv

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("page", "least"), [("faults", 15), ("clusters", 8)])
def test_every_fault_names_a_test_that_exists(page: str, least: int) -> None:
    table = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    named = [name for row in rows for name in re.findall(r"`(tests/[^`]+)`", row)]
    assert len(named) > least
    for name in named:
        file, _, function = name.partition("::")
        source = (ROOT / file).read_text(encoding="utf-8")
        assert function, name
        assert f"def {function}(" in source, name


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(there), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


AFTERWARDS = """
import ray
assert not ray.is_initialized()
assert search is __import__("tune").search
assert {"max_pooling", "improved"} >= set(run.trials.params_variant.dropna())
assert set(run.trials.study) == {"search", "confirmation"}
assert run.best["hidden_size"] == 16
assert set(classifier.predict(reviews.text[:20])) <= {"neg", "pos"}
assert run.study.best_value == run.trials.query("study == 'search'").objective.max()
print("all of it")
"""


def test_the_example_of_the_python_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "example.py").write_text("\n".join([*blocks, AFTERWARDS]), encoding="utf-8")
    write_csv(tmp_path / "reviews.csv", reviews(200))
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run, end = done.stdout.splitlines()
    assert re.fullmatch(
        r"<Run results/first: 4 trials, best val_accuracy \d\.\d{4} \(trial \d\)>", run
    )
    assert end == "all of it"
