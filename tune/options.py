"""The options that say what to search and for how long: of a search here, or on a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from lstmcls.cli import BadInput
from lstmcls.config import VARIANTS, overridden, parse_settings
from tune.space import SearchSpace, parse_space


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
    add("--set", action="append", default=[], metavar="K=V", help="fix a training setting")


def with_options(space: SearchSpace, args: argparse.Namespace, source: str) -> SearchSpace:
    """The space with what the options say over it; checked like a file.

    Raises:
        BadInput: an option's value does not fit.
    """
    mapping, settings = space.to_dict(), parse_settings(args.set)
    budget: dict[str, Any] = mapping["budget"]
    resources: dict[str, Any] = mapping["resources"]
    for section, name, value in (
        (budget, "trials", args.trials),
        (budget, "minutes", args.minutes),
        (budget, "target", args.target),
        (resources, "cpu", args.cpus_per_trial),
        (resources, "gpu", args.gpus_per_trial),
        (resources, "concurrency", args.concurrency),
        (mapping, "objective", args.objective),
        (mapping, "seed", args.seed),
        (mapping, "data", args.data),
    ):
        if value is not None:
            section[name] = value
    mapping["fixed"] = overridden(mapping["fixed"], settings)
    searched = [p.name for p in space.parameters if p.field in VARIANTS["plain"]]
    if "variant" in settings and searched:  # they would override it in every trial
        raise BadInput(
            f"--set variant: {source} searches {', '.join(searched)}; set these one by one, "
            "or use a space without them"
        )
    return parse_space(mapping, source)
