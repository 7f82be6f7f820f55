"""As many trials run concurrently as the nodes that are there have room for: they come and go."""

from __future__ import annotations

import time
from typing import Any

import ray.tune

from tune.searcher import Bridge

LOOK = 5.0  # seconds between two looks at the cluster's nodes


class FollowNodes(ray.tune.Callback):  # type: ignore[misc]
    """Keeps the room for trials up to date, and gives up trials whose place is gone for good."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._looked = time.monotonic()
        self._stranded: set[int] = set()  # at the last look nothing else ran

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as the Bridge: nobody reads Ray's snapshots

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        if time.monotonic() < self._looked + LOOK:
            return
        self._looked = time.monotonic()
        bridge, slots = self._bridge, self._bridge.slots
        fit = bridge.health.fit()
        room = max(1, bridge.health.room())  # Ray waits for a node where there is none
        if room != slots.room:
            bridge.listener.note(f"{len(fit)} nodes: {room} trials at once")
            slots.room = room
        self._release_stranded()

    def _release_stranded(self) -> None:
        """Ray would wait for the lost nodes for ever, and whoever is held back with it."""
        bridge, slots = self._bridge, self._bridge.slots
        stranded = {n for n, place in slots.places.items() if bridge.health.strands(place)}
        for number in stranded:
            slots.give_up(number)
        last = stranded if stranded == slots.shares.keys() else set()
        if last and last == self._stranded:
            bridge.stop.reason = bridge.stop.reason or "no node is left for the last trials"
        self._stranded = last
