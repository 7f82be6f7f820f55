"""Which columns of a file hold the texts and the labels: as named, or those with a usual name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstmcls.cli import BadInput, nearest

TEXT_NAMES = ("text", "review", "sentence", "content")
LABEL_NAMES = ("label", "sentiment", "class", "target")
SHOWN = 200  # characters of a file's columns in a message


def find_columns(
    source: Path | str,
    columns: Sequence[str],
    text: str | None = None,
    label: str | None = None,
    labelled: bool = True,
    trained_on: tuple[str | None, str | None] = (None, None),
) -> tuple[str, str | None]:
    """The columns of texts and of labels: those that are named, or those with a usual name.

    `trained_on`: the columns of a model's training, which come before usual names where the file
    has them.

    Raises:
        BadInput: there are none such; `source` begins the message.
    """
    own_text, own_label = (
        name if name in columns and name not in (text, label) else None for name in trained_on
    )
    text = own_text if text is None else text
    label = own_label if label is None else label
    text = _column(source, "text", text, TEXT_NAMES, columns)
    label = _column(source, "label", label, LABEL_NAMES, columns) if labelled else None
    if text == label:
        raise BadInput(f"{source}: column '{text}' cannot be both the text and the label")
    return text, label


def _column(
    path: Path | str, role: str, wanted: str | None, names: Sequence[str], columns: Sequence[str]
) -> str:
    listed = ", ".join(columns) or "none"
    present = f"columns: {listed if len(listed) <= SHOWN else listed[:SHOWN] + '…'}"
    if wanted is not None:
        if wanted not in columns:
            raise BadInput(f"{path}: no column '{wanted}' ({present}){nearest(wanted, columns)}")
        return wanted
    lowered = {column.strip().lower(): column for column in reversed(columns)}
    for name in names:
        if name in lowered:
            return lowered[name]
    hints = (nearest(name, columns, likeness=0.8) for name in names)  # 'sterne' is no 'sentence'
    raise BadInput(
        f"{path}: no {role} column; expected one of {', '.join(names)} ({present}); "
        f"name it with --{role}{next(filter(None, hints), '')}"
    )
