"""The options that say what to search and for how long: of a search here, or on a cluster."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lstmcls.cli import BadInput, nearest
from lstmcls.config import VARIANTS, overridden, parse_settings
from tune.space import SearchSpace, parse_space
from tune.space.fixing import fix, points_of
from tune.space.parameters import SETTABLE, field_value
from tune.space.settings import first_report


def add_search_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--space", metavar="FILE", help="the search space (default: full)")
    add(
        "--data",
        metavar="DATA",
        help="prepared folder or labelled file, or s3://...; or a built-in name",
    )
    add("--text", metavar="COL", help="text column of a labelled file (default: detected)")
    add("--label", metavar="COL", help="label column of a labelled file (default: detected)")
    add("--objective", metavar="NAME", help="val_f1, val_loss, ... (default: val_accuracy)")
    add("--trials", metavar="N", help="end after N trials")
    add("--minutes", metavar="M", help="end after M minutes, confirmation included")
    add("--target", metavar="X", help="end when the objective reaches X")
    add("--concurrency", metavar="N", help="trials at once (default: as many as fit)")
    add("--cpus-per-trial", metavar="X", help="CPU cores a trial (default: the space's)")
    add("--gpus-per-trial", metavar="X", help="GPUs a trial, a fraction or auto")
    add("--seed", metavar="N", help="of the search (default: the space's)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        help="fix a setting, also a searched one",
    )


# The key of a space that an option sets, as a fault of it names it.
_KEYS = {
    "trials": "budget.trials",
    "minutes": "budget.minutes",
    "target": "budget.target",
    "cpus_per_trial": "resources.cpu",
    "gpus_per_trial": "resources.gpu",
    "concurrency": "resources.concurrency",
    "objective": "objective.metric",
    "seed": "seed",
    "data": "data",
}


def with_options(space: SearchSpace, args: argparse.Namespace, source: str) -> SearchSpace:
    """The space with what the options say over it; checked like a file.

    Raises:
        BadInput: an option's value does not fit.
    """
    settings = _settings(space, args.set, source)
    mapping = _fixed(space, settings).to_dict()
    given = {option: key for option, key in _KEYS.items() if getattr(args, option) is not None}
    for option, key in given.items():
        section, _, name = key.partition(".")
        value = getattr(args, option)
        if name and option != "objective":  # which takes its own mode along
            mapping[section][name] = value
        else:
            mapping[section] = value
    if asha := mapping["asha"]:
        if {"first_report", "report_every"} & set(settings):
            asha["grace_epochs"] = max(asha["grace_epochs"], first_report(mapping["fixed"]))
        if settings.get("epochs", math.inf) < asha["grace_epochs"]:
            mapping["asha"] = False  # there is no time at which to stop a trial early
    typed = {f"{source}: {key}: ": f"--{o.replace('_', '-')}: " for o, key in given.items()}
    try:
        return parse_space(mapping, source)
    except BadInput as fault:
        raise BadInput(*(_as_typed(message, typed) for message in fault.messages)) from None


def _as_typed(message: str, typed: Mapping[str, str]) -> str:
    """A fault of a key that an option set, under the option's name."""
    for key, option in typed.items():
        if message.startswith(key):
            return option + message.removeprefix(key)
    return message


def _settings(space: SearchSpace, stated: Sequence[str], source: str) -> dict[str, Any]:
    """The values of `--set`, each in its setting's type.

    Raises:
        BadInput: every one that does not fit, a line each.
    """
    settings: dict[str, Any] = {}
    faults = []
    for name, value in parse_settings(stated).items():
        if name not in SETTABLE:
            faults.append(f"--set {name}: no such setting{nearest(name, SETTABLE)}")
            continue
        try:
            settings[name] = field_value(name, value)
        except BadInput as fault:
            faults.append(f"--set {name}: {fault.messages[0]}")
    fields = {parameter.field: parameter.name for parameter in space.parameters}
    switches = [fields[name] for name in VARIANTS["plain"] if name in fields]
    if "variant" in settings and switches and "variant" not in fields:
        faults.append(  # they would override it in every trial
            f"--set variant: {source} searches {', '.join(switches)}; set these one by one, "
            "or use a space without them"
        )
    faults += [  # every variant would have it, also one that is named for its lack
        f"--set {name}: {source} searches variant, which sets it; add --set variant=NAME"
        for name in settings
        if name in VARIANTS["plain"] and "variant" in fields and "variant" not in settings
    ]
    if faults:
        raise BadInput(*faults)
    return settings


def _fixed(space: SearchSpace, settings: Mapping[str, Any]) -> SearchSpace:
    """The space with `settings` fixed; what searched them is searched no more."""
    parameters = space.parameters
    for name, value in settings.items():
        parameters = fix(parameters, name, value)
    return dataclasses.replace(
        space,
        parameters=parameters,
        enqueue=tuple(points_of(space.enqueue, space.parameters, parameters)),
        fixed=overridden(space.fixed, settings),
    )
