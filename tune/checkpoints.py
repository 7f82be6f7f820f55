"""A trial's checkpoints: whole, checked and two deep, so that one damaged file costs little.

Written by the trial's worker alone, into the run's folder or its place in an object store. Torch's
own format, read with `weights_only=True`: tensors and plain values, no code.
"""

from __future__ import annotations

import hashlib
import io
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from tune.store import Store, StoreFault

KEPT = 2  # checkpoints a trial; the older one is for the day when the newer is damaged
SHARE = 0.05  # of a trial's time that writing checkpoints may take
DIGEST = 32  # bytes at the end of the file
LAG = timedelta(minutes=1)  # that the record in an object store may be behind: see mirror.py
STATES, WEIGHTS = "[0-9]*.pt", "best-*.safetensors"
HELD_OUT, LOGS, TEST = "held-out.safetensors", "log_probabilities", "test"


class NotShared(OSError):
    """A node that joined later does not share the run's folder."""


class Checkpoints:
    """The checkpoints in `folder`, and the weights of the trial's best report."""

    def __init__(self, folder: Store) -> None:
        """
        Raises:
            NotShared: this node does not see the folder that the driver made.
        """
        self.folder = folder
        try:
            folder.make()
        except FileNotFoundError:
            where = f"{Path(str(folder)).parent} on node {socket.gethostname()}"
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
        buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
        self.folder.write(f"{step:06d}.pt", buffer.getbuffer())
        for old in self._states()[:-KEPT]:
            self.folder.delete(old)

    def load(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest whole state (None: start anew), and a line for each damaged file.

        On the CPU: a generator's state belongs there, even a GPU's; the rest is copied from there.
        """
        damaged: list[str] = []
        for name in reversed(self._states()):
            try:
                content = self.folder.read(name)
                if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
                    raise ValueError("its checksum does not match")
                state: Any = torch.load(
                    io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True
                )
                if not isinstance(state, dict):
                    raise ValueError("it holds no state")
                return state, damaged
            except (MemoryError, torch.OutOfMemoryError, StoreFault):
                raise
            except Exception as error:  # torch.load raises whatever a foreign file leads it to
                why = (str(error) or type(error).__name__).splitlines()[0]
                damaged.append(f"checkpoint {name} is damaged ({why}), passed over")
        return None, damaged

    def clear(self) -> None:
        """Delete all that is there: it is of another trial of this number."""
        drop_all(self.folder)
        self.folder.make()

    def save_weights(self, step: int, weights: dict[str, Tensor], before: int | None) -> None:
        """Keep the weights of report `step`, the best so far, written before it is reported.

        Those of the best report before it, which was `before`, stay too: the new one may come when
        the search has just ended, and is then not recorded. In an object store the record itself
        comes later, so all that were the best in the last LAG seconds stay.
        """
        content = save({name: tensor.contiguous() for name, tensor in weights.items()})
        self.folder.write(_weights(step), content)
        written = self.folder.written()
        names = sorted(name for name in written if fnmatch(name, WEIGHTS))
        kept = {_weights(step), None if before is None else _weights(before)}
        for old, better in pairwise([*names, _weights(step)]):
            recent = self.folder.remote and written[better] >= datetime.now(UTC) - LAG
            if old not in kept and not recent:
                self.folder.delete(old)

    def save_held_out(
        self, log_probabilities: NDArray[np.float32], test: NDArray[np.float32] | None = None
    ) -> None:
        """Keep log P(class) [rows, classes] of the rows that the trial was not trained on.

        `test`: of those of the test split, where there are any.
        """
        test = log_probabilities[:0] if test is None else test
        arrays = {LOGS: log_probabilities, TEST: test}
        tensors = {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()}
        self.folder.write(HELD_OUT, save(tensors))

    def has_weights(self, step: int) -> bool:
        return _weights(step) in self.folder.names()

    def _states(self) -> list[str]:
        return [name for name in self.folder.names() if fnmatch(name, STATES)]


def trial_folder(checkpoints: Store, study: str, number: int) -> Store:
    return checkpoints / f"{study}-{number:05d}"


def load_weights(folder: Store, step: int) -> dict[str, Tensor]:
    """The weights of a trial's best report, which is `step`."""
    weights: dict[str, Tensor] = load(folder.read(_weights(step)))
    return weights


def load_held_out(folder: Store) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What `save_held_out` kept, each [rows, classes]."""
    found = load(folder.read(HELD_OUT))
    return found[LOGS].numpy(), found[TEST].numpy()


def _weights(step: int) -> str:
    return f"best-{step:06d}.safetensors"


def drop_states(folder: Store) -> None:
    """Delete a finished trial's checkpoints; the weights of its best report stay."""
    for name in folder.names():
        if fnmatch(name, STATES):
            folder.delete(name)


def drop_all(folder: Store) -> None:
    """Delete all that a finished trial left; it is not the best."""
    with suppress(OSError):  # its worker may be writing there still
        folder.delete_all()
