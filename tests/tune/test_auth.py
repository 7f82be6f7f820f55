"""The token that keeps others out of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.authentication import authentication_token_setup as setup
from ray._raylet import AuthenticationTokenLoader, Config

from lstmcls.cli import BadInput
from tune.auth import make_token, require_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without a token, for this process and its Ray."""

    def look_again() -> None:
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "")  # given back, also where a test sets it
        patch.delenv("RAY_AUTH_TOKEN")
        patch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
        look_again()
        yield tmp_path
    look_again()


def test_a_new_token_is_for_its_owner_alone(home: Path) -> None:
    make_token()
    path = home / ".ray" / "auth_token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) == 64
    loader = setup.AuthenticationTokenLoader.instance()
    assert loader.get_raw_token(ignore_auth_mode=True) == path.read_text()
    before = path.read_text()
    make_token()
    assert path.read_text() == before


def test_a_token_that_others_can_read_is_taken_from_them(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("5" * 64)
    path.chmod(0o644)
    make_token()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "5" * 64


def test_a_cluster_is_not_called_without_a_token(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="--address head:6379: no token; put the cluster's into"):
        require_token("head:6379")
    assert not (home / ".ray").exists()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5" * 64)
    require_token("head:6379")


def test_who_turns_it_off_has_it_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    Config.initialize("")
    require_token("head:6379")
    make_token()
    assert not (home / ".ray").exists()


def test_a_home_that_cannot_be_written(home: Path) -> None:
    (home / ".ray").write_text("")
    make_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    loader = setup.AuthenticationTokenLoader.instance()
    assert loader.get_raw_token(ignore_auth_mode=True) == os.environ["RAY_AUTH_TOKEN"]
    assert (home / ".ray").read_text() == ""
