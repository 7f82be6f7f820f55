"""What becomes of a trial that failed, and when failures end the search itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tune.trial import (
    DIED,
    DISK_FULL,
    NODE_LOST,
    NOT_SHARED,
    OUT_OF_MEMORY,
    RAISED,
    STORE_FAILS,
)

MAX_FAILURES = 2  # times that a trial whose worker died is tried again
MAX_LOSSES = 10  # the same where its whole node was lost: seldom the trial's doing
STREAK = 10  # failures in a row, without a report from any trial, that end the search

OWNER_DIED = "owner has died"  # how Ray says that the driver's own node is gone


class Fate(Enum):
    AGAIN = "again"
    FAIL = "fail"
    STOP = "stop"  # the search itself: no trial could do better


@dataclass(frozen=True)
class Verdict:
    """What to do about a failure; `then` is how it goes on, for people."""

    fate: Fate
    then: str = ""
    marks: Mapping[str, Any] = field(default_factory=dict)  # attributes to set on the trial
    counted: str | None = "attempts"  # the attribute that counts the failure
    unfit: bool = False  # the node gets no more trials


def judge(kind: str, attributes: Mapping[str, Any], address: str | None, others: bool) -> Verdict:
    """Try again what may go better the next time.

    Args:
        attributes: the trial's.
        address: of the node where it failed.
        others: whether a trial can run on another node than those where this one failed.
    """
    failed_on = list(attributes.get("failed_on", []))
    moves = {"failed_on": [*failed_on, address]} if address and others else {}
    if kind == DISK_FULL and others:
        return Verdict(Fate.AGAIN, "goes on elsewhere", moves, None, unfit=True)
    if kind in (DISK_FULL, NOT_SHARED, STORE_FAILS):
        return Verdict(Fate.STOP)
    if kind == OUT_OF_MEMORY and attributes.get("share", 1) == 1:
        return Verdict(Fate.AGAIN, "tried again with twice the resources", {"share": 2})
    if kind == DIED and attributes.get("attempts", 1) <= MAX_FAILURES:
        return Verdict(Fate.AGAIN, "tried again", moves)
    if kind == NODE_LOST and attributes.get("losses", 0) < MAX_LOSSES:
        return Verdict(Fate.AGAIN, "goes on elsewhere", counted="losses")
    if kind == RAISED and moves and not failed_on:
        return Verdict(Fate.AGAIN, "tried again on another node", moves)
    return Verdict(Fate.FAIL)


class Streak:
    """Failures in a row without a report from any trial: the fault is then nobody's alone."""

    def __init__(self) -> None:
        self._count = 0

    def reported(self) -> None:
        self._count = 0

    def failed(self, kind: str, fate: Fate, room: float) -> int:
        """How many that makes, if they are too many, or else 0.

        Where `room` trials run concurrently many may fail before the first report comes. A lost
        node is no sign of a common fault, though all its trials fail together; nor is a trial
        that is too large, until it has failed with more memory too.
        """
        self._count += kind != NODE_LOST and (kind, fate) != (OUT_OF_MEMORY, Fate.AGAIN)
        return self._count if self._count >= max(STREAK, 2 * room) else 0


def death(error: str) -> str:
    """The kind of failure of a worker that died, from what Ray says: OUT_OF_MEMORY or DIED."""
    killed_for_memory = "OutOfMemory" in error or "running low on memory" in error
    return OUT_OF_MEMORY if killed_for_memory else DIED
