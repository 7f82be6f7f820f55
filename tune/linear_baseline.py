"""A linear model beside the winner of a search without a confirmation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from lstmcls.dataset import Prepared
from lstmcls.linear import chosen_linear
from tune.space import Objective

logger = logging.getLogger(__name__)


def linear_baseline(
    prepared: Prepared,
    objective: Objective,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """What a linear model reaches on the same validation rows (`chosen_linear`).

    For the end of a search, which it must not cost: a fault is a `note`, and the answer is empty,
    as it is where all training rows are of one class.
    """
    note("a linear model is trained, to compare with; Ctrl-C leaves it out")
    train, val = prepared.splits["train"], prepared.splits["val"]
    try:
        if len(np.unique(train.labels)) < 2:
            return {}
        return chosen_linear(train, val, len(prepared.labels), objective.metric, objective.mode)[1]
    except KeyboardInterrupt:
        note("the linear model is left out: interrupted")
    except Exception as error:
        logger.exception("the linear model")
        note(f"the linear model is left out: {type(error).__name__}: {error}")
    return {}
