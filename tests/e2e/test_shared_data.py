"""The data is one copy in shared memory, whatever the number of workers."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import ray.tune

from lstmcls.dataset import Prepared, TokenDataset
from tune.cluster import start_ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Any:
    start_ray(None)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    yield
    ray.shutdown()


def _data(tokens: int) -> Prepared:
    rows = tokens // 100
    split = TokenDataset(
        np.ones(rows * 100, dtype=np.int16),
        np.arange(rows + 1, dtype=np.int64) * 100,
        np.zeros(rows, dtype=np.int32),
    )
    return Prepared(Path("."), {}, {"train": split, "val": split})


def _look(spec: dict[str, Any], data: Prepared) -> None:
    """Read all of the data as training does, and report where it lies and what that cost."""
    ids = data.splits["train"].ids
    rows = data.splits["train"].on("cpu")
    total = int(rows.ids.sum(dtype=rows.labels.dtype))
    address = ids.__array_interface__["data"][0]
    maps = [m for m in psutil.Process().memory_maps(grouped=False) if _holds(m.addr, address)]
    ray.tune.report(
        {
            "shared": maps[0].path if maps else "",
            "writable": bool(ids.flags.writeable),
            "same": rows.ids.data_ptr() == address,
            "total": total,
            "private": psutil.Process().memory_full_info().uss,
            "pid": psutil.Process().pid,
        }
    )


def _holds(addresses: str, address: int) -> bool:
    start, end = (int(part, 16) for part in addresses.split("-"))
    return start <= address < end


def _two_workers(tokens: int, folder: Path) -> list[dict[str, Any]]:
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(
            ray.tune.with_parameters(_look, data=_data(tokens)), {"cpu": 1, "gpu": 0}
        ),
        tune_config=ray.tune.TuneConfig(num_samples=2, max_concurrent_trials=2),
        run_config=ray.tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    return [dict(result.metrics) for result in tuner.fit()]


def test_workers_map_one_copy_and_do_not_grow(tmp_path: Path) -> None:
    small = _two_workers(1_000_000, tmp_path / "small")
    large = _two_workers(100_000_000, tmp_path / "large")  # 200 MB of ids
    for seen, tokens in ((small, 1_000_000), (large, 100_000_000)):
        assert len({worker["pid"] for worker in seen}) == 2
        for worker in seen:
            assert "plasma" in worker["shared"] or "/dev/shm" in worker["shared"], worker
            assert worker["total"] == tokens
            assert worker["same"]
            assert not worker["writable"]
    growth = max(w["private"] for w in large) - min(w["private"] for w in small)
    assert growth < 20e6, f"{growth / 1e6:.0f} MB more private memory for 198 MB more data"


def test_ray_listens_on_loopback_only() -> None:
    listening: list[tuple[str, str]] = []
    for server in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # a worker of the test before, on its way out
            connections = server.net_connections(kind="inet")
            ips = [c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN]
            listening += [(server.name(), ip) for ip in ips]
    assert len(listening) > 2
    outward = [
        pair for pair in listening if pair[1] not in ("127.0.0.1", "::ffff:127.0.0.1", "::1")
    ]
    assert not outward
