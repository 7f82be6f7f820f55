"""What each trial gets of a machine, and how many run at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmcls.cli import BadInput
from tune.resources import MOST_PER_GPU, MPS, GpuMemory, Node, Share, divide, in_turns
from tune.space import Resources


@pytest.mark.parametrize(
    ("cpu", "gpu", "concurrency", "cpus", "gpus", "wanted"),
    [
        # CPUs alone: (CPUs a trial, GPUs a trial, trials at once).
        (1, "auto", "auto", 8, 0, (1, 0, 8)),
        (2, "auto", "auto", 8, 0, (2, 0, 4)),
        (3, 0, "auto", 8, 0, (3, 0, 2)),
        (0.5, 0, "auto", 2, 0, (0.5, 0, 4)),
        (0.1, 0, "auto", 1, 0, (0.1, 0, 10)),
        (8, "auto", "auto", 8, 0, (8, 0, 1)),
        (1, 0, "auto", 8, 2, (1, 0, 8)),
        # A GPU shared by a few, as the CPUs allow.
        (1, "auto", "auto", 16, 1, (1, 0.125, 8)),
        (1, "auto", 2, 16, 1, (1, 0.5, 2)),
        (1, "auto", "auto", 3, 1, (1, 0.3333, 3)),
        (1, "auto", "auto", 16, 2, (1, 0.125, 16)),
        (4, "auto", "auto", 8, 2, (4, 1, 2)),
        (8, "auto", "auto", 8, 4, (8, 1, 1)),
        # Three on two GPUs: two of them share one, for a trial does not span GPUs.
        (1, "auto", "auto", 3, 2, (1, 0.5, 3)),
        (1, "auto", "auto", 5, 4, (1, 0.5, 5)),
        # GPUs as stated.
        (1, 1, "auto", 16, 2, (1, 1, 2)),
        (1, 0.5, "auto", 16, 2, (1, 0.5, 4)),
        (1, 0.5, "auto", 3, 2, (1, 0.5, 3)),
        (1, 0.1, "auto", 16, 1, (1, 0.1, 10)),
        (1, 0.66, "auto", 16, 2, (1, 0.66, 2)),
        (1, 2, "auto", 16, 4, (1, 2, 2)),
        # Fewer at once than fit.
        (1, "auto", 2, 8, 0, (1, 0, 2)),
        (1, 1, 1, 8, 4, (1, 1, 1)),
    ],
)
def test_divide(
    cpu: float, gpu: Any, concurrency: Any, cpus: float, gpus: float, wanted: tuple[float, ...]
) -> None:
    share = divide(Resources(cpu, gpu, concurrency), [Node(cpus, gpus)])
    assert (share.cpu, share.gpu, share.concurrency) == wanted
    assert share.notes == ()


def test_a_gpu_asked_for_where_there_is_none() -> None:
    share = divide(Resources(1, 0.5, "auto"), [Node(2, 0)])
    assert (share.gpu, share.concurrency) == (0, 2)
    assert share.notes == ("a trial asks for 0.5 GPU, this machine has none: it runs on CPU",)


def test_more_at_once_than_fit() -> None:
    share = divide(Resources(1, "auto", 8), [Node(2, 0)])
    assert share.concurrency == 2
    assert share.notes == ("8 trials at once do not fit, 2 do",)


@pytest.mark.parametrize(
    ("wanted", "cpus", "gpus", "message"),
    [
        (Resources(4, "auto"), 2, 0, "resources.cpu: a trial wants 4 CPUs, there are 2"),
        (Resources(1, 2), 2, 1, "resources.gpu: a trial wants 2 GPUs, there are 1"),
    ],
)
def test_more_than_there_is(wanted: Resources, cpus: float, gpus: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        divide(wanted, [Node(cpus, gpus)])


@pytest.mark.parametrize(
    ("cpu", "gpu", "concurrency", "nodes", "wanted"),
    [
        # No trial spans two nodes: (CPUs a trial, GPUs a trial, trials at once).
        (2, 0, "auto", [(3, 0), (3, 0)], (2, 0, 2)),
        (1, 0, "auto", [(0, 0), (8, 0), (4, 0)], (1, 0, 12)),  # a head that runs no trials
        (4, 0, "auto", [(2, 0), (8, 0)], (4, 0, 2)),
        # Nodes with GPUs beside nodes without.
        (1, "auto", "auto", [(16, 0), (16, 1), (16, 1)], (1, 0.125, 16)),
        (1, 0, "auto", [(16, 0), (16, 1)], (1, 0, 32)),
        (1, 1, "auto", [(16, 0), (2, 4)], (1, 1, 2)),
        # Nodes of different kinds: one part of a GPU for all trials.
        (1, "auto", "auto", [(2, 1), (16, 2)], (1, 0.125, 18)),
        # Few trials are spread over the GPUs, with larger parts.
        (1, "auto", 2, [(16, 1), (16, 1)], (1, 1, 2)),
        (1, "auto", 3, [(16, 1), (16, 1)], (1, 0.5, 3)),
    ],
)
def test_divide_over_nodes(
    cpu: float, gpu: Any, concurrency: Any, nodes: list[Any], wanted: tuple[float, ...]
) -> None:
    share = divide(Resources(cpu, gpu, concurrency), [Node(*node) for node in nodes])
    assert (share.cpu, share.gpu, share.concurrency) == wanted


def test_nodes_without_a_gpu_are_named_when_they_stay_idle() -> None:
    share = divide(Resources(1, "auto"), [Node(0, 0), Node(8, 0), Node(8, 1)])
    assert share.notes == (
        "1 of 3 nodes have no GPU for a trial and stay idle; resources.gpu: 0 would use the CPUs "
        "of all",
    )


def test_no_node_has_both() -> None:
    with pytest.raises(BadInput, match="no node has both"):
        divide(Resources(4, 1), [Node(8, 0), Node(2, 1)])
    with pytest.raises(BadInput, match="a trial wants 4 CPUs, no node has more than 3"):
        divide(Resources(4, 0), [Node(3, 0), Node(2, 0)])


def test_nodes_come_and_go() -> None:
    share = divide(Resources(1, "auto"), [Node(8, 1)])
    assert share.concurrency == share.at_once([Node(8, 1)]) == 8
    assert share.at_once([Node(8, 1), Node(2, 1)]) == 10
    assert share.at_once([Node(8, 0)]) == share.at_once([]) == 0
    assert divide(Resources(1, 0, 3), [Node(2, 0)]).at_once([Node(2, 0)] * 4) == 3


def test_a_retry_fits_one_node() -> None:
    share = divide(Resources(2, 1), [Node(32, 0), Node(3, 1), Node(4, 1)])
    assert share.bundle(2) == {"CPU": 4, "GPU": 1}


@given(
    cpu=st.sampled_from([0.1, 0.25, 0.5, 1, 1.5, 2, 3]),
    gpu=st.sampled_from(["auto", 0, 0.1, 0.25, 0.33, 0.5, 0.66, 1, 2]),
    concurrency=st.sampled_from(["auto", 1, 2, 50]),
    cpus=st.integers(1, 128),
    gpus=st.integers(0, 8),
)
def test_what_is_promised_fits(
    cpu: float, gpu: Any, concurrency: Any, cpus: int, gpus: int
) -> None:
    try:
        share = divide(Resources(cpu, gpu, concurrency), [Node(cpus, gpus)])
    except BadInput:
        assert cpu > cpus or (gpu != "auto" and gpus and gpu > gpus)
        return
    assert share.concurrency >= 1
    assert share.cpu * share.concurrency <= cpus + 1e-6
    if share.gpu and share.gpu <= 1:  # whole trials on each GPU
        a_gpu = int(1 / share.gpu + 1e-9)
        assert share.concurrency <= a_gpu * gpus
        assert gpu != "auto" or a_gpu <= MOST_PER_GPU
    elif share.gpu:
        assert share.concurrency * share.gpu <= gpus
    for times in (1, 2):
        bundle = share.bundle(times)
        assert 0 < bundle["CPU"] <= cpus
        # Ray takes a part of one GPU, or whole ones.
        assert bundle["GPU"] <= 1 or float(bundle["GPU"]).is_integer()
        assert bundle["GPU"] <= gpus


@given(
    tensors=st.integers(1, 2 * 10**9),
    context=st.integers(1, 10**9),
    total=st.integers(10**9, 10**11),
    cpus=st.integers(1, 64),
    gpus=st.integers(1, 4),
    concurrency=st.sampled_from(["auto", 1, 3]),
)
def test_the_largest_configuration_fits_its_share(
    tensors: int, context: int, total: int, cpus: int, gpus: int, concurrency: Any
) -> None:
    needs = GpuMemory(tensors, context, total)
    share = divide(Resources(1, "auto", concurrency), [Node(cpus, gpus)], [needs])
    at_once = int(1 / share.gpu + 1e-9)  # on one GPU, as Ray counts
    if needs.trials:
        assert tensors <= (share.gpu - share.gpu_context) * total  # what its allocator may take
        assert at_once * share.gpu <= 1 + 1e-9  # contexts included
        assert share.notes == () or concurrency == 3
    else:
        assert (at_once, share.gpu) == (1, 1)
        assert share.notes[0].startswith("the largest configuration of the space does not fit")


def test_the_smallest_of_unlike_gpus_decides() -> None:
    """Memory that one of 80 GB has for eight trials is not there on one of 16 GB."""
    needs = [GpuMemory(6 * 10**9, 5 * 10**8, total) for total in (80 * 10**9, 16 * 10**9)]
    share = divide(Resources(1, "auto"), [Node(16, 1), Node(16, 1)], needs)
    assert share.gpu == 0.5
    assert share.concurrency == 4
    for memory in needs:  # and what its allocator may take on either fits the trial
        assert (share.gpu - share.gpu_context) * memory.total >= memory.tensors
    assert share.notes == (
        "the GPUs are unlike: the smallest, of 16 GB, has room for 2 trials and decides for all; "
        "others have room for 8",
    )
    assert divide(Resources(1, "auto"), [Node(16, 1)], needs[1:]).notes == ()
    assert divide(Resources(1, "auto"), [Node(16, 2)], needs[:1] * 2).notes == ()


def test_a_retry_gets_twice_the_share_as_far_as_there_is() -> None:
    share = Share(1, 0.25, 4, Node(8, 1))
    assert share.bundle(1) == {"CPU": 1, "GPU": 0.25}
    assert share.bundle(2) == {"CPU": 2, "GPU": 0.5}
    assert Share(1, 0.66, 1, Node(8, 1)).bundle(2) == {"CPU": 2, "GPU": 1}
    assert Share(1, 0.66, 1, Node(8, 2)).bundle(2) == {"CPU": 2, "GPU": 1}
    assert Share(5, 1, 1, Node(8, 4)).bundle(2) == {"CPU": 8, "GPU": 2}
    assert Share(1, 0, 1, Node(1, 0)).bundle(2) == {"CPU": 1, "GPU": 0}


@pytest.mark.parametrize(("cpu", "threads"), [(0.5, 1), (1, 1), (1.9, 1), (2, 2), (4, 4)])
def test_a_thread_for_each_whole_cpu(cpu: float, threads: int) -> None:
    assert Share(cpu, 0, 1).threads == threads


def test_what_would_let_trials_use_a_gpu_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    shared, whole, alone = Share(1, 0.125, 8), Share(1, 1, 2), Share(1, 0.5, 1)
    assert not list(in_turns(shared))  # the driver has no such service
    (tmp_path / MPS).touch(0o755)
    (line,) = in_turns(shared)
    assert f"{MPS} -d" in line
    assert not list(in_turns(whole))
    assert not list(in_turns(alone))
    assert not list(in_turns(Share(1, 0, 8)))
    (tmp_path / "control").touch()  # it runs
    assert not list(in_turns(shared))
