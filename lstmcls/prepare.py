"""Raw labelled texts to a prepared folder: train, val and test as ids, and their tokenizer.

The sources are read three times in small batches: of each row a few numbers are held, not its text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmcls import builtin, passes
from lstmcls.characters import A_TOKEN
from lstmcls.cli import OK, BadInput, Parser, nearest, run
from lstmcls.columns import LABEL_NAMES, TEXT_NAMES
from lstmcls.files import replacing_folder
from lstmcls.reading import ENDINGS, Source, open_file
from lstmcls.splitting import DROPPED, FATES, FORMAT, SPLITS, TEST, TRAIN, sample, split_rows
from lstmcls.tokenizer import (
    KINDS,
    VOCABULARY,
    check_choice,
    train_tokenizer,
)

# Of what `prepare` makes where no setting is named; raised when that changes in a way that FORMAT
# allows, as with a column more or another default tokenizer. 1 had no column `characters`.
VERSION = 2
# Rows. More of them change no frequent word's rank, and every rare one is held in memory.
LEARNT_FROM = 250_000
OWN_FILES = {"dataset.json", "tokenizer.json", *(f"{name}.parquet" for name in SPLITS)}


def prepare(
    inputs: Sequence[str],
    out: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    tokenizer: str = KINDS[0],
    vocab_size: int | None = None,
    max_length: int = 400,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    test: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Prepare `inputs` (files or built-in names) as the folder `out`.

    Empty texts, missing labels, duplicates and contradictory duplicates are dropped before the
    seeded, stratified split; texts are compared as a network reads them, which knows no case, line
    breaks or runs of white space. The tokenizer sees the training split alone, LEARNT_FROM rows of
    it at most, drawn at random. `out` appears whole or not at all.

    Args:
        tokenizer: word (of scripts written without spaces, such as Chinese, a character is one),
            pieces (words, the rare ones spelled by frequent parts), char or bpe.
        vocab_size: the largest number of ids (None: 8,000 for bpe, 30,000 otherwise).
        max_length: tokens kept of a text, from its start.
        split: shares of train, val and test, which sum to 1. With an official test set the
            share of test goes to train.
        test: a file that is the test set as it stands; its texts are removed from training.

    Returns:
        What `out`/dataset.json holds.

    Raises:
        BadInput: anything about the input or the settings that cannot be used.
    """
    out = Path(out).absolute()
    shares = _check_settings(tokenizer, vocab_size, max_length, split, seed)
    _check_out(out, [*inputs, *([test] if test is not None else [])])
    sources, official = _open(inputs, test, text, label, progress)
    shares = _fit_shares(shares, official is not None)
    survey = passes.survey(sources, official, progress)
    split_rows(survey.fate, survey.codes, survey.labels, shares, seed)
    training = survey.fate == TRAIN
    chosen = sample(training, LEARNT_FROM, seed)
    shown = passes.shown(
        passes.texts(sources, chosen), "training the tokenizer", int(chosen.sum()), len, progress
    )
    trained = train_tokenizer(tokenizer, shown, vocab_size or VOCABULARY[tokenizer])
    every = [*sources, official] if official else sources
    try:
        with replacing_folder(out) as folder:
            tokens, truncated = passes.write(folder, every, survey, trained, max_length, progress)
            trained.enable_truncation(max_length)  # so the file alone gives these ids again
            trained.save(str(folder / "tokenizer.json"))
            content = {
                "format": FORMAT,
                "labels": survey.labels,
                "tokenizer": tokenizer,
                "vocab_size": trained.get_vocab_size(),
                "max_length": max_length,
                "max_characters": A_TOKEN * max_length,
                **_counts(survey),
                "truncated_share": truncated / int(np.sum(survey.fate <= TEST)),
                "tokens": tokens,
                "text_column": sources[0].text_column,
                "label_column": sources[0].label_column,
                "sources": [_signature(path) for source in every for path in source.files],
                "split": list(shares),
                "seed": seed,
            }
            written = json.dumps(content, indent=2, ensure_ascii=False)
            (folder / "dataset.json").write_text(written + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{out}: cannot be written ({error.strerror})") from None
    return content


def _check_settings(
    tokenizer: str, vocab_size: int | None, max_length: int, split: Sequence[float], seed: int
) -> tuple[float, ...]:
    check_choice(tokenizer, vocab_size)
    if max_length < 1:
        raise BadInput(f"max-length: expected at least 1 token, got {max_length}")
    if seed < 0:
        raise BadInput(f"seed: expected 0 or more, got {seed}")
    shares = tuple(split)
    above = all(share > 0 for share in shares)
    if len(shares) not in (2, 3) or not above or abs(sum(shares) - 1) > 1e-6:
        given = ",".join(f"{share:g}" for share in shares)
        raise BadInput(
            "split: expected shares of train,val,test above 0 that sum to 1, "
            f"such as 0.8,0.1,0.1; got {given or 'nothing'}"
        )
    return shares


def _fit_shares(shares: tuple[float, ...], official: bool) -> tuple[float, ...]:
    if official:
        return (round(1 - shares[1], 12), shares[1])
    if len(shares) == 2:
        raise BadInput("split: expected three shares (train,val,test); two need --test FILE")
    return shares


def _check_out(out: Path, inputs: Sequence[str]) -> None:
    if not out.name:
        raise BadInput(f"{out}: expected a new folder, not the root")
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput(f"{out}: is a file; --out expects a folder")
    there = {path.name for path in out.iterdir()}
    if there and (not _is_prepared(out) or there - OWN_FILES):
        other = min(there - OWN_FILES, default="no dataset.json of a prepared folder")
        raise BadInput(f"{out}: holds other files ({other}); give --out a new or empty folder")
    for name in inputs:
        if Path(name).exists() and Path(name).resolve().is_relative_to(out.resolve()):
            raise BadInput(f"{out}: holds the input {name}; give --out a new or empty folder")


def _is_prepared(folder: Path) -> bool:
    """Whether its dataset.json is one of ours, of whatever version."""
    try:
        info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and {"format", "labels", "max_length"} <= info.keys()


def _open(
    inputs: Sequence[str], test: str | None, text: str | None, label: str | None, progress: bool
) -> tuple[list[Source], Source | None]:
    if not inputs:
        raise BadInput(f"no input; give files or one of {', '.join(builtin.NAMES)}")
    if (text or label) and test is None and not set(inputs) - set(builtin.NAMES):
        raise BadInput(f"--text and --label are for files; {', '.join(inputs)} is none")
    sources: list[Source] = []
    official = open_file(Path(test), text, label) if test is not None else None
    for name in inputs:
        path = Path(name)
        if name in builtin.NAMES:
            found = builtin.open_builtin(name, progress)
            sources.append(found.source)
            official = official or found.test
        elif not path.suffix and not path.exists():
            raise BadInput(
                f"{name}: no such file, and the built-in names are {', '.join(builtin.NAMES)}"
                f"{nearest(name, builtin.NAMES)}"
            )
        else:
            sources.append(open_file(path, text, label))
    return sources, official


def _counts(survey: passes.Survey) -> dict[str, Any]:
    rows = {name: int(np.sum(survey.fate == at)) for at, name in enumerate(FATES)}
    ordered = {"read": len(survey.fate), **{name: rows[name] for name in (*DROPPED, *SPLITS)}}
    classes = {}
    for at, name in enumerate(SPLITS):
        found = np.bincount(survey.codes[survey.fate == at], minlength=len(survey.labels))
        classes[name] = dict(zip(survey.labels, found.tolist(), strict=True))
    return {"rows": ordered, "classes": classes}


def _signature(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "sha256": digest, "bytes": path.stat().st_size}


def _summary(content: dict[str, Any], out: Path) -> list[str]:
    rows, classes = content["rows"], content["classes"]
    dropped = [f"{rows[name]:,} {name.replace('_', ' ')}" for name in DROPPED if rows[name]]
    lines = [f"rows       {rows['read']:,} read; dropped: {', '.join(dropped) or 'none'}"]
    for name in SPLITS:
        labels = list(classes[name].items())
        shown = ", ".join(f"{label} {count:,}" for label, count in labels[:6])
        more = f", and {len(labels) - 6} more classes" if len(labels) > 6 else ""
        tokens = content["tokens"][name]
        lines.append(f"{name:<10} {rows[name]:,} rows, {tokens:,} tokens ({shown}{more})")
    if len(content["split"]) == 2:
        train, val = content["split"]
        lines.append(f"split      the test set is official; the rest {train:g} train, {val:g} val")
    lines.append(
        f"truncated  {content['truncated_share']:.1%} of the texts, "
        f"to {content['max_length']} tokens"
    )
    lines.append(f"vocabulary {content['vocab_size']:,} ids ({content['tokenizer']})")
    if content["vocab_size"] <= 2:
        lines.append("warning    no word occurs twice in train: all is [UNK]; try --tokenizer char")
    return [*lines, f"prepared   {out}"]


_EPILOG = f"""\
examples:
  python -m lstmcls.prepare reviews --out data/reviews
  python -m lstmcls.prepare shop.csv --text comment --label stars --out data/shop
  python -m lstmcls.prepare train.parquet --test test.parquet --split 0.9,0.1 --out data/mine

Files end in {ENDINGS}.
CSV and TSV need a header line; a field may hold delimiters and newlines inside "quotes".
DIR gets train.parquet, val.parquet, test.parquet (input_ids, label, and characters: the
normalized text), tokenizer.json and dataset.json. It is replaced only where it is empty or a
prepared folder."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m lstmcls.prepare",
        description="Clean, split and tokenize labelled texts for training.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    names = " or ".join(builtin.NAMES)
    add("inputs", nargs="+", metavar="INPUT", help=f"files, or a built-in name: {names}")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    add("--text", metavar="COL", help=f"text column (default: {', '.join(TEXT_NAMES)})")
    add("--label", metavar="COL", help=f"label column (default: {', '.join(LABEL_NAMES)})")
    add(
        "--tokenizer",
        default=KINDS[0],
        metavar="KIND",
        help=f"{', '.join(KINDS)} (default: {KINDS[0]}, of which a character is one in scripts "
        "without spaces, such as Chinese; pieces: rare words are spelled by frequent parts, which "
        "is worth a try where texts are short); learned from the training split alone",
    )
    add(
        "--vocab-size",
        type=int,
        metavar="N",
        help="most ids (default: 8000 for bpe, otherwise 30000)",
    )
    add(
        "--max-length",
        type=int,
        default=400,
        metavar="N",
        help="tokens kept of a text, from its start (default 400)",
    )
    add(
        "--split",
        default="0.8,0.1,0.1",
        metavar="A,B,C",
        help="shares of train,val,test (default 0.8,0.1,0.1); with --test, C goes to train",
    )
    add("--test", metavar="FILE", help="an official test set, kept whole and out of training")
    add("--seed", type=int, default=0, metavar="N", help="of the split (default 0)")
    return parser  # fmt: skip


def _parse_split(given: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in given.split(","))
    except ValueError:
        raise BadInput(
            f"split: expected numbers between commas, such as 0.8,0.1,0.1; got {given}"
        ) from None


def main() -> int:
    options = vars(_parser().parse_args())
    options["split"] = _parse_split(options["split"])
    content = prepare(**options)
    print("\n".join(_summary(content, options["out"])))
    return OK


if __name__ == "__main__":
    run(main)
