"""One study's trials through Ray Tune, from the first to the last or to a stop."""

from __future__ import annotations

from contextlib import suppress

import ray.tune
from ray.tune.search import ConcurrencyLimiter

from lstmcls.folds import Folds
from tune.follow import FollowNodes
from tune.health import placement
from tune.recorder import StudyRecorder
from tune.resources import Share
from tune.scheduler import StudyASHA
from tune.scratch import scratch_folder
from tune.searcher import Bridge, StudySearcher
from tune.study import requeue_running
from tune.trial import Order, train_trial

MOST_TRIALS = 10**9  # Ray wants a number; the study says when there are no more


def run_trials(
    bridge: Bridge, order: Order, data: Folds, share: Share, scheduler: StudyASHA | None
) -> None:
    """Run the trials that `bridge` asks for, as many at once as the nodes have room for.

    `data` goes to the object store once and is mapped by every worker. A trial that a stop cut
    short goes back to WAITING: the next sitting resumes it.
    """
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(train_trial, data=data, order=order),
        lambda spec: placement(share, spec["bundle"], spec["apart"]),
    )
    limiter = ConcurrencyLimiter(StudySearcher(bridge), share.concurrency)
    try:
        # Ray wants a folder for its own snapshots; nothing is ever read from it.
        with scratch_folder() as scratch, bridge.stop.on_signals():
            ray.tune.Tuner(
                trainable,
                tune_config=ray.tune.TuneConfig(
                    search_alg=limiter,
                    scheduler=scheduler,
                    num_samples=MOST_TRIALS,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: f"trial-{trial.trial_id}",
                    trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
                ),
                run_config=ray.tune.RunConfig(
                    name="run",
                    storage_path=str(scratch),
                    stop=bridge.stop,
                    callbacks=[StudyRecorder(bridge), FollowNodes(bridge)],
                    verbose=0,
                    progress_reporter=ray.tune.CLIReporter(),  # a notebook's would clear the cell
                ),
            ).fit()
    finally:
        _settle(bridge)


def _settle(bridge: Bridge) -> None:
    stop = bridge.stop
    if stop.interrupted is not None or stop.fault is not None or stop.reason is None:
        with suppress(OSError):  # a full disk; the next sitting puts them back
            requeue_running(bridge.study)
        return
    bridge.cut(stop.reason)
