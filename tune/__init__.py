"""Distributed hyperparameter tuning for LSTM text classifiers, on Ray Tune and Optuna.

From Python: `search` runs a search, `load_run` opens the folder of one; both give a Run.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.run import Run

__all__ = ["load_run", "search"]


def search(**options: Any) -> Run:
    """Run a search, as `python -m tune.search` does, with its options: `trials=20`, `minutes=5`.

    `--out DIR` is `out="DIR"`, `--cpus-per-trial 2` is `cpus_per_trial=2`. `space` may also be a
    mapping in the form of a file, `set` a mapping of training settings, and `data` a pandas
    DataFrame with a column of texts and one of labels. The first interrupt of a notebook ends
    the search and gives what there is; `search(resume=run.path)` goes on with it.

    Raises:
        BadInput: an option, the space or the data cannot be used.
        RunFailed: the search failed, or not one trial reported.
    """
    from tune.search import arguments, run_search

    return load_run(run_search(arguments(options)).run.path)


def load_run(path: str | os.PathLike[str]) -> Run:
    """The run in a folder, finished or not; nothing in it is changed.

    Raises:
        BadInput: not the folder of a search.
    """
    from tune.run import Run

    return Run(path)


class _Package(ModuleType):
    """`tune.search` stays the function above when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "search" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
