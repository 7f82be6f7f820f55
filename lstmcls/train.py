"""One training run: prepared data and a TrainConfig in, the artifact of the best report out."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lstmcls.allocator import keep_freed_memory
from lstmcls.artifact import DEVICES, NEEDED, OWN_FILES, choose_device, save_artifact
from lstmcls.cli import OK, BadInput, Parser, RunFailed, run
from lstmcls.config import FIELDS, VARIANTS, TrainConfig, load_config
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.fit import Diverged, Report, TrainingState, fit


def train(
    prepared: Prepared, config: TrainConfig, out: Path, device: str = "cpu"
) -> Iterator[Report]:
    """Train on `prepared`, yielding every Report; then write the artifact of the best to `out`.

    The test split is not looked at.

    Raises:
        RunFailed: the run diverged, memory ran out, or `out` cannot be written.
    """
    state = TrainingState.create(config, prepared.vocab_size, len(prepared.labels), device)
    pad_to = config.pad_to(prepared.max_length)
    try:
        yield from fit(state, prepared.splits["train"], prepared.splits["val"], pad_to=pad_to)
    except Diverged as fault:
        raise RunFailed(
            f"diverged: {fault}; try a smaller lr or clip_norm; nothing was written"
        ) from None
    except torch.OutOfMemoryError:
        raise RunFailed("the GPU's memory ran out; try a smaller batch_size") from None
    assert state.best_weights is not None
    try:
        save_artifact(
            out,
            weights=state.best_weights,
            config=config,
            prepared=prepared,
            metrics=_record(state, device),
        )
    except OSError as error:
        raise RunFailed(f"{out}: cannot be written ({error.strerror})") from None


def _record(state: TrainingState, device: str) -> dict[str, Any]:
    """What metrics.json holds of a run; seconds are those of training and validation."""
    assert state.best is not None
    return {
        "val": dict(state.best.val),
        "epoch": state.best.epoch,
        "train_loss": state.best.train_loss,
        "epochs_trained": state.reports[-1].epoch,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
        "device": device,
        "threads": torch.get_num_threads(),
        "curve": [
            {"epoch": report.epoch, **report.metrics(), "tokens": report.tokens}
            for report in state.reports
        ],
    }


def check_out(out: Path) -> None:
    """Refuse before any work what could not be written, or would be lost by writing.

    Raises:
        BadInput: `out` is a file, holds something else than an artifact, or cannot be made.
    """
    path = out.absolute()
    if not path.name:
        raise BadInput(f"--out {out}: expected a new folder, not the root")
    if path.exists():
        if not path.is_dir():
            raise BadInput(f"--out {out}: is a file; expected a new folder")
        there = {entry.name for entry in path.iterdir()}
        other = there - set(OWN_FILES) if there >= set(NEEDED) else there
        if other:
            raise BadInput(
                f"--out {out}: holds something else than a model ({min(other)}, …); "
                "name a new folder, or an older model to replace"
            )
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BadInput(f"--out {out}: cannot be written ({parent})")


def _follow(reports: Iterator[Report], epochs: float, quiet: bool) -> list[Report]:
    """Take every report, showing a line for each, and a bar below them on a terminal."""
    followed: list[Report] = []
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    shown = sys.stdout.isatty() and not quiet
    progress = Progress(*columns, TimeRemainingColumn(), transient=True, disable=not shown)
    with progress:
        task = progress.add_task("", total=epochs)
        for report in reports:
            line = _line(report, followed[-1] if followed else None)
            followed.append(report)
            progress.update(task, completed=report.epoch)
            if shown:
                progress.console.print(line, highlight=False)
            elif not quiet:
                print(line, flush=True)
    return followed


def _line(report: Report, previous: Report | None) -> str:
    tokens = report.tokens - (previous.tokens if previous else 0)
    seconds = report.seconds - (previous.seconds if previous else 0.0)
    return (
        f"epoch {report.epoch:<5g} loss {report.train_loss:.4f}, val {report.val['loss']:.4f}  "
        f"accuracy {report.val['accuracy']:.4f}  "
        f"F1 {report.val['f1']:.4f}  {tokens / max(seconds, 1e-3):,.0f} tokens/s"
    )


_SETTINGS = ", ".join(f"{name}={field.default}" for name, field in FIELDS.items())
_EPILOG = f"""\
examples:
  python -m lstmcls.train --data data/shop --out models/shop --set lr=0.004 --set epochs=5
  python -m lstmcls.train --data data/shop --out models/shop --config results/RUN/best.yaml

Settings and their defaults (lstmcls/config.py says what each means):
{textwrap.fill(_SETTINGS, 96, initial_indent="  ", subsequent_indent="  ")}
variant=NAME sets the first four at once; NAME is one of
  {", ".join(VARIANTS)}."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m lstmcls.train",
        description="Train one classifier on prepared data and keep it as it was at its best.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="prepared folder (lstmcls.prepare)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the model's folder; an earlier one is replaced",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML of settings")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, over those of --config; can be given again",
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="default: a GPU if there is one"
    )
    parser.add_argument("--quiet", action="store_true", help="only the last line")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train once and write the model; the exit status.

    Raises:
        BadInput: settings, data or --out cannot be used.
        RunFailed: the training failed.
    """
    options = _arguments(argv)
    config = load_config(options.config, options.settings)
    check_out(options.out)
    device = choose_device(options.device)
    prepared = load_prepared(options.data)
    keep_freed_memory()
    if not options.quiet:
        rows = {name: len(split) for name, split in prepared.splits.items()}
        print(
            f"{options.data}: {rows['train']} texts to train on, {rows['val']} to validate, "
            f"{len(prepared.labels)} classes; variant {config.variant}, {device}"
        )
    reports = _follow(train(prepared, config, options.out, device), config.epochs, options.quiet)
    best = max(reports, key=lambda report: report.val["accuracy"])
    evaluate = shlex.join(["python", "-m", "lstmcls.evaluate", str(options.out), str(options.data)])
    print(
        f"{options.out}: validation accuracy {best.val['accuracy']:.4f} after {best.epoch:g} "
        f"epoch{'s' * (best.epoch != 1)}; on the test split: {evaluate}"
    )
    return OK


if __name__ == "__main__":
    run(main)
