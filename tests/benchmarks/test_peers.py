"""The peers search what we search."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution

from benchmarks.peers.space import suggest
from tune.space import load_space, parse_space


def test_the_peers_search_the_ranges_of_full_yaml_under_the_same_conditions() -> None:
    raw = load_space("full").to_dict()
    del raw["space"]["ngrams"]  # which time_to_quality.py leaves out too
    full = parse_space({**raw, "enqueue": []}, "full.yaml")
    for seed in range(200):
        drawn: list[dict[str, BaseDistribution]] = []
        for define in (suggest, full.suggest):
            trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
            define(trial)
            drawn.append(trial.distributions)
        assert drawn[0] == drawn[1]
