"""`--data`: a prepared folder as it is; a file or a built-in name prepared on first use.

What a URI names is copied here first. From Python it may also be a DataFrame, which becomes a file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pyarrow as pa
from pyarrow.fs import FileSelector, FileType, LocalFileSystem, copy_files

from lstmcls.builtin import NAMES
from lstmcls.cli import BadInput, nearest
from lstmcls.columns import find_columns
from lstmcls.dataset import Prepared, TokenDataset, joined, read_info
from lstmcls.files import replacing, replacing_folder
from lstmcls.folds import Folds, divide, one_split
from lstmcls.prepare import OWN_FILES, VERSION, prepare
from lstmcls.splitting import FORMAT
from tune.resources import Share
from tune.run_folder import RESULTS
from tune.space import SearchSpace
from tune.space.settings import first_report
from tune.store import checked, is_uri, open_place, reason

# From where on `remarks` has something to say.
LARGEST, CUT = 0.8, 0.3  # shares of the texts
FEWEST = 300  # validation rows
LATE = 0.1  # of the minutes: the first report of a small network
HELD_OUT, LEAST_FOLDS = 2_000, 3  # rows that judge the trials, but no more than a third
RATE = 100_000  # tokens a second that a CPU core trains it on


def prepared_folder(data: str, text: str | None, label: str | None, progress: bool) -> Path:
    """The prepared folder of `data`; one made here is kept under results/prepared/.

    Raises:
        BadInput: no such data, or it cannot be prepared.
    """
    path = Path(data)
    if is_uri(data):
        path = fetched(data)
        data = str(path)
    if (text or label) and (path.is_dir() or data in NAMES):
        raise BadInput(f"--text and --label are for files; {data} is none")
    if data in NAMES and (path / "dataset.json").is_file():
        raise BadInput(
            f"--data {data}: a built-in name, and a prepared folder here: ./{data} is the folder"
        )
    if path.is_dir() and data not in NAMES:
        read_info(path)
        return path.resolve()
    if data not in NAMES and not path.exists():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(data, NAMES) or nearest(path.name, there, likeness=0.7)
        raise BadInput(
            f"--data {data}: no such file or folder, and the built-in names are "
            f"{', '.join(NAMES)}{near}"
        )
    # A changed file is another data set; looking at its size and time is enough to see it.
    seen: list[object] = [data, text, label, FORMAT, VERSION]
    if data not in NAMES:
        status = path.stat()
        seen += [path.resolve(), status.st_size, status.st_mtime_ns]
    folder = _place(path.name, seen).resolve()
    if not (folder / "dataset.json").is_file():
        prepare([data], folder, text=text, label=label, progress=progress)
    read_info(folder)
    return folder


def _place(name: str, seen: list[object]) -> Path:
    """Where data of a name are kept, another folder for anything else in `seen`."""
    key = hashlib.sha256(repr([str(part) for part in seen]).encode()).hexdigest()[:8]
    return RESULTS / "prepared" / f"{name.split('.')[0]}-{key}"


def fetched(uri: str) -> Path:
    """A copy of the file or the prepared folder at `uri`; one that is as it was there is kept.

    Raises:
        BadInput: it cannot be read, or is no prepared folder.
    """
    try:
        system, path = open_place(checked(uri))
        found = system.get_file_info(path)
        files = [found]
        if found.type == FileType.Directory:
            inside = system.get_file_info(FileSelector(path))
            files = sorted(
                (info for info in inside if info.base_name in OWN_FILES), key=lambda info: info.path
            )
        if found.type == FileType.NotFound or not files:
            raise BadInput(f"--data {uri}: no file or prepared folder is there")
        seen = [(info.path, info.size, info.mtime_ns) for info in files]
        copy = _place(found.base_name, [uri, seen])
        if not copy.exists():
            with replacing_folder(copy) as new:
                for info in files:
                    copy_files(info.path, str(new / info.base_name), system, LocalFileSystem())
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"--data {uri}: cannot be fetched ({reason(error)})") from None
    return copy if found.type == FileType.Directory else copy / found.base_name


def stored_frame(frame: pd.DataFrame, text: str | None = None, label: str | None = None) -> Path:
    """`frame` as a Parquet file under results/prepared/, the same one for the same content.

    Raises:
        BadInput: a column that Parquet cannot hold, or none of that name or of a usual one.
    """
    try:
        find_columns("data", [str(name) for name in frame.columns], text, label)
    except BadInput as fault:
        raise BadInput(fault.messages[0].replace("with --", "with the argument ")) from None
    content = hashlib.sha256(repr(list(frame.columns)).encode())
    try:
        content.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
        path = RESULTS / "prepared" / f"frame-{content.hexdigest()[:8]}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with replacing(path) as temporary:
                frame.to_parquet(temporary, index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise BadInput(f"data: a frame that Parquet cannot hold ({error})") from None
    return path


def remarks(prepared: Prepared, space: SearchSpace, share: Share) -> Iterator[str]:
    """What the data make of the search that a user may want to change first, a line each."""
    train = prepared.splits["train"]
    rows = len(search_folds(prepared, space.seed).held_out(0))
    shares = np.bincount(train.labels) / len(train)
    if space.objective.metric == "val_accuracy" and shares.max() > LARGEST:
        label = prepared.labels[shares.argmax()]
        yield (
            f"{shares.max():.0%} of the texts are {label}: to say so of all is as accurate, and "
            "--objective val_f1 asks for more"
        )
    if rows < FEWEST:
        yield (
            f"on {rows} validation rows an accuracy is known to ±{1 / math.sqrt(rows):.2f} only; "
            "lstmcls.prepare --split 0.6,0.2,0.2 sets more of them aside"
        )
    if (cut := prepared.info.get("truncated_share", 0)) > CUT:
        yield (
            f"{cut:.0%} of the texts are cut after {prepared.max_length} tokens; "
            "lstmcls.prepare --max-length N reads more of them"
        )
    first = first_report(space.fixed)
    seconds = first * len(train.ids) / RATE
    minutes = space.budget.minutes
    if minutes is not None and not share.gpu and seconds > LATE * minutes * 60:
        settings = f"first_report{' and asha.grace_epochs' if space.asha else ''}"
        yield (
            f"a first report takes {first:g} epoch{'s' * (first != 1)}, {seconds:,.0f} s or more "
            f"of a CPU core; in a copy of the space {settings} of {first / 20:g} "
            f"{'make' if space.asha else 'makes'} it sooner"
        )


def search_folds(prepared: Prepared, seed: int) -> Folds:
    """The rows of train and val as the search divides them: fold 0 judges the trials.

    The val split where it is large enough. Otherwise more rows are held out, for all that a search
    chooses depends on them, and what is exported is trained on all rows in the end.
    """
    train, val = prepared.splits["train"], prepared.splits["val"]
    rows = len(train) + len(val)
    folds = max(LEAST_FOLDS, round(rows / HELD_OUT))
    if len(val) >= rows // folds:
        return one_split(train, val)
    return divide(joined([train, val]), folds, seed, used=1)


def confirmation_folds(
    rows: TokenDataset, prepared: Prepared, test: TokenDataset, folds: int, seed: int
) -> Folds:
    """All rows divided anew: of train and val (`rows`), by which is chosen, and of `test`.

    Test rows train the networks of the folds that they are not in, for all rows are worth having;
    an official test set trains none.
    """
    official = len(prepared.info["split"]) == 2
    return divide(rows, folds, seed, test=None if official else test)


def data_digest(folder: Path) -> str:
    """Another one for other rows, another split or other token ids of a prepared folder."""
    content = (folder / "dataset.json").read_bytes() + (folder / "tokenizer.json").read_bytes()
    return hashlib.sha256(content).hexdigest()


def require_same_data(study: optuna.Study, folder: Path) -> None:
    """Compare the data in `folder` with that which the search began with.

    Raises:
        BadInput: it has changed; old weights and new token ids do not go together.
    """
    found = data_digest(folder)
    if study.user_attrs.get("data", found) != found:
        raise BadInput(f"{folder}: was prepared anew since this search began; begin another one")
