"""What metrics.json says, in words: alike in a search's summary, its report and the model card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LEVEL = 0.95  # of intervals where metrics.json does not say it
UNKNOWN = (None, None)


def expectations(metrics: Mapping[str, Any]) -> list[str]:
    """What to expect on new texts, against what, and what stands behind it, in a few lines.

    Nothing of a model that was not confirmed, or not by this version.
    """
    test, found = metrics.get("test"), metrics.get("out_of_fold")
    if not test or not found:
        return []
    level = f"{metrics.get('level', LEVEL):.0%}"
    name = str(metrics.get("objective", "accuracy")).removeprefix("val_")
    of_interest = ["accuracy", *([name] if name != "accuracy" else [])]
    lines = [
        f"on new texts expect {name} {shown(test.get(name))}, {level} interval "
        f"{interval_text(test.get(f'{name}_interval', UNKNOWN))}"
        for name in of_interest
    ]
    if "difference" in test:
        lines.append(
            f"against the baseline: {test['difference']:+.4f} accuracy, {level} interval "
            f"{interval_text(test['difference_interval'], '+')}"
        )
    if theirs := (metrics.get("linear") or {}).get("test"):
        lines.append(
            f"against a linear model: {theirs['difference']:+.4f} accuracy, {level} interval "
            f"{interval_text(theirs['difference_interval'], '+')}: {linear_verdict(theirs)}"
        )
    lines.append(
        f"behind these figures: {test['rows']:,} test texts by which nothing was chosen, "
        f"{looks(test)}, {_judges(found)}; {found.get('networks', found['folds'])} runs"
    )
    return lines


def _judges(found: Mapping[str, Any]) -> str:
    if found.get("trained_on_test"):
        return "each by the networks and the linear model that were not trained on it"
    return "by the exported model, which was not trained on them"


def linear_verdict(test: Mapping[str, Any]) -> str:
    """Which of the two is better, if that is sure; `test` as in `linear` of metrics.json."""
    low, high = test["difference_interval"]
    if low > 0:
        return "the winner is better"
    return "the linear model is better" if high < 0 else "neither is surely better"


def looks(test: Mapping[str, Any]) -> str:
    """How often a run has looked at its test data: a longer search may have another winner."""
    count = test.get("looks", 1)
    return "read once" if count == 1 else f"read {count} times, for as many winners"


def confirmed_candidates(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`confirmation` of metrics.json, as `tune` writes it now, also where an earlier version did.

    Each: `trial`, `baseline`, `runs`, `value`, `interval`, `values` (of each run), `left` (why it
    left the race).
    """
    return [
        {
            "trial": found["trial"],
            "baseline": found["baseline"],
            "runs": found.get("folds", found.get("runs")),
            "value": found.get("value", found.get("mean")),
            "interval": found.get("interval") or _half_widths(found),
            "values": found["values"],
            "left": found.get("left", ""),
        }
        for found in metrics.get("confirmation") or []
    ]


def _half_widths(found: Mapping[str, Any]) -> list[float | None]:
    half = found.get("half_width")
    if half is None:
        return [None, None]
    return [found["mean"] - half, found["mean"] + half]


def interval_text(ends: Sequence[float | None], sign: str = "") -> str:
    """`0.8100 to 0.8300`; `sign` is + where both ends have theirs."""
    low, high = ends
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "not defined"
    return f"{low:{sign}.4f} to {high:{sign}.4f}"


def shown(value: Any) -> str:
    """Four digits, or that it is not defined."""
    known = isinstance(value, int | float) and not math.isnan(value)
    return f"{value:.4f}" if known else "not defined"
