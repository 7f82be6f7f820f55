"""The nodes while a search runs: they come and go, are lost, or prove unfit.

Nothing here outlives the sitting: at a resume a node that was repaired is one like any other.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import ray.tune
from ray.util.placement_group import NODE_ID_LABEL_KEY

from tune.cluster import Member, members
from tune.queue import Place
from tune.resources import Node, Share

ANSWER = 2.0  # seconds in which a living node answers
KNOWN = 30.0  # seconds for which a lost node is known to be lost
STRIKES = 2  # trials that failed on a node and then reported elsewhere: the node is unfit


class Health:
    """Which nodes are lost or unfit, and where a trial may run. A node is named by its address."""

    def __init__(self, share: Share, living: Callable[[], list[Member]] = members) -> None:
        self._share, self._living = share, living
        self._unfit: set[str] = set()
        self._strikes: Counter[str] = Counter()
        self._lost: dict[str, float] = {}  # since when

    def lost(self, address: str | None) -> bool:
        """Whether the node no longer answers, which Ray itself notices a minute later.

        None, for a trial that never started anywhere: whether any node no longer answers.
        """
        if address is None:
            return any(self.lost(member.address) for member in self._living())
        if time.monotonic() < self._lost.get(address, -KNOWN) + KNOWN:
            return True
        ports = [member.port for member in self._living() if member.address == address]
        if ports and all(_answers(address, port) for port in ports):
            return False
        self._lost[address] = time.monotonic()
        return True

    def fit(self) -> list[Member]:
        """The living nodes with room for a trial that are not unfit; all of them, if all are."""
        roomy = self._roomy()
        return [member for member in roomy if member.address not in self._unfit] or roomy

    def room(self) -> int:
        """How many trials run concurrently on the nodes that are fit."""
        return self._share.at_once([member.node for member in self.fit()])

    def others(self, failed_on: Collection[str]) -> bool:
        """Whether there is a fit node on which a trial that failed on these has not been."""
        return any(member.address not in failed_on for member in self.fit())

    def condemn(self, address: str) -> None:
        """The node gets no more trials while there are others."""
        self._unfit.add(address)

    def went_well(self, address: str, failed_on: Iterable[str]) -> list[str]:
        """A trial that failed elsewhere reports from `address`: which nodes that proves unfit."""
        self._strikes.pop(address, None)
        suspects = {*failed_on} - self._unfit - {address}
        self._strikes.update(suspects)
        unfit = sorted(node for node in suspects if self._strikes[node] >= STRIKES)
        self._unfit.update(unfit)
        return unfit

    def place(self, shares: int = 1, failed_on: Collection[str] = ()) -> Place:
        """Where a trial may run: with so many shares and elsewhere, if the living nodes allow."""
        roomy = self._roomy()
        fit = [member for member in roomy if member.address not in self._unfit] or roomy
        wanted = [member for member in fit if member.address not in failed_on] or fit
        if not any(self._holds(member.node, shares) for member in wanted):
            shares = 1
        apart = {member.id for member in roomy} - {member.id for member in wanted}
        # Where all run side by side it is enough that fewer do. It can then take over a worker.
        alone = len(roomy) == 1 and roomy[0].node.gpus <= 1
        return Place(shares, 1 if alone else shares, tuple(sorted(apart)))

    def strands(self, place: Place) -> bool:
        """Whether no living node can be that place, though there are some for other trials."""
        roomy = self._roomy()
        able = [m for m in roomy if m.id not in place.apart and self._holds(m.node, place.bundle)]
        return bool(roomy) and not able

    def _roomy(self) -> list[Member]:
        return [member for member in self._living() if self._share.fit(member.node)]

    def _holds(self, node: Node, shares: int) -> bool:
        bundle = self._share.bundle(shares)
        return node.cpus >= bundle["CPU"] and node.gpus >= bundle["GPU"]


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), ANSWER).close()
    except OSError:
        return False
    return True


def placement(share: Share, bundle: int, apart: Sequence[str]) -> ray.tune.PlacementGroupFactory:
    """The order to Ray for a place of `bundle` shares, on none of the nodes `apart` (their ids)."""
    elsewhere = [{NODE_ID_LABEL_KEY: f"!in({','.join(apart)})"}]
    where = {"bundle_label_selector": elsewhere} if apart else {}
    return ray.tune.PlacementGroupFactory([share.bundle(bundle)], **where)
