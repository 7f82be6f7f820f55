"""Which nodes are lost or unfit, and where a trial may run; the nodes are real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from conftest import HANG
from fakes import Nodes

from tune.cluster import Member, start_ray
from tune.health import ANSWER, KNOWN, STRIKES, Health, placement
from tune.queue import Place
from tune.resources import Node, Share

ONE, TWO, THREE = (f"127.0.0.{number}" for number in (1, 2, 3))


def health(nodes: Nodes) -> Health:
    return Health(Share(1, 0, 4, Node(4, 0)), nodes.living)


def test_a_node_that_answers_is_not_lost() -> None:
    nodes = Nodes(2)
    found = health(nodes)
    assert not found.lost(ONE)
    nodes.lose(ONE)
    assert found.lost(ONE)
    assert not found.lost(TWO)
    nodes.forget(TWO)
    assert found.lost(TWO)
    assert found.lost("127.0.0.99")  # long forgotten by Ray


def test_where_nothing_is_known_any_lost_node_will_do() -> None:
    nodes = Nodes(2)
    found = health(nodes)
    assert not found.lost(None)
    nodes.lose(TWO)
    assert found.lost(None)


def test_a_lost_node_is_not_asked_for_each_of_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, asked, now = Nodes(1), [], [100.0]
    connect = socket.create_connection
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(socket, "create_connection", lambda *to: asked.append(to) or connect(*to))
    found = health(nodes)
    assert not found.lost(ONE)
    nodes.lose(ONE)
    for _ in range(64):
        assert found.lost(ONE)  # though it answered a moment ago
    assert len(asked) == 2
    assert {timeout for _, timeout in asked} == {ANSWER}
    now[0] += KNOWN
    assert found.lost(ONE)
    assert len(asked) == 3


def test_places() -> None:
    nodes = Nodes(2)
    small = nodes.join(cpus=1)
    too_small = nodes.join(cpus=0.5)
    found = health(nodes)
    assert found.place() == Place()
    assert found.place(2) == Place(2, 2)
    assert found.place(2, [ONE]) == Place(2, 2, (f"id-of-{ONE}",))
    assert found.place(2, [ONE, TWO]) == Place(1, 1, (f"id-of-{ONE}", f"id-of-{TWO}"))
    assert found.place(1, [ONE, TWO, small]) == Place()  # it has been everywhere
    assert found.others([ONE, TWO])
    assert not found.others([ONE, TWO, small])
    assert not found.strands(Place(2, 2, (f"id-of-{ONE}",)))
    nodes.forget(TWO)
    assert found.strands(Place(2, 2, (f"id-of-{ONE}",)))
    assert not found.strands(Place(1, 1, (f"id-of-{ONE}",)))
    for address in (ONE, small):
        nodes.forget(address)
    assert [member.address for member in nodes.living()] == [too_small]
    assert not found.strands(Place())  # where no trial has a place, all wait for a node


def test_on_one_node_two_shares_are_one_trial_less_beside_it() -> None:
    """Its place is then of the usual kind, and Ray gives it a worker that is there."""
    assert health(Nodes(1)).place(2) == Place(2, 1)
    two_gpus = Member("a", ONE, 1, Node(4, 2))
    assert Health(Share(1, 0.5, 4, Node(4, 2)), lambda: [two_gpus]).place(2) == Place(2, 2)
    half = Member("a", ONE, 1, Node(4, 1))
    assert Health(Share(1, 0.5, 2, Node(4, 1)), lambda: [half]).place(2) == Place(2, 1)


def test_an_unfit_node_is_left_out_while_there_are_others() -> None:
    nodes = Nodes(2)
    found = health(nodes)
    found.condemn(ONE)
    assert found.place() == Place(1, 1, (f"id-of-{ONE}",))
    assert found.room() == 4
    assert not found.others([TWO])
    nodes.forget(TWO)
    assert found.place() == Place()
    assert found.room() == 4


def test_strikes_are_those_in_a_row() -> None:
    found = health(Nodes(3))
    for _ in range(3 * STRIKES):
        assert found.went_well(TWO, [ONE]) == []
        assert found.went_well(ONE, []) == []  # a report from there
    for _ in range(STRIKES - 1):
        assert found.went_well(TWO, [ONE]) == []
    assert found.went_well(THREE, [ONE]) == [ONE]
    assert found.went_well(THREE, [ONE]) == []  # it is known


@pytest.fixture
def one_node() -> Iterator[Any]:
    start_ray(None)
    yield ray.nodes()[0]
    ray.shutdown()


def test_ray_keeps_a_trial_away_from_nodes(one_node: Any) -> None:
    """By a label that it gives each node itself."""
    share = Share(1, 0, 1, Node(1, 0))
    assert placement(share, 1, []) == placement(share, 1, ())
    assert placement(share, 1, []) != placement(share, 1, ["a"])
    away = placement(share, 1, [one_node["NodeID"], "another"]).to_placement_group()
    anywhere = placement(share, 1, ["another"]).to_placement_group()
    assert anywhere.wait(HANG)
    assert not away.wait(2)
