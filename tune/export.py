"""`python -m tune.export`: the winner of a run as an artifact folder of its own."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
from pathlib import Path

from lstmcls.artifact import Artifact, load_artifact, write_files
from lstmcls.cli import OK, BadInput, Parser, RunFailed, run
from lstmcls.dataset import joined, load_prepared, read_info
from lstmcls.ensemble import Ensemble
from lstmcls.files import replacing_folder, require_new
from lstmcls.fit import Diverged, TrainingState, fit
from lstmcls.model_card import model_card, onnx_section
from lstmcls.onnx import write_onnx
from lstmcls.splitting import SPLITS
from tune.run_folder import RunFolder, existing_run
from tune.space import load_space

REPORTED = 100  # rows that a report of the training reads; its figures are of no use


def export(
    run_path: Path,
    to: Path,
    onnx: bool = False,
    members: int | None = None,
    single: bool = False,
    progress: bool = False,
) -> None:
    """Copy the winner of the run in `run_path` to the folder `to`, after loading it once.

    Args:
        onnx: write model.onnx too, and how to use it into the model card.
        members: keep so many of its networks at most.
        single: one network instead, trained now on all rows but an official test set.
        progress: show that training on stderr.

    Raises:
        BadInput: no run, no winner yet, a damaged one, `to` holds something else, or the
            packages that model.onnx needs are missing.
        RunFailed: model.onnx does not give the winner's probabilities, or the training failed.
    """
    folder = existing_run(run_path)
    if not folder.best.is_dir():
        raise BadInput(
            f"{run_path}: has no winner yet; resume the search with "
            f"`python -m tune.search --resume {shlex.quote(str(run_path))}`"
        )
    artifact = load_artifact(folder.best)
    require_new(to, "--to")
    if single:
        artifact = _retrained(artifact, _data_of(folder), progress)
    elif members is not None:
        artifact = _smaller(artifact, members, folder.best)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(to) as temporary:
            title = to.resolve().name
            if single or members is not None:
                write_files(artifact, temporary, title)
            else:
                shutil.copytree(folder.best, temporary, dirs_exist_ok=True)
            card = model_card(title, artifact.config, artifact.labels, artifact.metrics)
            if onnx:
                write_onnx(artifact, temporary / "model.onnx")
                card += "\n" + onnx_section(
                    artifact.config, artifact.max_characters, isinstance(artifact.model, Ensemble)
                )
            (temporary / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{to}: cannot be written ({error.strerror})") from None


def _smaller(artifact: Artifact, members: int, best: Path) -> Artifact:
    """The ensemble with its first `members` networks."""
    if not isinstance(artifact.model, Ensemble):
        raise BadInput(f"--members: {best} is one network already; leave the option out")
    there = artifact.model.networks
    if not 1 <= members <= there:
        raise BadInput(f"--members {members}: expected 1 to {there}, the networks of {best}")
    metrics = artifact.metrics | {"networks_kept": members, "networks_judged": there}
    return dataclasses.replace(artifact, model=artifact.model.first(members), metrics=metrics)


def _data_of(folder: RunFolder) -> Path:
    """The prepared data of a run, also of one that came home from an object store."""
    return folder.data if folder.data.is_dir() else Path(str(load_space(str(folder.space)).data))


def _retrained(artifact: Artifact, data: Path, progress: bool) -> Artifact:
    """The winner's configuration, trained to its end on all rows but an official test set."""
    official = len(read_info(data)["split"]) == 2
    prepared = load_prepared(data, ("train", "val") if official else SPLITS)
    rows = joined(list(prepared.splits.values())).tokens_only()
    config = artifact.config
    state = TrainingState.create(config, prepared.vocab_size, len(prepared.labels))
    few = rows.between(0, min(len(rows), REPORTED))
    pad_to = config.pad_to(prepared.max_length)
    try:
        for report in fit(state, rows, few, pad_to=pad_to):
            if progress:
                done = f"epoch {report.epoch:g} of {config.epochs:g}"
                print(f"{done}: training loss {report.train_loss:.4f}", file=sys.stderr)
    except Diverged as fault:
        raise RunFailed(f"diverged: {fault}; leave out --single; nothing was written") from None
    kept = ("format", "data", "max_length", "trial", "objective", "level")
    metrics = {name: artifact.metrics[name] for name in kept if name in artifact.metrics}
    metrics |= {"max_length": config.longest(prepared.max_length), "trained_on": len(rows)}
    return dataclasses.replace(artifact, model=state.judged.eval(), metrics=metrics)


def main() -> int:
    parser = Parser(
        prog="python -m tune.export",
        description="Copy a run's winner to a folder that lstmcls.predict and evaluate take.",
        epilog="example:\n  python -m tune.export results/full-20260101-120000 --to models/reviews",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a search")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--onnx", action="store_true", help="also as model.onnx, which runs without PyTorch"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--members",
        type=int,
        metavar="N",
        help="keep N networks of the ensemble: less to store, faster, a little less accurate",
    )
    size.add_argument(
        "--single",
        action="store_true",
        help="one network instead, trained now on all rows (but an official test set)",
    )
    args = parser.parse_args()
    export(args.run, args.to, args.onnx, args.members, args.single, progress=True)
    print(f"exported: {args.to}{' with model.onnx' * args.onnx}")
    print(f'predict:  python -m lstmcls.predict {shlex.quote(str(args.to))} "some text"')
    return OK


if __name__ == "__main__":
    run(main)
