"""The options that say what to search and for how long: of a search here, or on a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from lstmcls.config import parse_settings
from tune.space import SearchSpace, parse_space

# Option, placeholder, help; in the order in which --help lists them.
_OPTIONS = (
    ("--space", "FILE", "the search space (default: full)"),
    ("--data", "DATA", "prepared folder, labelled file or built-in name"),
    ("--text", "COL", "text column of a labelled file (default: detected)"),
    ("--label", "COL", "label column of a labelled file (default: detected)"),
    ("--trials", "N", "end after N trials"),
    ("--minutes", "M", "end after M minutes, confirmation included"),
    ("--target", "X", "end when the objective reaches X"),
    ("--concurrency", "N", "trials at once (default: as many as fit)"),
    ("--cpus-per-trial", "X", "CPU cores a trial (default: the space's)"),
    ("--gpus-per-trial", "X", "GPUs a trial, a fraction or auto"),
    ("--seed", "N", "of the search (default: the space's)"),
)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    for option, metavar, text in _OPTIONS:
        parser.add_argument(option, metavar=metavar, help=text)
    parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="fix a training setting"
    )


def search_arguments(args: argparse.Namespace) -> list[str]:
    """The options that were given, as `python -m tune.search` takes them."""
    given = []
    for option, _, _ in _OPTIONS:
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None:
            given += [option, str(value)]
    for setting in args.set:
        given += ["--set", setting]
    return given


def with_options(space: SearchSpace, args: argparse.Namespace, source: str) -> SearchSpace:
    """The space with what the options say over it; checked like a file.

    Raises:
        BadInput: an option's value does not fit.
    """
    mapping = space.to_dict()
    budget: dict[str, Any] = mapping["budget"]
    resources: dict[str, Any] = mapping["resources"]
    for section, name, value in (
        (budget, "trials", args.trials),
        (budget, "minutes", args.minutes),
        (budget, "target", args.target),
        (resources, "cpu", args.cpus_per_trial),
        (resources, "gpu", args.gpus_per_trial),
        (resources, "concurrency", args.concurrency),
        (mapping, "seed", args.seed),
        (mapping, "data", args.data),
    ):
        if value is not None:
            section[name] = value
    mapping["fixed"].update(parse_settings(args.set))
    return parse_space(mapping, source)
