"""Ray's token authentication: on for every cluster that is started here or connected to.

A Ray port runs whatever code it is sent, as the user who started Ray; the token is what keeps
others out. It is the variable RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or
~/.ray/auth_token. Only RAY_AUTH_MODE=disabled, said by the user, turns this off.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ray._private.authentication import authentication_token_setup as setup

from lstmcls.cli import BadInput


def make_token() -> None:
    """Turn authentication on, with a new token where there is none; no one else may read it.

    Without a home that can be written, as in many containers, it is in this process's environment,
    where what it starts finds it.
    """
    if _off():
        return
    path = Path(os.path.expanduser("~")) / ".ray" / "auth_token"
    if _there_is_one():
        if path.is_file() and path.stat().st_mode & 0o077:
            path.chmod(0o600)  # Ray writes it for all to read
        return
    token = secrets.token_hex(32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(token)
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = token
    setup.AuthenticationTokenLoader.instance().reset_cache()


def require_token(address: str) -> None:
    """Turn authentication on for the cluster at `address`.

    Raises:
        BadInput: there is no token.
    """
    if not _off() and not _there_is_one():
        raise BadInput(
            f"--address {address}: no token; put the cluster's into ~/.ray/auth_token (mode 600), "
            "or set RAY_AUTH_MODE=disabled for a cluster that is open to all"
        )


def _there_is_one() -> bool:
    found: bool = setup.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    return found


def _off() -> bool:
    """Whether the user turned it off; if not, it is on from here."""
    # Setting RAY_AUTH_MODE here would do nothing: Ray read it when it was imported.
    setup.enable_token_auth_by_default()
    off: bool = setup.get_authentication_mode() == setup.AuthenticationMode.DISABLED
    return off
