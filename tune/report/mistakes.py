"""Where the winner errs: its confusion matrix, and the mistakes that it was surest of.

Texts are those that chose the winner or, of a confirmed one, those of the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lstmcls.artifact import Artifact, load_artifact, trained_on
from lstmcls.cli import BadInput
from lstmcls.dataset import Prepared, TokenDataset
from lstmcls.evaluate import matching_split
from lstmcls.metrics import confusion
from tune.data import search_folds
from tune.report.page import (
    escaped,
    figure_html,
    note_html,
    section_html,
    table_html,
    text_html,
)
from tune.report.record import Record

SHOWN = 10  # mistakes, and pairs of classes
CHARACTERS = 600  # of a text
READABLE = 12  # classes, up to which each cell of the matrix shows its count
DRAWN = 100  # classes, up to which there is a matrix
NAME = 18  # characters of a class's name on an axis
FOLDS_FORMAT = 2  # of an artifact: before that the val split chose the winner


def section(record: Record) -> str:
    title = "Where the winner errs"
    if record.metrics is None:
        return section_html(title, note_html("There is no winner in best/ yet."))
    try:
        artifact = load_artifact(record.run.best, trained_on(record.metrics))
    except BadInput as fault:
        return section_html(title, note_html(str(fault)))
    matrix = (record.metrics.get("test") or {}).get("confusion")
    parts = [] if matrix is None else _matrix(matrix, artifact.labels, "test")
    # Of the other splits each row has trained the networks of a confirmed winner.
    split = "test" if "out_of_fold" in record.metrics else "validation"
    try:
        rows = _rows(artifact, record, split)
    except BadInput as fault:
        parts.append(note_html(f"No texts can be shown: {fault}"))
        return section_html(title, *parts)
    if (surest := (record.metrics.get("test") or {}).get("mistakes")) is not None:
        wrong = int(record.metrics["test"]["rows"]) - int(np.trace(np.array(matrix)))
        return section_html(title, *parts, *_recorded(artifact, rows, surest, wrong))
    probabilities = artifact.row_probabilities(rows)
    if matrix is None:
        parts += _matrix(confusion(probabilities, rows.labels), artifact.labels, split)
    return section_html(title, *parts, *_mistakes(artifact, rows, probabilities, split))


def _rows(artifact: Artifact, record: Record, split: str) -> TokenDataset:
    """The rows of `split`; of "validation" those that chose the winner.

    Raises:
        BadInput: the data is gone or is of another kind than the winner's.
    """
    data = Path(str(record.space.data))
    if split == "test":
        return matching_split(artifact, data, "test")
    val = matching_split(artifact, data, "val")
    if artifact.metrics.get("format", 0) < FOLDS_FORMAT:
        return val
    splits = {"train": matching_split(artifact, data, "train"), "val": val}
    return search_folds(Prepared(data, {}, splits), record.space.seed).held_out(0)


def _matrix(matrix: list[list[int]], labels: Sequence[str], split: str) -> list[str]:
    counts = np.array(matrix)
    right, total = int(np.trace(counts)), int(counts.sum())
    parts = [text_html(f"Of {total:,} {split} texts {right:,} are classified rightly.")]
    if len(labels) <= DRAWN:
        caption = "The colour is the share of the row: of the texts of one class."
        parts.append(figure_html(_heatmap(counts, labels), caption))
    if len(labels) > 2:
        off = counts - np.diag(np.diag(counts))
        order = np.argsort(-off, axis=None, kind="stable")[:SHOWN]
        pairs = [np.unravel_index(k, off.shape) for k in order if off.flat[k]]
        rows = [
            (labels[int(t)], labels[int(p)], int(off[t, p]), float(off[t, p] / counts[t].sum()))
            for t, p in pairs
        ]
        header = ("labelled", "taken for", "texts", "share of the class")
        parts += ["<h3>Most often confused</h3>", table_html(header, rows)] if rows else []
    return parts


def _heatmap(counts: NDArray[np.integer[Any]], labels: Sequence[str]) -> go.Figure:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(labels)
    names = [name if len(name) <= NAME else f"{name[: NAME - 1]}…" for name in labels]
    few = classes <= READABLE
    axis = {
        "tickvals": list(range(classes)),
        "ticktext": names,
        "tickfont": {"size": 13 if few else 9},
        "showgrid": False,
        "showline": False,
        "ticks": "",
    }
    figure = go.Figure()
    figure.add_heatmap(
        z=shares.tolist(),
        zmin=0,
        zmax=1,
        showscale=False,
        customdata=[
            [f"{labels[t]} as {labels[p]}: {counts[t, p]:,}" for p in range(classes)]
            for t in range(classes)
        ],
        text=[[f"{count:,}" for count in row] for row in counts.tolist()],
        texttemplate="%{text}" if few else "",
        hovertemplate="%{customdata} (%{z:.1%})<extra></extra>",
    )
    figure.update_layout(
        width=260 + 120 * classes if few else None,
        height=140 + classes * (64 if classes <= 4 else 40 if few else 14),
        xaxis={
            "title": {"text": "predicted class" + ("" if few else ", in the order of the rows")},
            "tickangle": 0 if classes <= 3 else -90,
            "showticklabels": few,
            **axis,
        },
        yaxis={"title": {"text": "true class"}, "autorange": "reversed", **axis},
    )
    return figure


def _recorded(
    artifact: Artifact, rows: TokenDataset, surest: Sequence[Sequence[float]], wrong: int
) -> list[str]:
    """`mistakes` of metrics.json: of classifiers that were not trained on these test rows."""
    found = [(int(row), int(label), probability) for row, label, probability in surest]
    if any(row >= len(rows) for row, _, _ in found):
        return [note_html("No texts can be shown: the data was prepared anew since.")]
    return _listed(artifact, rows, found, wrong, "test")


def _mistakes(
    artifact: Artifact, rows: TokenDataset, probabilities: NDArray[np.float32], split: str
) -> list[str]:
    predicted, surest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != rows.labels)
    order = wrong[np.argsort(-surest[wrong], kind="stable")][:SHOWN]
    found = [(int(row), int(predicted[row]), float(surest[row])) for row in order]
    return _listed(artifact, rows, found, len(wrong), split)


def _listed(
    artifact: Artifact,
    rows: TokenDataset,
    found: Sequence[tuple[int, int, float]],
    wrong: int,
    split: str,
) -> list[str]:
    """(row, class it was taken for, probability) of the surest of `wrong` mistakes."""
    head = "<h3>Its most confident mistakes</h3>"
    if not found:
        return [head, text_html(f"None: all {len(rows):,} {split} texts are classified rightly.")]
    lead = (
        f"Of the {wrong:,} mistakes on {len(rows):,} {split} texts. A text reads as "
        "the model does: in tokens, cut at its limit. Some labels are wrong themselves."
    )
    items = []
    for row, label, probability in found:
        ids = rows.ids[rows.offsets[row] : rows.offsets[row + 1]].tolist()
        text = artifact.tokenizer.decode(ids, skip_special_tokens=False)
        text = text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"
        items.append(
            f'<li><blockquote dir="auto">{escaped(text)}</blockquote><p>labelled '
            f"<b>{escaped(artifact.labels[rows.labels[row]])}</b>, taken for "
            f"<b>{escaped(artifact.labels[label])}</b> with probability {probability:.3f}</p></li>"
        )
    return [head, text_html(lead), f'<ol class="mistakes">{"".join(items)}</ol>']
