"""The report in a real browser: every figure drawn, nothing complained of, nothing fetched."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG
from runs import a_run

from tune.report.document import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--dump-dom", "--virtual-time-budget=10000",
)  # fmt: skip

# The page in a frame as wide as a phone (a window cannot be), and what is seen there.
PHONE = """<!doctype html><meta charset="utf-8">
<iframe width="390" height="844" srcdoc="{page}"></iframe>
<script>
document.querySelector("iframe").onload = (event) => {{
  const {{contentDocument: page, contentWindow: view}} = event.target;
  const plots = [...page.querySelectorAll(".plot")];
  const seen = {{
    sections: [...page.querySelectorAll("section > h2")].map((heading) => heading.textContent),
    plots: plots.length,
    drawn: plots.filter((plot) => plot.querySelector(".main-svg .cartesianlayer path")).length,
    ink: view.getComputedStyle(page.body).color,
    label: view.getComputedStyle(page.querySelector(".xtitle")).fill,
    width: view.innerWidth,
    wide: page.documentElement.scrollWidth,
    images: page.images.length,
    fetched: view.performance.getEntriesByType("resource").map((entry) => entry.name),
  }};
  console.log("looked");
  document.body.textContent = JSON.stringify(seen);
}};
</script>"""


def look(page: Path, folder: Path, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """What is seen of the page on a phone, and what the browser wrote to its console."""
    phone = folder / "phone.html"
    text = html.escape(page.read_text(encoding="utf-8"))
    phone.write_text(PHONE.format(page=text), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'browser'}", *flags, phone.as_uri()],
        capture_output=True, encoding="utf-8", timeout=HANG, check=True,
    )  # fmt: skip
    found = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(found[1]), [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_all_is_drawn_on_a_phone_in_the_dark(tmp_path: Path) -> None:
    page = write_report(a_run(tmp_path / "run"))
    seen, console = look(page, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert len(console) == 1, console
    assert '"looked"' in console[0]
    assert seen["sections"] == [
        "The winner", "The best value", "Learning curves", "What mattered",
        "Parameter by parameter", "All parameters at once", "The networks side by side",
        "Where the winner errs", "Cost", "Failed trials", "How it was started",
    ]  # fmt: skip
    assert seen["plots"] == seen["drawn"] == 10
    assert (seen["ink"], seen["label"]) == ("rgb(232, 230, 224)", "rgb(160, 158, 150)")
    assert seen["width"] == 390
    assert seen["wide"] <= 390
    assert seen["images"] == 0  # of HOSTILE
    assert seen["fetched"] == []
