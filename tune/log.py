"""search.log: what Ray, Optuna and the warnings of a search say, kept off the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

LOGGERS = ("ray", "ray.tune", "tune", "optuna", "py.warnings")


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """While inside, loggers and whatever prints write to `path`; afterwards all is as before."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    # It looks for files that Ray is not asked to write, trial by trial.
    seeker = logging.getLogger("ray.tune.analysis.experiment_analysis")
    level = seeker.level
    seeker.setLevel(logging.ERROR)
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    with open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        for logger in loggers:
            logger.handlers, logger.propagate = [handler], False
        logging.captureWarnings(True)
        try:
            # Ray prints what befalls its processes; the display says it in its own words.
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            logging.captureWarnings(False)
            seeker.setLevel(level)
            for logger, handlers, propagate in before:
                logger.handlers, logger.propagate = handlers, propagate
