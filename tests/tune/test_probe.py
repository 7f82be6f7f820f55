"""The largest configuration of a space, and a step of it; on a CPU, with the memory made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ray
from fakes import small_space

from lstmcls.dataset import Prepared, TokenDataset
from tune.cluster import _folder_for_ray
from tune.probe import largest_config, largest_step, on_every_gpu
from tune.resources import GpuMemory
from tune.space import load_space


def texts(rows: int) -> TokenDataset:
    """Texts of 1, 2, ... tokens."""
    offsets = np.cumsum(np.arange(rows + 1, dtype=np.int64))
    return TokenDataset(
        np.ones(offsets[-1], np.int16), offsets, (np.arange(rows) % 2).astype(np.int32)
    )


DATA = Prepared(
    Path("."),
    {"labels": ["a", "b"], "vocab_size": 9, "max_length": 30},
    {"train": texts(30), "val": texts(12)},
)


def test_the_largest_configuration_of_a_conditional_space() -> None:
    config = largest_config(load_space("full"), DATA)
    assert config.variant == "improved"
    assert (config.embedding_dim, config.hidden_size, config.batch_size) == (128, 128, 128)
    assert config.optimizer in ("adam", "adamw")
    assert config.ngrams == 3
    night = largest_config(load_space("night"), DATA)
    assert night.mean_pooling
    assert night.attention_pooling
    assert night.averaging
    assert night.ngrams == 3


def test_a_size_that_only_a_condition_allows() -> None:
    space = small_space(
        space={
            "optimizer": {"categorical": ["sgd", "adam"]},
            "layers": {"int": [1, 3], "when": {"optimizer": "sgd"}},
            "hidden_size": {"int": [8, 64], "step": 8},
        }
    )
    config = largest_config(space, DATA)
    assert (config.optimizer, config.layers, config.hidden_size) == ("sgd", 3, 64)


def test_a_step_on_the_longest_rows() -> None:
    config = largest_config(small_space(fixed={"batch_size": 4}), DATA)
    needs = GpuMemory(3, 1, 16)
    assert largest_step(config, DATA, "cpu", lambda: needs) is needs


def test_every_gpu_is_measured_and_one_that_fails_is_named() -> None:
    """Ray takes our word for it that there are two."""

    def which(broken: int) -> int:
        (number,) = ray.get_gpu_ids()
        if number == broken:
            raise RuntimeError("no kernel image")
        return int(number)

    ray.init(
        address="local",
        num_cpus=1,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=_folder_for_ray(),
    )
    try:
        answers, faults = on_every_gpu(which, -1)
        assert (sorted(answers), faults) == ([0, 1], [])
        answers, faults = on_every_gpu(which, 1)
        assert answers == [0]
        assert faults == ["RuntimeError: no kernel image"]
    finally:
        ray.shutdown()
