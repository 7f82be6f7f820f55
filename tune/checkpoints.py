"""A trial's checkpoints: whole, checked and two deep, so that one damaged file costs little.

Written by the trial's worker alone, under the run's folder. Torch's own format, read with
`weights_only=True`: tensors and plain values, no code.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lstmcls.files import replacing

KEPT = 2  # checkpoints a trial; the older one is for the day when the newer is damaged
SHARE = 0.05  # of a trial's time that writing checkpoints may take
DIGEST = 32  # bytes at the end of the file


class NotShared(OSError):
    """A node that joined later does not share the run's folder."""


class Checkpoints:
    """The checkpoints in `folder`, and the weights of the trial's best report."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            NotShared: this node does not see the folder that the driver made.
        """
        self.folder = folder
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:
            where = f"{folder.parent} on node {socket.gethostname()}"
            raise NotShared(f"no {where}; every node must share it") from None
        self._next = 0.0  # time before which the next one would cost too much

    def save_when_due(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after report `step`, unless that would take over SHARE of the time."""
        started = time.monotonic()
        if started >= self._next:
            self.save(step, state)
            took = time.monotonic() - started
            self._next = time.monotonic() + took / SHARE

    def save(self, step: int, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        with replacing(self.folder / f"{step:06d}.pt") as path, open(path, "wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
        for old in self._files()[:-KEPT]:
            old.unlink()

    def load(self, device: str) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest whole state (None: start anew), and a line for each damaged file."""
        damaged: list[str] = []
        for path in reversed(self._files()):
            try:
                content = path.read_bytes()
                if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
                    raise ValueError("its checksum does not match")
                state: Any = torch.load(
                    io.BytesIO(content[:-DIGEST]), map_location=device, weights_only=True
                )
                if not isinstance(state, dict):
                    raise ValueError("it holds no state")
                return state, damaged
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # torch.load raises whatever a foreign file leads it to
                why = (str(error) or type(error).__name__).splitlines()[0]
                damaged.append(f"checkpoint {path.name} is damaged ({why}), passed over")
        return None, damaged

    def clear(self) -> None:
        """Delete all that is there: it is of another trial of this number."""
        drop_all(self.folder)
        self.folder.mkdir(parents=True)

    def save_weights(self, step: int, weights: dict[str, Tensor]) -> None:
        """Keep the weights of report `step`, the best so far, written before it is reported.

        Those of the best before it stay too: the report may come when the search has just ended,
        and is then not recorded.
        """
        with replacing(self.folder / f"best-{step:06d}.safetensors") as path:
            # Written by Python, whose OSError tells a full disk from other faults.
            path.write_bytes(save({name: tensor.contiguous() for name, tensor in weights.items()}))
        for old in sorted(self.folder.glob("best-*.safetensors"))[:-KEPT]:
            old.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.pt"))


def trial_folder(checkpoints: Path, study: str, number: int) -> Path:
    return checkpoints / f"{study}-{number:05d}"


def load_weights(folder: Path, step: int) -> dict[str, Tensor]:
    """The weights of a trial's best report, which is `step`."""
    weights: dict[str, Tensor] = load_file(str(folder / f"best-{step:06d}.safetensors"))
    return weights


def drop_states(folder: Path) -> None:
    """Delete a finished trial's checkpoints; the weights of its best report stay."""
    for path in folder.glob("*.pt"):
        path.unlink(missing_ok=True)


def drop_all(folder: Path) -> None:
    """Delete all that a finished trial left; it is not the best."""
    shutil.rmtree(folder, ignore_errors=True)
