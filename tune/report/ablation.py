"""Which of the four switches matters; only where a search is an ablation."""

from __future__ import annotations

import itertools

import plotly.graph_objects as go

from tune.ablation import SUBSETS, SWITCHES, Ablation, Estimate, analyse, noise, survivors, verdict
from tune.intervals import LEVEL
from tune.report.page import figure_html, section_html, table_html, text_html
from tune.report.record import Record
from tune.report.wording import metric_title
from tune.tables import settings_table


def section(record: Record) -> str:
    """The effects, the walks and the verdict; empty where `analyse` has nothing to say."""
    found = analyse(settings_table(record.space, record.search), record.objective)
    if found is None:
        return ""
    source = f"From {found.trials} trials in {len(SUBSETS)} settings: {noise(found)}. "
    source += survivors(found)
    effects = (
        f"The effect on {metric_title(found.objective)}: of a switch, the mean where it is on "
        "less the mean where it is off; of two, half of what one adds to the other's. The colour "
        "marks an interval that leaves out 0."
    )
    walks = (
        "The 24 walks from plain to improved go up these lines, a switch at a time. The thick one "
        "gains most at every step; the same figures chose and judge it, so it flatters."
    )
    header = ("switch", "effect over all settings", "mean gain over the 24 walks")
    rows = [(s, effect, found.gains[s]) for s, effect in found.effects.items()]
    return section_html(
        "Which switch matters",
        text_html(verdict(found)),
        text_html(source),
        table_html(header, rows),
        figure_html(effects_figure(found), effects),
        figure_html(walks_figure(found), walks),
    )


def effects_figure(found: Ablation) -> go.Figure:
    """The effects and two-way interactions with their intervals, the best effect on top."""
    named: dict[str, Estimate] = dict(found.effects)
    named |= {f"{a} with {b}": effect for (a, b), effect in found.interactions.items()}
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": "var(--faint)", "width": 1})
    for told, name, colour in (
        (True, "told from 0", "var(--accent)"),
        (False, "not told from 0", "var(--faint)"),
    ):
        mine = {label: effect for label, effect in named.items() if effect.told == told}
        figure.add_scatter(
            x=[effect.value for effect in mine.values()],
            y=list(mine),
            error_x={"array": [e.half_width for e in mine.values()], "width": 0},
            mode="markers",
            marker={"size": 8, "color": colour},
            name=name,
            customdata=[str(effect) for effect in mine.values()],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    figure.update_layout(
        height=380,
        xaxis={"title": {"text": f"change of {metric_title(found.objective)}"}},
        yaxis={
            "categoryorder": "array", "categoryarray": list(named), "autorange": "reversed",
            "showgrid": False,
        },
    )  # fmt: skip
    return figure


def walks_figure(found: Ablation) -> go.Figure:
    """The value at all 16 settings by the number of switches on, and the best walk through them."""
    values = {on: found.fit.estimate(found.fit.setting(on)) for on in SUBSETS}
    x: list[int | None] = []
    y: list[float | None] = []
    for on, switch in itertools.product(SUBSETS, SWITCHES):
        if switch not in on:
            x += [len(on), len(on) + 1, None]
            y += [values[on].value, values[on | {switch}].value, None]
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": "var(--faint)", "width": 0.5}, hoverinfo="skip",
        name="one switch more",
    )  # fmt: skip
    figure.add_scatter(
        x=[len(on) for on in SUBSETS],
        y=[value.value for value in values.values()],
        mode="markers",
        marker={"size": 7, "color": "var(--faint)"},
        name="a setting",
        customdata=[
            f"{' + '.join(s for s in SWITCHES if s in on) or 'plain'}: "
            f"{value.value:.4f} ± {value.half_width:.4f}"
            for on, value in values.items()
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.add_scatter(
        x=list(range(len(found.walk))),
        y=[step.value.value for step in found.walk],
        error_y={"array": [step.value.half_width for step in found.walk], "width": 0},
        mode="lines+markers+text",
        line={"color": "var(--accent)", "width": 2.5},
        marker={"size": 9},
        name=f"the best walk, {LEVEL:.0%} intervals",
        text=[f"+ {step.switch}" if step.switch else "plain" for step in found.walk],
        textposition=[*["bottom right"] * 4, "bottom left"],
        customdata=[f"gain {step.gain}" if step.gain else "the start" for step in found.walk],
        hovertemplate="%{text}: %{y:.4f}, %{customdata}<extra></extra>",
    )
    figure.update_layout(
        height=420,
        xaxis={"title": {"text": "switches on"}, "dtick": 1, "range": [-0.3, 4.3]},
        yaxis={"title": {"text": metric_title(found.objective)}},
    )
    return figure
