"""A space as a file would say it, for tests to change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from tune.space import SearchSpace, load_space

BASE = yaml.safe_load("""
space:
  optimizer: {categorical: [sgd, adam, adamw, rmsprop]}
  lr_sgd: {float: [0.01, 1.0], log: true, field: lr, when: {optimizer: sgd}}
  lr_adam: {float: [1e-4, 0.02], log: true, field: lr, when: {optimizer: [adam, adamw]}}
  momentum: {categorical: [0, 0.5, 0.9], when: {optimizer: sgd}}
  nesterov: {categorical: [true, false], when: {momentum: [0.5, 0.9]}}
  hidden_size: {int: [32, 256], step: 32}
  epochs: {int: [1, 8]}
fixed: {batch_size: 64}
""")


def from_text(text: str, tmp_path: Path) -> SearchSpace:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return load_space(str(path))


def changed(**sections: Any) -> dict[str, Any]:
    """BASE with sections replaced; `space` is merged into its parameters."""
    raw = copy.deepcopy(BASE)
    raw["space"].update(sections.pop("space", {}))
    return {**raw, **sections}
