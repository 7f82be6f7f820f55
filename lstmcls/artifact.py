"""A trained classifier as a folder: all that a prediction needs, and how it came about.

`model.safetensors` (weights; never a pickle), `config.yaml` (TrainConfig), `tokenizer.json`,
`labels.json` (names in the order of the classes), `metrics.json`, `README.md` (a model card),
and `model.onnx` where it was exported so (see onnx.py). Of several networks together (see
ensemble.py) there is `ensemble.json` besides; `config.yaml` is then that of the first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor

from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig, load_config
from lstmcls.dataset import Prepared, TokenDataset, tokenized
from lstmcls.ensemble import Ensemble, network_of
from lstmcls.files import replacing, replacing_folder
from lstmcls.fit import judged_rows
from lstmcls.metrics import per_class
from lstmcls.model import LSTMClassifier
from lstmcls.model_card import model_card
from lstmcls.tokenizer import load_tokenizer

NEEDED = ("model.safetensors", "config.yaml", "tokenizer.json", "labels.json", "metrics.json")
ENSEMBLE = "ensemble.json"
OWN_FILES = (*NEEDED, ENSEMBLE, "README.md", "model.onnx")
DEVICES = ("auto", "cpu", "cuda")
CHUNK = 8000  # texts tokenized and held at once, and sorted by length
# In metrics.json; raised when a model's files, or what is computed from them, change. Models of
# the versions before it was written have none, which is read as 0. From 2 on a model may be an
# ensemble.
FORMAT = 2


@dataclass(frozen=True)
class Artifact:
    """A trained classifier, ready to predict.

    `metrics` is metrics.json: `format` (FORMAT), `val` (the METRICS on the validation split),
    `per_class` (on the same split), `data` (the dataset.json of the data it was trained on),
    `max_length` (tokens), and what the trainer added; a number that is not finite is None.
    """

    folder: Path
    model: LSTMClassifier | Ensemble
    tokenizer: Tokenizer
    labels: list[str]
    config: TrainConfig
    metrics: dict[str, Any]

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut."""
        return int(self.metrics["max_length"])

    @property
    def max_characters(self) -> int:
        """Characters after which a text is cut for a linear model; 0 where none reads them."""
        if not isinstance(self.model, Ensemble) or not self.model.reads_characters:
            return 0
        return int(self.metrics["data"]["max_characters"])

    @property
    def trained_on(self) -> tuple[str | None, str | None]:
        """The columns that held the texts and the labels of the training; None: not known."""
        data = self.metrics.get("data")
        known = data if isinstance(data, dict) else {}
        text, label = known.get("text_column"), known.get("label_column")
        return text if isinstance(text, str) else None, label if isinstance(label, str) else None

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Class probabilities [texts, classes], in the order of `texts`.

        Raises:
            BadInput: `texts` is one text instead of several, or holds what is no text.
        """
        if isinstance(texts, str | bytes):  # whose characters would be taken for texts
            raise BadInput(f"expected a list of texts, got one text; write [{texts!r:.60}]")
        result = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for start in range(0, len(texts), CHUNK):
            rows = _encoded(
                self.tokenizer, list(texts[start : start + CHUNK]), start, self.max_characters
            )
            result[start : start + CHUNK] = self.row_probabilities(rows)
        return result

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text.

        Raises:
            BadInput: as of `probabilities`.
        """
        return [self.labels[best] for best in self.probabilities(texts).argmax(axis=1)]

    def row_probabilities(self, data: TokenDataset) -> NDArray[np.float32]:
        """Class probabilities [rows, classes], computed as a validation while training is."""
        if isinstance(self.model, Ensemble):
            return self.model.row_probabilities(data)
        return judged_rows(self.model, data, self.max_length)


def save_artifact(
    folder: Path,
    *,
    weights: Mapping[str, Tensor] | Ensemble,
    config: TrainConfig,
    prepared: Prepared,
    metrics: Mapping[str, Any],
    title: str = "",
) -> None:
    """Write the artifact to `folder`, whole, in the place of what was there.

    Args:
        weights: of the network of `config`; or several together, the first of which has `config`.
        metrics: plain values, such as `{"val": {...}, "epoch": 3.0, "threads": 1}`. Where it
            lacks `per_class` and `prepared` holds the validation split, that is computed.
        title: of the model card; the folder's name where it is empty.

    Raises:
        BadInput: the weights do not fit the config and the data.
        OSError: the folder cannot be written.
    """
    tokenizer = load_tokenizer(prepared.folder / "tokenizer.json")
    whole = isinstance(weights, Ensemble)
    longest = prepared.max_length if whole else config.longest(prepared.max_length)
    tokenizer.enable_truncation(longest)
    record = {**metrics, "format": FORMAT, "data": prepared.info, "max_length": longest}
    model: LSTMClassifier | Ensemble
    if isinstance(weights, Ensemble):
        model = weights
    else:
        try:
            model = network_of(config, prepared.vocab_size, len(prepared.labels), weights)
        except BadInput as fault:
            raise BadInput(f"{folder}: {fault.messages[0]}") from None
    model.to(trained_on(record))
    artifact = Artifact(folder, model, tokenizer, prepared.labels, config, record)
    if "per_class" not in record and "val" in prepared.splits:
        val = prepared.splits["val"]
        record["per_class"] = per_class(
            artifact.row_probabilities(val), val.labels, artifact.labels
        )
    artifact = Artifact(folder, model, tokenizer, prepared.labels, config, finite(record))
    with replacing_folder(folder) as temporary:
        write_files(artifact, temporary, title or folder.resolve().name)


def write_files(artifact: Artifact, folder: Path, title: str) -> None:
    """Write all files of an artifact into a folder that is there; `title`: of the model card.

    Raises:
        OSError: they cannot be written.
    """
    model = artifact.model
    # save_file would make a file that only its owner can read.
    state = model.state_dict().items()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
    (folder / "model.safetensors").write_bytes(save(tensors))
    if isinstance(model, Ensemble):
        _write(folder / ENSEMBLE, _json(model.to_dict()))
    _write(folder / "config.yaml", artifact.config.to_yaml())
    artifact.tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "labels.json", _json(artifact.labels))
    _write(folder / "metrics.json", _json(artifact.metrics))
    card = model_card(title, artifact.config, artifact.labels, artifact.metrics)
    _write(folder / "README.md", card)


def add_metrics(folder: Path, more: Mapping[str, Any], title: str) -> None:
    """Add `more` to the metrics.json of an artifact, and write its card anew under `title`.

    Raises:
        BadInput: the artifact is damaged.
        OSError: the folder cannot be written.
    """
    config, labels = load_config(folder / "config.yaml"), _labels(folder / "labels.json")
    metrics = finite(read_metrics(folder) | dict(more))
    with replacing(folder / "metrics.json") as path:
        _write(path, _json(metrics))
    with replacing(folder / "README.md") as path:
        _write(path, model_card(title, config, labels, metrics))


def load_artifact(folder: Path, device: torch.device | str = "cpu") -> Artifact:
    """The artifact in `folder`, its model on `device` and in evaluation mode.

    Raises:
        BadInput: no such folder, a file missing or damaged, files that do not fit together, or
            a model of a later version.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; expected a model written by lstmcls.train")
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if "metrics.json" not in missing:  # first: of a later version the other files may differ
        metrics = read_metrics(folder)
    if missing:
        raise BadInput(f"{folder}: not a whole model: {', '.join(missing)} missing")
    config = load_config(folder / "config.yaml")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    labels = _labels(folder / "labels.json")
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    sizes = tokenizer.get_vocab_size(), len(labels)
    model: LSTMClassifier | Ensemble
    try:
        if (folder / ENSEMBLE).is_file():
            path = folder / ENSEMBLE
            model = Ensemble.of(_read_json(path), weights, *sizes, metrics["max_length"])
            _check_characters(model, metrics)
        else:
            model = network_of(config, *sizes, weights)
    except BadInput as fault:
        raise BadInput(f"{path}: {fault.messages[0].removeprefix(f'{path}: ')}") from None
    return Artifact(folder, model.to(device).eval(), tokenizer, labels, config, metrics)


def _check_characters(model: Ensemble, metrics: Mapping[str, Any]) -> None:
    """Raises BadInput where nothing says how many characters a member was trained to read."""
    data = metrics.get("data")
    most = data.get("max_characters") if isinstance(data, Mapping) else None
    if model.reads_characters and (type(most) is not int or most < 1):
        raise BadInput(f"reads characters, and metrics.json says not how many (got {most!r:.60})")


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics.json of an artifact.

    Raises:
        BadInput: the file is missing, damaged, of a later version, or lacks what a prediction
            needs.
    """
    path = folder / "metrics.json"
    metrics = _read_json(path)
    version = metrics.get("format", 0) if isinstance(metrics, dict) else 0
    if type(version) is not int or version < 0:
        raise BadInput(f"{path}: damaged (format {version!r:.60})")
    if version > FORMAT:
        raise BadInput(
            f"{path}: format {version}, written by a later version of lstm-tune; this version "
            f"reads up to {FORMAT}: update lstm-tune"
        )
    length = metrics.get("max_length") if isinstance(metrics, dict) else None
    if not isinstance(length, int) or length < 1:
        raise BadInput(f"{path}: damaged (no max_length)")
    return dict(metrics)


def choose_device(name: str) -> str:
    """`cpu` or `cuda`; auto is the GPU where there is one.

    Raises:
        BadInput: `cuda` on a machine without a usable GPU.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise BadInput("--device cuda: no usable GPU here; use --device cpu")
    return "cuda" if name != "cpu" and there else "cpu"


def trained_on(metrics: Mapping[str, Any]) -> str:
    """The device of the training where this machine has it: another gives other last digits."""
    return "cuda" if metrics.get("device") == "cuda" and torch.cuda.is_available() else "cpu"


def finite(value: Any) -> Any:
    """`value` with None for every number that JSON has no word for (NaN, infinity)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _encoded(
    tokenizer: Tokenizer, texts: list[str], start: int, max_characters: int
) -> TokenDataset:
    """`tokenized` of `texts`, the first of which has the number `start`.

    Raises:
        BadInput: one of them is no text, or holds half of a surrogate pair.
    """
    for number, text in enumerate(texts, start):
        if not isinstance(text, str):  # of two texts in a list the tokenizer would read a pair
            raise BadInput(f"texts[{number}]: expected a text, got {text!r:.60}")
    try:
        return tokenized(tokenizer, texts, max_characters)
    except (TypeError, UnicodeError):
        for number, text in enumerate(texts, start):
            half = next((c for c in text if "\ud800" <= c <= "\udfff"), None)
            if half is not None:
                raise BadInput(
                    f"texts[{number}]: holds {half!r}, half of a surrogate pair; expected "
                    "whole characters"
                ) from None
        raise


def _labels(path: Path) -> list[str]:
    labels = _read_json(path)
    if (
        not isinstance(labels, list)
        or not all(isinstance(label, str) for label in labels)
        or len(set(labels)) != len(labels)
        or len(labels) < 2
    ):
        raise BadInput(f"{path}: damaged (expected a list of at least two label names)")
    return labels


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{path}: damaged ({str(error).splitlines()[0]})") from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
