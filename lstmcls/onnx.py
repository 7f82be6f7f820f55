"""A trained classifier as `model.onnx`: one graph, which ONNX Runtime runs without PyTorch.

Inputs: `input_ids` int64 [batch, length], padded with 0 at the end; `lengths` int64 [batch], 1 or
more. Output: `probabilities` float32 [batch, classes]. Batch and length are free. A classifier
that counts padding sees all of it: the graph itself pads (or cuts) to the training's length.

An ensemble (see ensemble.py) with a linear model that reads characters takes these besides:
`character_ids` int64 [batch, characters], UTF-16 code units padded with 0, and `character_lengths`
int64 [batch]. The section of the model card says how to make them.

Random initial states cannot be part of a graph that gives the same answer twice, so they are a
third input, `initial_states` float32 [layers, directions, 2, batch, hidden]: h0 and c0. Draws of
N(0, 1) give what PyTorch gives with the same draws; zeros, their mean, give one answer for each
text, and are what the networks of an ensemble begin with.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmcls.artifact import Artifact
from lstmcls.cli import BadInput, RunFailed
from lstmcls.ensemble import Ensemble
from lstmcls.model import LSTMClassifier

TOLERANCE = 1e-4  # of a probability; float32 sums in another order differ by some 1e-7


class _Graph(nn.Module):
    """What model.onnx computes of a network."""

    def __init__(self, model: LSTMClassifier, max_length: int) -> None:
        super().__init__()
        self.model, self.pad_to = model, model.config.pad_to(max_length)

    def forward(
        self, input_ids: Tensor, lengths: Tensor, initial_states: Tensor | None = None
    ) -> Tensor:
        if self.pad_to is not None:
            input_ids = functional.pad(input_ids, (0, self.pad_to - input_ids.shape[1]))
        logits: Tensor = self.model(input_ids, lengths, initial_states)
        return logits.softmax(dim=1)


def write_onnx(artifact: Artifact, path: Path) -> None:
    """Write the classifier as an ONNX file and compare the two on a small batch.

    Raises:
        BadInput: onnx or onnxruntime is not installed.
        RunFailed: the file gives other probabilities than PyTorch.
    """
    _check_installed()
    model = artifact.model
    graph: nn.Module = (
        model if isinstance(model, Ensemble) else _Graph(model, artifact.max_length)
    ).eval()
    inputs = _example(artifact, rows=2, length=3)
    axes = {"input_ids": {0: "batch", 1: "length"}, "lengths": {0: "batch"}}
    axes |= {"character_ids": {0: "batch", 1: "characters"}, "character_lengths": {0: "batch"}}
    axes |= {"initial_states": {3: "batch"}, "probabilities": {0: "batch"}}
    with warnings.catch_warnings():
        # dynamo=True needs onnxscript besides, takes far longer, and with PyTorch 2.13 fixes the
        # length to the example's in most of these networks.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=["probabilities"],
            dynamic_axes={name: axes[name] for name in (*inputs, "probabilities")},
            dynamo=False,
        )
    _compare(graph, path, _example(artifact, rows=5, length=17))


def _check_installed() -> None:
    """Raises BadInput where a package that `write_onnx` needs is missing."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise BadInput(f"ONNX needs {' and '.join(missing)}; pip install {' '.join(missing)}")


def _example(artifact: Artifact, rows: int, length: int) -> dict[str, Tensor]:
    """Inputs of the graph: rows of random ids, from `length` tokens downwards, padded with 0."""
    draw = torch.Generator().manual_seed(0)
    lengths = (length - torch.arange(rows)).clamp(min=1)

    def drawn(most: int, longest: Tensor) -> Tensor:
        ids = torch.randint(1, most, (rows, int(longest.max())), generator=draw)
        return ids.masked_fill_(torch.arange(ids.shape[1]) >= longest[:, None], 0)

    inputs = {"input_ids": drawn(artifact.tokenizer.get_vocab_size(), lengths), "lengths": lengths}
    if isinstance(artifact.model, Ensemble):
        if artifact.model.reads_characters:
            longer = 4 * lengths
            letters = {"character_ids": drawn(128, longer), "character_lengths": longer}
            inputs |= letters
        return inputs
    states = artifact.model.initial_states(rows, draw)
    return inputs if states is None else {**inputs, "initial_states": states}


def _compare(graph: nn.Module, path: Path, inputs: dict[str, Tensor]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.inference_mode():
        difference = float((graph(**inputs) - torch.from_numpy(found)).abs().max())
    if not difference <= TOLERANCE:
        raise RunFailed(
            f"{path.name}: its probabilities differ from PyTorch's by {difference:.2g}; "
            "use the model without ONNX, and report this with the versions of torch and onnx"
        )
