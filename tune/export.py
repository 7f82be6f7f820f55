"""`python -m tune.export`: the winner of a run as an artifact folder of its own."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from lstmcls.artifact import load_artifact
from lstmcls.cli import OK, BadInput, Parser, run
from lstmcls.files import replacing_folder, require_new
from lstmcls.model_card import model_card, onnx_section
from lstmcls.onnx import write_onnx
from tune.run_folder import existing_run


def export(run_path: Path, to: Path, onnx: bool = False) -> None:
    """Copy the winner of the run in `run_path` to the folder `to`, after loading it once.

    Args:
        onnx: write model.onnx too, and how to use it into the model card.

    Raises:
        BadInput: no run, no winner yet, a damaged one, `to` holds something else, or the
            packages that model.onnx needs are missing.
        RunFailed: model.onnx does not give the winner's probabilities.
    """
    folder = existing_run(run_path)
    if not folder.best.is_dir():
        raise BadInput(
            f"{run_path}: has no winner yet; go on with "
            f"`python -m tune.search --resume {shlex.quote(str(run_path))}`"
        )
    artifact = load_artifact(folder.best)
    require_new(to, "--to")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(to) as temporary:
            shutil.copytree(folder.best, temporary, dirs_exist_ok=True)
            card = model_card(to.resolve().name, artifact.config, artifact.labels, artifact.metrics)
            if onnx:
                write_onnx(artifact, temporary / "model.onnx")
                card += "\n" + onnx_section(artifact.config)
            (temporary / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{to}: cannot be written ({error.strerror})") from None


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
    args = parser.parse_args()
    export(args.run, args.to, args.onnx)
    print(f"exported: {args.to}{' with model.onnx' * args.onnx}")
    print(f'predict:  python -m lstmcls.predict {shlex.quote(str(args.to))} "some text"')
    return OK


if __name__ == "__main__":
    run(main)
