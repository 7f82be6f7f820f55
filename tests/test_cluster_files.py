"""The Dockerfile and the files for `ray up`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))


def test_the_image_holds_every_package() -> None:
    copied = [
        word
        for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    ]
    assert all((ROOT / name).exists() for name in copied)
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert set(sent) == set(copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tops = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert tops <= set(copied)
    assert "cluster" in project["project"]["optional-dependencies"]


def test_every_package_of_the_project_is_installed_with_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("lstmcls", "tune", "search_spaces")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found


def test_the_image_asks_for_a_token_and_is_not_root() -> None:
    assert "RAY_AUTH_MODE=token" in DOCKERFILE
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["ray"]


@pytest.mark.parametrize("path", sorted((ROOT / "clusters").glob("*.yaml")), ids=lambda p: p.stem)
def test_ray_up_takes_it(path: Path) -> None:
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    ready = prepare_config(config)
    validate_config(ready)
    # Every Ray that it starts asks for the token, and the dashboard is not shown to others.
    starts = [c for key in ("head", "worker") for c in ready[f"{key}_start_ray_commands"]]
    started = [command for command in starts if "ray start" in command]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in started)
    assert "--dashboard-host=127.0.0.1" in started[0]
    assert "~/.ray/auth_token" in ready["file_mounts"]
