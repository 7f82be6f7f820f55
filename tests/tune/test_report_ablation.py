"""The report's section on the four switches: what it shows, and where there is none."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial, TrialState, create_trial

from tune.ablation import SWITCHES, analyse, survivors, verdict
from tune.report.ablation import section
from tune.report.record import Record
from tune.run_folder import RunFolder
from tune.space import SearchSpace, load_space
from tune.tables import settings_table

RUN = RunFolder(Path("run"))


@pytest.fixture
def space() -> SearchSpace:
    return load_space("ablation")


def studied(space: SearchSpace, trials: int = 48) -> optuna.Study:
    """Trials whose value is 0.1 more with max_pooling, and less the later the seed; one failed."""
    study = optuna.create_study(direction="maximize")
    for number, point in enumerate(space.grid()[:trials]):
        asked = FixedTrial(point)
        space.suggest(asked)
        value = 0.7 + 0.1 * point["max_pooling"] - 0.01 * point["seed"]
        state = TrialState.FAIL if number == 3 else TrialState.COMPLETE
        shown = value if state == TrialState.COMPLETE else None
        study.add_trial(
            create_trial(state=state, value=shown, params=point, distributions=asked.distributions)
        )
    return study


def figures(text: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', text)
    return [json.loads(figure) for figure in found]


def test_the_section_shows_effects_walks_and_verdict(space: SearchSpace) -> None:
    study = studied(space)
    found = analyse(settings_table(space, study), space.objective)
    assert found is not None
    text = section(Record(RUN, space, study))
    assert text.startswith('<section id="which-switch-matters"><h2>')
    assert html.escape(verdict(found)) in text
    assert "From 47 trials in 16 settings" in text
    assert html.escape(survivors(found)) in text
    for switch in SWITCHES:
        row = rf"{switch}</th><td[^>]*>{re.escape(str(found.effects[switch]))}</td>"
        assert re.search(rf"{row}<td[^>]*>{re.escape(str(found.gains[switch]))}</td>", text)
    effects, walks = figures(text)
    names = [name for trace in effects["data"] for name in trace["y"]]
    assert len(names) == 10
    assert effects["data"][0]["y"][0] == "max_pooling"
    settings, walk = walks["data"][1:]
    assert len(settings["x"]) == 16
    assert walk["text"][:2] == ["plain", "+ max_pooling"]
    assert walk["error_y"]["array"][0] == pytest.approx(found.walk[0].value.half_width)
    edges = walks["data"][0]["x"]
    assert edges.count(None) == 32  # of the four-dimensional cube


def test_no_section_without_all_sixteen_settings(space: SearchSpace) -> None:
    assert section(Record(RUN, space, studied(space, trials=15))) == ""
    assert section(Record(RUN, space, optuna.create_study())) == ""
