"""Each optimizer against torch.optim itself, each schedule at its ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import assert_close
from torch import nn

from lstmcls.config import TrainConfig
from lstmcls.optimizer import learning_rate, make_optimizer

CASES: list[tuple[dict[str, Any], Any, dict[str, Any]]] = [
    ({"optimizer": "sgd"}, torch.optim.SGD, {}),
    (
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    ({"optimizer": "adam", "weight_decay": 0.1}, torch.optim.Adam, {"weight_decay": 0.1}),
    ({"optimizer": "adamw", "weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ({"optimizer": "adamw"}, torch.optim.AdamW, {"weight_decay": 0.0}),
    (
        {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.1},
        torch.optim.RMSprop,
        {"momentum": 0.5, "weight_decay": 0.1},
    ),
    ({"optimizer": "adagrad", "weight_decay": 0.1}, torch.optim.Adagrad, {"weight_decay": 0.1}),
]


def _steps(optimizer: torch.optim.Optimizer, layer: nn.Linear) -> list[torch.Tensor]:
    data = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1))
    for batch in data:
        optimizer.zero_grad()
        layer(batch).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in layer.parameters()]


@pytest.mark.parametrize(("fields", "reference", "options"), CASES)
def test_steps_are_those_of_torch(
    fields: dict[str, Any], reference: Any, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    before = [p.detach().clone() for p in ours.parameters()]
    found = _steps(make_optimizer(TrainConfig(lr=0.01, **fields), ours), ours)
    wanted = _steps(reference(theirs.parameters(), lr=0.01, **options), theirs)
    for start, mine, reference_value in zip(before, found, wanted, strict=True):
        assert_close(mine, reference_value)
        assert not torch.equal(mine, start)


def test_adagrad_is_fused_on_a_cpu_alone() -> None:
    config = TrainConfig(optimizer="adagrad")
    assert make_optimizer(config, nn.Linear(3, 2)).defaults["fused"] is True
    elsewhere = nn.Linear(3, 2, device="meta")  # as a GPU is, for all that can be asked of it here
    assert make_optimizer(config, elsewhere).defaults["fused"] is None


def _rates(total: int = 100, **fields: Any) -> list[float]:
    config = TrainConfig(lr=0.5, **fields)
    return [learning_rate(config, step, total) for step in range(total)]


def test_constant() -> None:
    assert set(_rates()) == {0.5}


def test_cosine_falls_from_lr_to_almost_nothing() -> None:
    rates = _rates(schedule="cosine")
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.001
    assert rates == sorted(rates, reverse=True)


def test_one_cycle_rises_to_lr_and_falls() -> None:
    rates = _rates(schedule="one_cycle")
    assert 0.5 / 25 < rates[0] < 0.05
    assert rates[30] == 0.5
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[-1] < 0.001


def test_one_cycle_peaks_where_warmup_ends() -> None:
    rates = _rates(schedule="one_cycle", warmup=0.1)
    assert rates.index(0.5) == 10


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warmup_rises_in_a_line_and_never_starts_at_zero(schedule: str) -> None:
    rates = _rates(schedule=schedule, warmup=0.1)
    assert rates[0] == pytest.approx(0.5 / 11)
    steps = [b - a for a, b in pairwise(rates[:11])]
    assert steps == pytest.approx([0.5 / 11] * 10)
    assert rates[10] == 0.5


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_runs_have_a_rate_above_zero(schedule: str, warmup: float, total: int) -> None:
    rates = _rates(total, schedule=schedule, warmup=warmup)
    assert all(0 < rate <= 0.5 for rate in rates)
