"""How the data reaches the nodes of a cluster: bytes over the network, and copies on each node.

`unshare --net sh -c 'ip link set lo up; python benchmarks/shipping.py DATA'`, as root: Ray's nodes
are processes of this machine, and a network of their own has no other traffic. The data goes to
the object store of the head, as in a search; then two workers a node read all of it, twice.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import ray
from machine import described
from ray._private.internal_api import node_stats
from ray.cluster_utils import Cluster

from lstmcls.dataset import Prepared, load_prepared
from tune.auth import make_token

WORKERS = 2  # a node
HELD = 5.0  # seconds in which the workers of all nodes have the data at once


class Worker:
    def read(self, data: Prepared) -> int:
        total = sum(int(split.ids.sum(dtype="int64")) for split in data.splits.values())
        time.sleep(HELD)
        return total


def sent() -> int:
    """Bytes that have gone over the loopback device."""
    line = next(x for x in Path("/proc/net/dev").read_text().splitlines() if "lo:" in x)
    return int(line.split()[9])


def stored() -> list[int]:
    """Bytes in the object store of each node."""
    return [
        node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])
        .store_stats.object_store_bytes_used
        for node in ray.nodes()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--nodes", type=int, default=3)
    args = parser.parse_args()
    make_token()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    data = load_prepared(args.data)
    size = sum(split.nbytes for split in data.splits.values())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(args.nodes):
        cluster.add_node(num_cpus=WORKERS)
    ray.init(address=cluster.address, log_to_driver=False)
    spread = ray.remote(Worker).options(num_cpus=1, scheduling_strategy="SPREAD")
    workers = [spread.remote() for _ in range(args.nodes * WORKERS)]
    reference = ray.put(data)
    print(f"{described()}\n")
    print(f"data {size / 1e6:.1f} MB, {args.nodes} nodes, {WORKERS} workers each\n")
    print("| reading | MB sent | of the data, a node | MB stored, head and nodes |")
    print("| --- | ---: | ---: | --- |")
    for reading in ("first", "second"):
        before = sent()
        ray.get([worker.read.remote(reference) for worker in workers])
        after = sent()
        share = (after - before) / size / args.nodes
        held = ", ".join(f"{used / 1e6:.1f}" for used in sorted(stored()))
        print(f"| {reading} | {(after - before) / 1e6:.1f} | {share:.2f} | {held} |", flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
