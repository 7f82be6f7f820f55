"""Which of the four switches matters: a full factorial experiment, analysed.

A switch is coded -1 (off) or +1 (on), and the 16 settings are a 2^4 factorial with the seeds as
replicates (Box, Hunter & Hunter, Statistics for Experimenters, 2nd ed. 2005, ch. 5). A switch's
effect is the mean where it is on less the mean where it is off; an interaction is half of what
turning one switch on adds to the other's effect. Both are twice a coefficient of a least-squares
fit, which for equally many trials a setting gives exactly the textbook's contrasts.

The noise is the variance between the seeds of a setting, taken to be the same in all settings
and pooled; intervals are Student's t, each by itself. Interactions of three and four switches are
left out of the fit where a setting has no value, or none has a second one; in the latter case
they are the noise.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from lstmcls.config import FIELDS, VARIANTS
from tune.intervals import LEVEL
from tune.space import Objective

SWITCHES = tuple(VARIANTS["plain"])
# Every set of switches that can be on: the 16 settings, and also the 16 terms of the fit.
SUBSETS = [
    frozenset(subset)
    for size in range(len(SWITCHES) + 1)
    for subset in itertools.combinations(SWITCHES, size)
]
Switches = frozenset[str]


@dataclass(frozen=True)
class Estimate:
    """A figure and the half width of its LEVEL interval."""

    value: float
    half_width: float

    @property
    def told(self) -> bool:
        """Whether the interval leaves out 0 (by more than rounding)."""
        return abs(self.value) - self.half_width > 1e-9

    def __str__(self) -> str:
        return f"{self.value:+.4f} ± {self.half_width:.4f}"


@dataclass(frozen=True)
class Step:
    """A stop on a walk from `plain` to `improved`."""

    switch: str | None  # turned on last; None at the start
    value: Estimate
    gain: Estimate | None


@dataclass(frozen=True)
class Fit:
    """Least squares on the terms; every estimate is a contrast of the coefficients."""

    terms: list[Switches]  # whose switches are multiplied
    coefficients: NDArray[np.float64]  # [terms]
    covariance: NDArray[np.float64]  # [terms, terms], of the coefficients
    deviation: float  # of one trial
    freedom: int  # degrees, behind `deviation`
    factor: float  # Student's t for them
    replicated: bool  # the noise is the one within settings

    def estimate(self, contrast: NDArray[np.float64]) -> Estimate:
        error = math.sqrt(contrast @ self.covariance @ contrast)
        return Estimate(float(contrast @ self.coefficients), self.factor * error)

    def effect(self, *switches: str) -> NDArray[np.float64]:
        """The contrast of a switch's effect, or of an interaction."""
        return np.array([2.0 * (term == frozenset(switches)) for term in self.terms])

    def setting(self, on: Switches) -> NDArray[np.float64]:
        """The contrast of the value at a setting."""
        return np.array([(-1.0) ** len(term - on) for term in self.terms])

    def gain(self, switch: str, on: Switches) -> NDArray[np.float64]:
        """The contrast of what `switch` adds where the switches `on` are on already."""
        return self.setting(on | {switch}) - self.setting(on)


def fit(settings: list[Switches], values: NDArray[np.float64]) -> Fit | None:
    """Fit the trials, one setting and value each; None where there are too few settings."""
    groups: dict[Switches, list[float]] = {}
    for setting, value in zip(settings, values, strict=True):
        groups.setdefault(setting, []).append(value)
    freedom = len(values) - len(groups)
    replicated = freedom > 0
    every = replicated and len(groups) == len(SUBSETS)
    terms = [term for term in SUBSETS if every or len(term) <= 2]
    x = np.array([[(-1.0) ** len(term - setting) for term in terms] for setting in settings])
    if not replicated:
        freedom = len(values) - len(terms)
    if freedom <= 0 or np.linalg.matrix_rank(x) < len(terms):
        return None
    coefficients = np.linalg.lstsq(x, values)[0]
    if replicated:
        squares = sum(len(group) * float(np.var(group)) for group in groups.values())
    else:
        squares = float(np.sum((values - x @ coefficients) ** 2))
    return Fit(
        terms=terms,
        coefficients=coefficients,
        covariance=squares / freedom * np.linalg.inv(x.T @ x),
        deviation=math.sqrt(squares / freedom),
        freedom=freedom,
        factor=float(stdtrit(freedom, (1 + LEVEL) / 2)),
        replicated=replicated,
    )


@dataclass(frozen=True)
class Ablation:
    """What the trials say of the switches; effects and gains in the objective's own units."""

    objective: Objective
    trials: int  # with a value
    failed: int  # without one: they failed or were stopped early
    failed_on: dict[str, int]  # of these, by switch, those with it on
    fit: Fit
    effects: dict[str, Estimate]  # the best first
    interactions: dict[tuple[str, str], Estimate]
    gains: dict[str, Estimate]  # mean over the 24 walks from plain to improved
    walk: list[Step]  # the one that gains most at every step


def analyse(table: pd.DataFrame, objective: Objective) -> Ablation | None:
    """The analysis of a `tables.settings_table`.

    None where its trials did not try all 16 settings, differ in more than switches and seed, or
    left too few values.
    """
    if not is_ablation(table):
        return None
    trained = table.dropna(subset=["value"])
    found = fit(switches_on(trained), trained["value"].to_numpy(dtype=float))
    if found is None:
        return None
    sign = 1 if objective.mode == "max" else -1
    effects = {switch: found.estimate(found.effect(switch)) for switch in SWITCHES}
    pairs = itertools.combinations(SWITCHES, 2)
    return Ablation(
        objective=objective,
        trials=len(trained),
        failed=len(table) - len(trained),
        failed_on={s: int((table.loc[table["value"].isna(), s] > 0).sum()) for s in SWITCHES},
        fit=found,
        effects=dict(sorted(effects.items(), key=lambda item: -sign * item[1].value)),
        interactions={pair: found.estimate(found.effect(*pair)) for pair in pairs},
        gains=mean_gains(found),
        walk=best_walk(found, sign),
    )


def is_ablation(table: pd.DataFrame) -> bool:
    """Whether all 16 settings were tried, and all else but the seed was the same."""
    if table.empty or len(set(switches_on(table))) < len(SUBSETS):
        return False
    rates = table["dropout"][table["dropout"] > 0]
    others = table[[name for name in FIELDS if name not in (*SWITCHES, "seed")]]
    return bool(rates.nunique() == 1 and (others.nunique() == 1).all())


def switches_on(table: pd.DataFrame) -> list[Switches]:
    """Of each row, the switches that are on; dropout is on at any rate above 0."""
    rows = table[[*SWITCHES]].to_numpy(dtype=float) > 0
    return [frozenset(itertools.compress(SWITCHES, row)) for row in rows]


def mean_gains(found: Fit) -> dict[str, Estimate]:
    """What each switch adds, on average over the orders in which all are turned on.

    It is the Shapley value: the four add up to the whole way (Shapley 1953).
    """
    contrasts = {switch: np.zeros(len(found.terms)) for switch in SWITCHES}
    orders = list(itertools.permutations(SWITCHES))
    for order in orders:
        for k, switch in enumerate(order):
            contrasts[switch] += found.gain(switch, frozenset(order[:k])) / len(orders)
    return {switch: found.estimate(contrast) for switch, contrast in contrasts.items()}


def best_walk(found: Fit, sign: int) -> list[Step]:
    """From plain to improved, at each step by the switch that gains most."""
    on: Switches = frozenset()
    steps = [Step(None, found.estimate(found.setting(on)), None)]
    while len(on) < len(SWITCHES):
        gains = {s: found.estimate(found.gain(s, on)) for s in SWITCHES if s not in on}
        best = max(gains, key=lambda switch: sign * gains[switch].value)
        on |= {best}
        steps.append(Step(best, found.estimate(found.setting(on)), gains[best]))
    return steps


def verdict(found: Ablation) -> str:
    """Which change matters, in a few sentences that also say what the intervals cannot tell."""
    effects = found.effects
    told = sorted((s for s in SWITCHES if effects[s].told), key=lambda s: -abs(effects[s].value))
    if not told:
        return (
            f"No switch's effect on {found.objective.metric} can be told from 0: the intervals are "
            f"± {effects[SWITCHES[0]].half_width:.4f}, and more seeds would narrow them."
        )
    first, *others = told
    unsure = [s for s in SWITCHES if s not in told]
    tied = [f"{a} with {b}" for (a, b), effect in found.interactions.items() if effect.told]
    sentences = [_largest(found, first)]
    if others:
        changes = [f"{s} {_change(found, s)} it by {abs(effects[s].value):.4f}" for s in others]
        sentences.append(_listed(changes, "and"))
    if unsure:
        sentences.append(f"Whether {_listed(unsure, 'or')} changes it these trials cannot tell")
    if tied:
        sentences.append(f"What one does depends on the other: {', '.join(tied)}")
    return ". ".join(sentences) + "."


def _largest(found: Ablation, first: str) -> str:
    effect = found.effects[first]
    does = (
        f"over all settings of the others it {_change(found, first)} {found.objective.metric} "
        f"by {abs(effect.value):.4f} ± {effect.half_width:.4f}"
    )
    rivals = [s for s in SWITCHES if s != first and not _lead(found, first, s).told]
    if not rivals:
        return f"{first} matters most: {does}"
    return (
        f"{first} has the largest effect: {does}; whether {_listed(rivals, 'or')} matters as much "
        "the intervals cannot tell"
    )


def _lead(found: Ablation, a: str, b: str) -> Estimate:
    """By how much the effect of `a` is larger than that of `b`, whatever their directions."""
    sizes = [math.copysign(1, found.effects[s].value) * found.fit.effect(s) for s in (a, b)]
    return found.fit.estimate(sizes[0] - sizes[1])


def _change(found: Ablation, switch: str) -> str:
    better = (found.effects[switch].value > 0) == (found.objective.mode == "max")
    return "improves" if better else "worsens"


def _listed(words: list[str], last: str) -> str:
    """`a, b and c`."""
    return f" {last} ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def survivors(found: Ablation) -> str:
    """Whom the figures leave out, and what that does to them; empty where it is nobody."""
    if not found.failed:
        return ""
    some = f"{found.failed} trial{'s have' if found.failed > 1 else ' has'} no value"
    by_switch = [f"{s} {on} on, {found.failed - on} off" for s, on in found.failed_on.items()]
    return (
        f"{some}, for want of a training to the end (diverged, failed or stopped early), and "
        "count in no figure: a switch that makes training fail is judged by the trials that "
        f"survived, which flatters it. Without a value, by switch: {'; '.join(by_switch)}."
    )


def noise(found: Ablation) -> str:
    """Where the intervals come from."""
    source = (
        "the variance between the seeds of a setting"
        if found.fit.replicated
        else "the interactions of three and four switches, for want of a second seed"
    )
    return (
        f"{LEVEL:.0%} intervals, each by itself, from {source} "
        f"(deviation {found.fit.deviation:.4f}, {found.fit.freedom} degrees of freedom)"
    )


def ablation_text(found: Ablation) -> str:
    """The effects, the interactions that can be told from 0, the best walk and the verdict."""
    failed = f", {found.failed} without a value" if found.failed else ""
    lines = [
        f"the four switches, {found.objective.metric} of {found.trials} trials{failed}:",
        "                 effect over all     mean gain from",
        "                 settings            plain to improved",
    ]
    for switch, effect in found.effects.items():
        lines.append(f"  {switch:13}  {effect!s:18}  {found.gains[switch]!s}")
    lines += [
        f"  {a} with {b}: {effect}" for (a, b), effect in found.interactions.items() if effect.told
    ]
    stops = [
        f"{step.switch or 'plain'} {step.value.value:.4f}±{step.value.half_width:.4f}"
        for step in found.walk
    ]
    walk = (
        f"the best walk: {' → '.join(stops)} (chosen and judged by the same figures: it flatters)"
    )
    for text in (walk, noise(found), survivors(found), verdict(found)):
        lines += textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)
