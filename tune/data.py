"""`--data`: a prepared folder as it is; a file or a built-in name prepared on first use.

From Python it may also be a DataFrame, which becomes a file first.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import optuna
import pandas as pd
import pyarrow as pa

from lstmcls.builtin import NAMES
from lstmcls.cli import BadInput, nearest
from lstmcls.dataset import read_info
from lstmcls.files import replacing
from lstmcls.prepare import prepare
from lstmcls.splitting import FORMAT
from tune.run_folder import RESULTS


def prepared_folder(data: str, text: str | None, label: str | None, progress: bool) -> Path:
    """The prepared folder of `data`; one made here is kept under results/prepared/.

    Raises:
        BadInput: no such data, or it cannot be prepared.
    """
    path = Path(data)
    if (text or label) and (path.is_dir() or data in NAMES):
        raise BadInput(f"--text and --label are for files; {data} is none")
    if path.is_dir():
        read_info(path)
        return path.resolve()
    if data not in NAMES and not path.exists():
        raise BadInput(
            f"--data {data}: no such file or folder, and the built-in names are "
            f"{', '.join(NAMES)}{nearest(data, NAMES)}"
        )
    # A changed file is another data set; looking at its size and time is enough to see it.
    seen: list[object] = [data, text, label, FORMAT]
    if data not in NAMES:
        status = path.stat()
        seen += [path.resolve(), status.st_size, status.st_mtime_ns]
    key = hashlib.sha256(repr([str(part) for part in seen]).encode()).hexdigest()[:8]
    folder = (RESULTS / "prepared" / f"{path.name.split('.')[0]}-{key}").resolve()
    if not (folder / "dataset.json").is_file():
        prepare([data], folder, text=text, label=label, progress=progress)
    read_info(folder)
    return folder


def stored_frame(frame: pd.DataFrame) -> Path:
    """`frame` as a Parquet file under results/prepared/, the same one for the same content.

    Raises:
        BadInput: a column that Parquet cannot hold.
    """
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
