"""What the tests of tune/ share: a small space, reports without training, Ray's side of a trial."""

from __future__ import annotations

import math
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstmcls.config import TrainConfig
from lstmcls.metrics import OBJECTIVES
from tune.cluster import Member
from tune.health import Health
from tune.live import Display
from tune.recorder import StudyRecorder
from tune.resources import Node, Share
from tune.samplers import Samplers
from tune.searcher import Bridge, StudySearcher
from tune.sittings import Clock
from tune.space import SearchSpace, parse_space
from tune.stop import Stop
from tune.store import Store
from tune.study import (
    SEARCH,
    Suggest,
    ask,
    enqueue,
    finish,
    open_study,
    record_report,
    requeue_unfinished,
)

EPOCHS = 3  # a trial's, in the small space; a report after each

SMALL: dict[str, Any] = {
    "space": {
        "optimizer": {"categorical": ["sgd", "adam"]},
        "lr": {"float": [1e-3, 1], "log": True},
        "momentum": {"float": [0, 0.9], "when": {"optimizer": "sgd"}},
        "hidden_size": {"int": [8, 64], "step": 8},
    },
    "fixed": {"epochs": EPOCHS, "report_every": 1, "first_report": 1},
}
PLAIN: dict[str, Any] = {  # without conditions and categories, which not all samplers model
    "lr": {"float": [1e-3, 1], "log": True},
    "dropout": {"float": [0, 0.9]},
    "hidden_size": {"int": [8, 64], "step": 8},
}


def in_memory() -> Iterator[Path]:
    """For a fixture: a folder in memory, where the system has one; a sync costs nothing there."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def small_space(**sections: Any) -> SearchSpace:
    return parse_space({**SMALL, "sampler": "random", **sections}, "small.yaml")


def a_report(step: int, objective: float, epoch: float | None = None) -> dict[str, Any]:
    """A report as the driver gets it from a worker."""
    return {
        "step": step,
        "epoch": float(step) if epoch is None else epoch,
        "objective": objective,
        "train_loss": 1 / step,
        **dict.fromkeys(OBJECTIVES, objective),
        "tokens": 100 * step,
        "seconds": 0.5 * step,
    }


def score(config: TrainConfig) -> float:
    """A made-up objective that a sampler can climb."""
    distance = abs(math.log10(config.lr) + 2) + abs(config.hidden_size - 40) / 40 + config.dropout
    return round(1 / (1 + distance), 6)


def opened(journal: Path, space: SearchSpace) -> optuna.Study:
    """The search study, as a sitting finds it: points enqueued, unfinished trials in the queue."""
    study = open_study(journal, SEARCH, space.objective)
    enqueue(study, space.grid() if space.sampler.name == "grid" else space.enqueue)
    requeue_unfinished(study)
    return study


def asked(study: optuna.Study, space: SearchSpace, trials: int | None) -> Any:
    samplers = Samplers(space, study, print)
    found = ask(study, space.suggest, samplers, trials)
    while found is None and samplers.at_work():
        found = ask(study, space.suggest, samplers, trials)
    return found


def drive(journal: Path, space: SearchSpace, trials: int, *, die_in: int = -1) -> list[dict]:
    """One sitting, a trial at a time, to `trials` or to the death of its driver in a trial.

    Returns the parameters of all trials so far.
    """
    study = opened(journal, space)
    while (found := asked(study, space, trials)) is not None:
        trial, config = found
        record_report(study, trial, a_report(1, score(config) / 2))
        if trial.number == die_in:
            break
        record_report(study, trial, a_report(2, score(config)))
        finish(study, trial.number, TrialState.COMPLETE, "trained to the end", score(config))
    return [dict(trial.params) for trial in study.get_trials()]


def finished(
    study: optuna.Study,
    suggest: Suggest,
    objectives: list[float],
    state: TrialState = TrialState.COMPLETE,
    why: str = "it ended",
    **params: Any,
) -> FrozenTrial:
    """A trial of these reports, asked for and ended as a search does it."""
    if params:
        study.enqueue_trial(params)
    found = ask(study, suggest, lambda number: optuna.samplers.RandomSampler(number), None)
    assert found is not None
    trial, _ = found
    for step, objective in enumerate(objectives, start=1):
        record_report(study, trial, a_report(step, objective))
    known = [value for value in objectives if value == value]
    best = (max if study.direction.name == "MAXIMIZE" else min)(known) if known else None
    finish(study, trial.number, state, why, best if state == TrialState.COMPLETE else None)
    return study.get_trials()[trial.number]


@dataclass
class RayTrial:
    """As much of Ray's Trial as the recorder looks at."""

    config: dict[str, Any]
    last_result: dict[str, Any] = field(default_factory=dict)
    error_file: str | None = None

    @property
    def node_ip(self) -> str | None:
        return self.last_result.get("node_ip")


class Nodes:
    """A cluster of nodes that answer at an address of their own, until they are lost."""

    def __init__(self, count: int = 1, cpus: float = 4) -> None:
        self.cpus = cpus
        self._listening: dict[str, socket.socket] = {}
        self._members: dict[str, Member] = {}
        for _ in range(count):
            self.join()

    def join(self, cpus: float | None = None) -> str:
        """The address of a new node."""
        listening = socket.socket()
        address = f"127.0.0.{len(self._listening) + 1}"
        listening.bind((address, 0))
        listening.listen()
        self._listening[address] = listening
        self._members[address] = Member(
            f"id-of-{address}", address, listening.getsockname()[1], Node(cpus or self.cpus, 0)
        )
        return address

    def lose(self, address: str) -> None:
        """It answers no more; Ray has not noticed yet."""
        self._listening[address].close()

    def forget(self, address: str) -> None:
        """Ray has noticed that it is lost."""
        self.lose(address)
        del self._members[address]

    def living(self) -> list[Member]:
        return list(self._members.values())


class Heard:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def started(self, number: int, config: TrainConfig) -> None:
        self.events.append(("started", number))

    def reported(self, number: int, report: dict[str, Any]) -> None:
        self.events.append(("reported", number, report["step"]))

    def finished(self, number: int, state: TrialState, why: str) -> None:
        self.events.append(("finished", number, state.name, why))

    def retried(self, number: int, why: str) -> None:
        self.events.append(("retried", number, why))

    def note(self, text: str) -> None:
        self.events.append(("note", text))

    def tick(self) -> None:
        self.events.append(("tick",))


class Driver:
    """One sitting without Ray: its bridge, and what Ray would call as trials go by."""

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        *,
        trials: int | None = None,
        target: float | None = None,
        keep_all_weights: bool = False,
        nodes: Nodes | None = None,
        largest: float | None = None,
    ) -> None:
        self.space = space
        self.nodes = nodes or Nodes()
        self.study = opened(folder / "study.journal", space)
        self.heard = Heard()
        self.stop = Stop(space.objective, target=target)
        samplers = Samplers(space, self.study, self.heard.note)
        self.bridge = Bridge(
            study=self.study,
            objective=space.objective,
            suggest=space.suggest,
            sampler=samplers,
            at_work=samplers.at_work,
            trials=space.budget.trials if trials is None else trials,
            listener=self.heard,
            stop=self.stop,
            checkpoints=Store(str(folder / "checkpoints")),
            clock=Clock([self.study], time.monotonic()),
            health=Health(Share(1, 0, 4, Node(largest or self.nodes.cpus, 0)), self.nodes.living),
            keep_all_weights=keep_all_weights,
        )
        self.checkpoints = folder / "checkpoints"
        self.searcher = StudySearcher(self.bridge)
        self.recorder = StudyRecorder(self.bridge)

    def start(self, address: str = "127.0.0.1") -> RayTrial:
        """A trial that the searcher suggests, on a worker of the node at `address`."""
        order = self.searcher.suggest("some-id")
        assert isinstance(order, dict), order
        return self.begin(order, address)

    def begin(self, order: dict[str, Any], address: str = "127.0.0.1") -> RayTrial:
        trial = RayTrial(order, {"node_ip": address})
        self.recorder.on_trial_start(0, [], trial)
        return trial

    def report(self, trial: RayTrial, objective: float, step: int | None = None) -> None:
        """The worker saves weights and a checkpoint, then reports."""
        folder = Path(str(self.bridge.folder(trial.config["number"])))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "best-000001.safetensors").touch()
        (folder / "000001.pt").touch()
        step = step or trial.last_result.get("step", trial.config["recorded"]) + 1
        result = {**a_report(step, objective), "note": "", "node_ip": trial.node_ip}
        trial.last_result = result
        self.recorder.on_trial_result(0, [], trial, result)

    def complete(self, trial: RayTrial) -> None:
        """The training function returned, or a scheduler stopped it."""
        self.recorder.on_trial_complete(0, [], trial)

    def fail(self, trial: RayTrial, kind: str, why: str = "so it is") -> None:
        result = {"failure": kind, "why": why, "objective": math.nan, "epoch": 0.0}
        result["node_ip"] = trial.node_ip
        self.recorder.on_trial_result(0, [], trial, {**result, "traceback": "Traceback"})
        trial.last_result = result
        self.recorder.on_trial_complete(0, [], trial)

    def die(self, trial: RayTrial, error: str = "The actor died unexpectedly") -> None:
        path = self.checkpoints.parent / "error.txt"
        path.write_text(f"Failure # 1\n{error}\n", encoding="utf-8")
        trial.error_file = str(path)
        self.recorder.on_trial_error(0, [], trial)

    def train(self, trial: RayTrial, *objectives: float) -> None:
        for objective in objectives:
            self.report(trial, objective)
        self.complete(trial)

    def frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials()[number]

    def kept(self) -> set[int]:
        """The trials whose weights are there."""
        found = self.checkpoints.glob(f"{SEARCH}-*/best-*.safetensors")
        return {int(path.parent.name.split("-")[1]) for path in found}

    def left(self, number: int) -> set[str]:
        """What is in a trial's folder."""
        return set(self.bridge.folder(number).names())


class Told(Display):
    """A display that shows nothing and keeps what it is asked to note."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, quiet=True)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
