"""The report from the first section to the last."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lstmcls.cli import BadInput
from lstmcls.files import replacing
from tune.report import (
    ablation,
    cost,
    curves,
    importance,
    mistakes,
    parallel,
    progress,
    slices,
    variants,
    winner,
)
from tune.report.page import page_html, section_html, text_html
from tune.report.record import Record, read_record
from tune.report.wording import amount, metric_title
from tune.run_folder import RunFolder
from tune.sittings import commands

logger = logging.getLogger(__name__)


def write_report(run: RunFolder) -> Path:
    """Write RUN/report.html, in the place of an earlier one.

    Raises:
        BadInput: what the run holds is damaged, or the file cannot be written.
    """
    record = read_record(run)
    text = page_html(run.name, _lead(record), _sections(record))
    try:
        with replacing(run.report) as path:
            path.write_text(text, encoding="utf-8", errors="replace")  # a name may be anything
    except OSError as error:
        raise BadInput(f"{run.report}: cannot be written ({error.strerror})") from None
    return run.report


def try_report(run: RunFolder, note: Callable[[str], None]) -> None:
    """`write_report` for the end of a search, which it must not fail: that would be a `note`."""
    try:
        write_report(run)
    except Exception:
        logger.exception("the report")
        note(f"{run.report.name} could not be drawn; {run.log} tells why")


def _sections(record: Record) -> Iterator[str]:
    yield winner.section(record)
    if record.ranked:
        yield progress.section(record)
        yield curves.section(record)
        yield importance.section(record)
        yield slices.section(record)
        yield parallel.section(record)
        yield variants.section(record)
        yield ablation.section(record)
        yield mistakes.section(record)
    if record.trials:
        yield cost.section(record)
        yield cost.failures(record)
    yield _origin(record)


def _lead(record: Record) -> str:
    # Of data that the search itself prepared, without the digest at the end of the folder's name.
    data = re.sub(r"-[0-9a-f]{8}$", "", Path(str(record.space.data)).name)
    return (
        f"A search for the {'highest' if record.objective.mode == 'max' else 'lowest'} "
        f"{metric_title(record.objective)} on {data}: {amount(len(record.trials), 'trial')}, "
        f"sampler {record.space.sampler.name}."
    )


def _origin(record: Record) -> str:
    """How the run was started, and the exact space."""
    said = "\n".join(map(str, commands(record.search)))
    parts = [f"<pre>{html.escape(said)}</pre>" if said else text_html("Not recorded.")]
    text = record.run.space.read_text(encoding="utf-8")
    return section_html(
        "How it was started",
        *parts,
        f"<h3>The space</h3><pre>{html.escape(text)}</pre>",
    )
