"""Suggestions through the command line: what is drawn at random is said, a space has an end."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from driving import search, write_space


def test_a_search_ends_where_every_configuration_has_been_tried(
    tmp_path: Path, prepared_folder: Path
) -> None:
    space = write_space(tmp_path / "mine.yaml", prepared_folder, asha="off", fixed={"epochs": 1},
                        sampler={"name": "gp", "startup_trials": 1})  # fmt: skip
    sizes = {"hidden_size": {"int": [4, 8], "step": 4}}
    optimizers = {"optimizer": {"categorical": ["adam", "sgd"]}}
    momenta = {"momentum": {"categorical": [0.5, 0.9], "when": {"optimizer": "sgd"}}}
    raw = {**yaml.safe_load(space.read_text()), "space": sizes | optimizers | momenta}
    space.write_text(yaml.safe_dump(raw))
    found = search(tmp_path, "--space", space, "--out", tmp_path / "run", "--trials", 9)
    assert found.process.returncode == 0, found.err
    assert "gp does not model momentum: it is drawn at random; tpe models all" in found.err
    assert "every configuration of the space has been tried" in found.err
    params = pd.read_parquet(tmp_path / "run" / "trials.parquet").filter(like="params_")
    assert len(params) == len(params.drop_duplicates()) == 6

    again = search(tmp_path, "--resume", tmp_path / "run", "--trials", 20)
    assert again.process.returncode == 0, again.err
    assert "every configuration of the space has been tried" in again.err
    assert len(pd.read_parquet(tmp_path / "run" / "trials.parquet")) == 6
