"""Reading YAML so that all faults of a file are reported at once, each under its key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from lstmcls.cli import BadInput, nearest
from lstmcls.config import YAML_FAULTS


class Faults:
    """The faults of one file, one line each: `file: key: what to change`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: list[str] = []

    def add(self, key: str, message: str) -> None:
        line = f"{self.source}: {key}: {message}"
        self.lines.append(" ".join(line.splitlines()))  # a quoted key may hold a line break

    def raise_any(self) -> None:
        """Raise everything collected so far as one BadInput."""
        if self.lines:
            raise BadInput(*self.lines)


def read_yaml(path: Path, faults: Faults) -> dict[str, Any]:
    """The mapping in `path`; keys given twice go to `faults`.

    Raises:
        BadInput: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{faults.source}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadInput(f"{faults.source}: not a text file in UTF-8") from None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        for key, lines in _duplicates(node, "", set()):
            faults.add(key, f"given twice (lines {lines[0]} and {lines[1]})")
        loaded = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise BadInput(f"{faults.source}: {_yaml_fault(error)}") from None
    except YAML_FAULTS as error:
        raise BadInput(f"{faults.source}: not valid YAML ({error})") from None
    if loaded is None:
        raise BadInput(f"{faults.source}: the file is empty; it needs at least a `space:` section")
    if not isinstance(loaded, dict):
        raise BadInput(f"{faults.source}: expected `key: value` lines, got {_type_name(loaded)}")
    return {str(key): value for key, value in loaded.items()}


def _duplicates(
    node: yaml.Node | None, path: str, seen: set[int]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """(dotted key, its two lines) for each key given twice; PyYAML keeps the last in silence."""
    if node is None or id(node) in seen:  # an alias leads to a node already walked
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, f"{path}[{index}]", seen)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in first and key.tag != "tag:yaml.org,2002:merge":
                yield name, (first[name], line)
            first.setdefault(name, line)
            yield from _duplicates(value, name, seen)


def _yaml_fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"not valid YAML ({str(error).splitlines()[0]})"
    problem = getattr(error, "problem", None) or "cannot be parsed"
    return f"line {mark.line + 1}: not valid YAML ({problem})"


def _type_name(value: object) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"


def check_keys(
    faults: Faults, prefix: str, mapping: dict[str, Any], known: Iterable[str]
) -> list[str]:
    """Add a fault for each key of `mapping` that is not in `known`; return those keys."""
    names = list(known)
    unknown = [key for key in mapping if key not in names]
    for key in unknown:
        near = nearest(key, names) or f"; known: {', '.join(names)}"
        faults.add(f"{prefix}{key}", f"no such key{near}")
    return unknown


def as_mapping(faults: Faults, key: str, value: Any, example: str) -> dict[str, Any] | None:
    """`value` as a mapping with text keys, or None with a fault that shows `example`."""
    if isinstance(value, dict):
        return {str(name): item for name, item in value.items()}
    faults.add(key, f"expected a mapping such as {example}, got {value!r}")
    return None


def as_number(
    faults: Faults, key: str, value: Any, low: float = -math.inf, *, low_open: bool = False
) -> float | None:
    """`value` as a finite number of at least (`low_open`: above) `low`, or None with a fault."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        faults.add(key, f"expected a number, got {value!r}")
    elif number < low or (low_open and number == low):
        faults.add(key, f"expected {'above' if low_open else 'at least'} {low:g}, got {value!r}")
    else:
        return number
    return None


def as_whole(faults: Faults, key: str, value: Any, low: int, high: int | None = None) -> int | None:
    """`value` as a whole number from `low` to `high`, or None with a fault."""
    number = as_number(faults, key, value, low)
    if number is None:
        return None
    if not number.is_integer():
        faults.add(key, f"expected a whole number, got {value!r}")
        return None
    whole = value if isinstance(value, int) else int(number)
    if high is not None and whole > high:
        faults.add(key, f"expected at most {high}, got {value!r}")
        return None
    return whole
