"""Which switch matters: known effects are found again, and the intervals keep their word."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lstmcls.config import TrainConfig, config_from
from tune.ablation import (
    SUBSETS,
    SWITCHES,
    Ablation,
    Switches,
    ablation_text,
    analyse,
    fit,
    survivors,
    verdict,
)
from tune.space import Objective

ACCURACY = Objective("val_accuracy", "max")
PAIRS = list(itertools.combinations(SWITCHES, 2))
# Value = 0.7 + the sum of those coefficients whose switches are all on.
KNOWN = {("max_pooling",): 0.1, ("bidirectional",): 0.02, ("dropout", "max_pooling"): 0.03}


def known(on: Switches) -> float:
    return 0.7 + sum(value for switches, value in KNOWN.items() if on.issuperset(switches))


def table(
    value: Callable[[Switches], float], noise: float = 0.0, seeds: int = 3, draws: int = 7
) -> pd.DataFrame:
    """The trials of an ablation, `noise` the standard deviation between seeds."""
    draw = np.random.default_rng(draws)
    rows = []
    for seed, on in itertools.product(range(seeds), SUBSETS):
        switches = {switch: switch in on for switch in SWITCHES}
        config = config_from({**switches, "dropout": 0.5 * ("dropout" in on)})
        drawn = value(on) + noise * draw.standard_normal()
        rows.append({**config.to_dict(), "seed": seed, "variant": config.variant, "value": drawn})
    return pd.DataFrame(rows)


def analysed(trials: pd.DataFrame, objective: Objective = ACCURACY) -> Ablation:
    found = analyse(trials, objective)
    assert found is not None
    return found


def estimates(found: Ablation) -> dict[str, tuple[float, float]]:
    named = {**found.effects, **{"+".join(pair): e for pair, e in found.interactions.items()}}
    named |= {f"gain {switch}": e for switch, e in found.gains.items()}
    return {name: (e.value, e.half_width) for name, e in named.items()}


# Effects.


@pytest.mark.parametrize("seeds", [1, 3])
def test_known_effects_are_found_exactly(seeds: int) -> None:
    found = analysed(table(known, seeds=seeds))
    # The interaction counts for half of a switch's mean, and half of itself as an interaction.
    effects = {"max_pooling": 0.115, "bidirectional": 0.02, "dropout": 0.015, "zero_state": 0}
    assert {s: e.value for s, e in found.effects.items()} == pytest.approx(effects)
    assert list(found.effects) == list(effects)
    pairs = {pair: 0.015 * (pair == ("dropout", "max_pooling")) for pair in PAIRS}
    assert {p: e.value for p, e in found.interactions.items()} == pytest.approx(pairs)
    assert found.trials == 16 * seeds
    told = [switch for switch, effect in found.effects.items() if effect.told]
    assert told == ["max_pooling", "bidirectional", "dropout"]  # not what rounding left of 0


def test_the_textbooks_contrasts_and_standard_error() -> None:
    """Box, Hunter & Hunter: mean on less mean off; s times 2 / sqrt(trials)."""
    trials = table(known, noise=0.01)
    found = analysed(trials)
    cells = trials.groupby(list(SWITCHES)).value
    deviation = math.sqrt(cells.var().mean())
    assert found.fit.deviation == pytest.approx(deviation)
    assert found.fit.freedom == 32
    half = 2.036933 * deviation * 2 / math.sqrt(48)  # t at 97.5 % with 32 degrees of freedom
    for switch, effect in found.effects.items():
        on = trials[switch] > 0
        assert effect.value == pytest.approx(trials.value[on].mean() - trials.value[~on].mean())
        assert effect.half_width == pytest.approx(half)
    assert found.walk[0].value.half_width == pytest.approx(2.036933 * deviation / math.sqrt(3))


def test_one_seed_takes_the_high_interactions_for_noise() -> None:
    trials = table(known, noise=0.01, seeds=1)
    found = analysed(trials)
    assert (found.fit.replicated, found.fit.freedom) == (False, 5)
    signs = np.where(trials[[*SWITCHES]].to_numpy(float) > 0, 1, -1)
    high = [term for size in (3, 4) for term in itertools.combinations(range(4), size)]
    effects = [signs[:, term].prod(axis=1) @ trials.value / 8 for term in high]
    error = math.sqrt(np.mean(np.square(effects)))
    assert found.effects["dropout"].half_width == pytest.approx(2.570582 * error)


def test_three_switches_together_are_found_where_there_are_seeds() -> None:
    three = {"bidirectional", "dropout", "max_pooling"}
    found = analysed(table(lambda on: 0.24 * (on >= three), seeds=2))
    assert found.effects["dropout"].value == pytest.approx(0.06)
    gains = {switch: 0.08 * (switch in three) for switch in SWITCHES}
    assert {s: e.value for s, e in found.gains.items()} == pytest.approx(gains)


def test_unequal_settings_give_the_means_of_means() -> None:
    trials = table(known, noise=0.01)
    trials.loc[[5, 6, 21], "value"] = math.nan  # two trials of one setting, one of another
    found = analysed(trials)
    assert (found.trials, found.failed, found.fit.freedom) == (45, 3, 29)
    settings = trials.groupby([*SWITCHES]).value.mean()
    means = settings.groupby("max_pooling").mean()
    assert found.effects["max_pooling"].value == pytest.approx(means[True] - means[False])


@pytest.mark.parametrize("seeds", [1, 3])
def test_settings_that_all_failed_are_made_up_for(seeds: int) -> None:
    trials = table(known, seeds=seeds)
    lost = (
        trials[[*SWITCHES]]
        .apply(tuple, axis=1)
        .isin([(True, 0.5, True, True), (False, 0, True, False)])
    )
    trials.loc[lost, "value"] = math.nan
    found = analysed(trials)
    assert found.effects["max_pooling"].value == pytest.approx(0.115)
    assert found.walk[-1].value.value == pytest.approx(known(frozenset(SWITCHES)))


def test_nothing_is_said_where_too_much_failed() -> None:
    trials = table(known)
    trials.loc[trials.zero_state & trials.bidirectional, "value"] = math.nan
    assert analyse(trials, ACCURACY) is None
    assert fit(list(SUBSETS[:11]), np.arange(11.0)) is None  # no degree of freedom left


def test_the_order_of_trials_means_nothing() -> None:
    trials = table(known, noise=0.01)
    shuffled = trials.sample(frac=1, random_state=3)
    assert estimates(analysed(shuffled)) == {
        name: pytest.approx(figures) for name, figures in estimates(analysed(trials)).items()
    }


def test_the_names_of_switches_mean_nothing() -> None:
    trials = table(known, noise=0.01)
    swapped = trials.rename(
        columns={"bidirectional": "max_pooling", "max_pooling": "bidirectional"}
    )
    one, other = analysed(trials), analysed(swapped)
    assert other.gains["bidirectional"].value == pytest.approx(one.gains["max_pooling"].value)
    pair, same = ("bidirectional", "dropout"), ("dropout", "max_pooling")
    assert other.interactions[pair].value == pytest.approx(one.interactions[same].value)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    settings = SUBSETS * 2
    truth = np.array([known(on) for on in settings])
    exact = fit(settings, truth)
    assert exact is not None
    contrasts = [exact.effect(s) for s in SWITCHES] + [exact.effect(*pair) for pair in PAIRS]
    contrasts += [exact.gain("dropout", frozenset()), exact.setting(frozenset(SWITCHES))]
    values = [exact.estimate(contrast).value for contrast in contrasts]
    hits = []
    for _ in range(300):
        noisy = fit(settings, truth + draw.normal(0, 0.01, len(truth)))
        assert noisy is not None
        found = [noisy.estimate(contrast) for contrast in contrasts]
        hits += [abs(e.value - v) < e.half_width for e, v in zip(found, values, strict=True)]
    assert 0.94 < np.mean(hits) < 0.96


# The walks.


def test_the_gains_add_up_to_the_whole_way() -> None:
    found = analysed(table(known, noise=0.02))
    total = sum(gain.value for gain in found.gains.values())
    assert total == pytest.approx(found.walk[-1].value.value - found.walk[0].value.value)


def test_the_best_walk_takes_the_largest_gain_at_every_step() -> None:
    # Dropout gains 0.03 once max_pooling is on, and nothing before.
    walk = analysed(table(known)).walk
    assert [step.switch for step in walk[:4]] == [None, "max_pooling", "dropout", "bidirectional"]
    assert [step.value.value for step in walk] == pytest.approx([0.7, 0.8, 0.83, 0.85, 0.85])
    gains = [step.gain.value for step in walk if step.gain]
    assert gains == pytest.approx([0.1, 0.03, 0.02, 0.0])


def test_where_less_is_better_the_walk_goes_down() -> None:
    loss = Objective("val_loss", "min")
    found = analysed(table(lambda on: -known(on), noise=1e-3), loss)
    assert [step.switch for step in found.walk[1:4]] == ["max_pooling", "dropout", "bidirectional"]
    assert next(iter(found.effects)) == "max_pooling"
    assert verdict(found).startswith(
        "max_pooling matters most: over all settings of the others it improves val_loss by 0.11"
    )


# Which searches are an ablation.


def test_other_searches_are_none() -> None:
    assert analyse(pd.DataFrame(columns=["value", *TrainConfig().to_dict()]), ACCURACY) is None
    trials = table(known)
    assert analyse(trials[trials.variant != "improved"], ACCURACY) is None
    assert analyse(trials.assign(lr=np.linspace(0.1, 1, len(trials))), ACCURACY) is None
    rates = trials.dropout.where(trials.seed > 0, trials.dropout / 2)
    assert analyse(trials.assign(dropout=rates), ACCURACY) is None


# The words.


def test_the_verdict_names_the_change_that_matters() -> None:
    found = analysed(table(known, noise=0.003))
    said = verdict(found)
    assert said.startswith("max_pooling matters most: over all settings of the others it improves")
    assert f"val_accuracy by {found.effects['max_pooling'].value:.4f} ± " in said
    assert "bidirectional improves it by 0.0" in said
    assert "Whether zero_state changes it these trials cannot tell" in said
    assert said.endswith("What one does depends on the other: dropout with max_pooling.")


def test_the_verdict_says_when_the_intervals_cannot_tell() -> None:
    nothing = analysed(table(lambda on: 0.5, noise=0.01, draws=8))
    half = nothing.effects["dropout"].half_width
    assert verdict(nothing) == (
        "No switch's effect on val_accuracy can be told from 0: the intervals are "
        f"± {half:.4f}, and more seeds would narrow them."
    )
    rivals = analysed(
        table(lambda on: 0.1 * ("dropout" in on) - 0.1 * ("zero_state" in on), noise=0.01)
    )
    said = verdict(rivals)
    assert "has the largest effect: over all settings of the others it" in said
    assert "matters as much the intervals cannot tell" in said
    assert "worsens" in said


def test_it_is_said_whom_the_figures_leave_out() -> None:
    """A switch that makes training diverge is judged by its survivors."""
    trials = table(known, noise=0.003)
    assert survivors(analysed(trials)) == ""
    lost = trials.index[trials.bidirectional & ~trials.max_pooling][:3]
    trials.loc[lost, "value"] = math.nan
    found = analysed(trials)
    assert (found.failed, found.failed_on["bidirectional"], found.failed_on["max_pooling"]) == (
        3, 3, 0,
    )  # fmt: skip
    said = survivors(found)
    assert said.startswith("3 trials have no value")
    assert "which flatters it" in said
    assert "bidirectional 3 on, 0 off" in said
    assert "max_pooling 0 on, 3 off" in said
    assert " ".join(said.split()) in " ".join(ablation_text(found).split())
    trials.loc[lost[1:], "value"] = 0.7
    assert survivors(analysed(trials)).startswith("1 trial has no value")


def test_the_best_walk_says_that_it_flatters() -> None:
    text = " ".join(ablation_text(analysed(table(known, noise=0.003))).split())
    walk = text[text.index("the best walk: ") :]
    assert "(chosen and judged by the same figures: it flatters)" in walk


def test_the_text_has_every_figure_in_80_columns() -> None:
    found = analysed(table(known, noise=0.003))
    text = ablation_text(found)
    assert max(map(len, text.splitlines())) <= 80
    for switch in SWITCHES:
        assert f"{found.effects[switch]}" in text
        assert f"{found.gains[switch]}" in text
    assert f"dropout with max_pooling: {found.interactions['dropout', 'max_pooling']}" in text
    assert f"plain {found.walk[0].value.value:.4f}±" in text
    assert "variance between the seeds of a setting" in " ".join(text.split())
    one = ablation_text(analysed(table(known, noise=0.003, seeds=1)))
    assert "for want of a second seed" in " ".join(one.split())
