"""Labels of any type as names, and the names in the order of their ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?")


@lru_cache(maxsize=4096, typed=True)
def label_name(value: bool | int | float | str | None) -> str | None:
    """One name for each way to write a label: True and "true" are "true"; 1, 1.0, "1.0" are "1".

    None stands for a missing label: None, NaN, or nothing but white space.
    """
    if value is None or value != value:
        return None
    name = str(value).strip()
    if name.lower() in ("true", "false"):
        return name.lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if _NUMBER.fullmatch(name):
        whole, _, fraction = name.partition(".")
        fraction = fraction.rstrip("0")
        name = f"{whole}.{fraction}" if fraction else str(int(whole))
    return name or None


def label_order(names: Iterable[str]) -> list[str]:
    """`names` in the order of their ids: numbers ascending, anything else sorted as text."""
    names = list(names)
    if all(_NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)
