"""What others say goes to the log of the run while it runs, and no longer."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import pytest

from tune.log import logged_to


def test_all_that_is_said_goes_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "search.log"
    with warnings.catch_warnings(), logged_to(path):
        warnings.simplefilter("always")
        print("printed")
        print("complained", file=sys.stderr)
        logging.getLogger("ray.tune.deep").warning("logged")
        warnings.warn("warned 评论", stacklevel=1)
    assert capsys.readouterr() == ("", "")
    log = path.read_text(encoding="utf-8")
    assert [
        log.index(word) for word in ("printed", "complained", "logged", "warned 评论")
    ] == sorted(log.index(word) for word in ("printed", "complained", "logged", "warned 评论"))


def test_afterwards_all_is_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger, show = logging.getLogger("ray"), warnings.showwarning
    before = (logger.handlers, logger.propagate)
    with pytest.raises(KeyError), logged_to(tmp_path / "search.log"):
        raise KeyError
    assert (logger.handlers, logger.propagate) == before
    assert warnings.showwarning is show
    print("printed")
    assert capsys.readouterr().out == "printed\n"
    with logged_to(tmp_path / "search.log"):
        print("again")
    assert (tmp_path / "search.log").read_text(encoding="utf-8") == "again\n"
