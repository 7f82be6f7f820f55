"""A search that is to run on a cluster: its name, its folder, its command.

It stands in a folder that all nodes share as it would stand in a folder at home: the run goes to
results/NAME there, prepared data to results/prepared. Where they share an object store instead, the
run goes to results/NAME in that.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from lstmcls.cli import BadInput
from tune.options import add_search_options, with_options
from tune.space import SearchSpace, load_space
from tune.store import checked, is_uri

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Run:
    name: str
    shared: str  # what all nodes share: a folder by its absolute path, or one in an object store
    space: SearchSpace
    columns: tuple[str, ...]  # the options that name the columns of the data

    @property
    def folder(self) -> str:
        if not self.in_store:
            return f"{self.shared}/results/{self.name}"
        parts = urlsplit(self.shared)  # which may end with options
        return parts._replace(path=f"{parts.path}/results/{self.name}").geturl()

    @property
    def in_store(self) -> bool:
        return is_uri(self.shared)

    def with_data(self, data: str | None) -> Run:
        """The same, with the data where the cluster finds it."""
        return dataclasses.replace(self, space=dataclasses.replace(self.space, data=data))

    def command(self) -> list[str]:
        """The search, less its --space and --address; the same command again goes on with it.

        `-P` keeps what happens to lie in the shared folder from being imported.
        """
        words = ["python", "-P", "-m", "tune.search", *self.columns]
        out = self.folder if self.in_store else f"results/{self.name}"
        return [*words, "--out", out, "--auto-resume"]


def add_run_options(
    parser: argparse.ArgumentParser,
    shared: str | None,
    what: str = "a folder that all nodes share, or one in an object store, s3://...",
) -> None:
    """Those of every way to a cluster; `shared` is the default of --shared, which is `what`."""
    add = parser.add_argument
    add("--name", metavar="NAME", help="the run, results/NAME there (default: SPACE-TIME)")
    add(
        "--shared",
        metavar="DIR",
        default=shared,
        required=shared is None,
        help=what + (f" (default: {shared})" if shared else ""),
    )
    add_search_options(parser)


def read_run(args: argparse.Namespace) -> Run:
    """The search that the options describe.

    Raises:
        BadInput: an option or the space cannot be used.
    """
    space = args.space or "full"
    name = args.name or f"{Path(space).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    if not _NAME.fullmatch(name):
        raise BadInput(f"--name {name}: expected letters, digits, '.', '_' and '-'")
    in_store = is_uri(args.shared)
    if not in_store and not (args.shared.startswith("/") and args.shared.strip("/")):
        raise BadInput(
            f"--shared {args.shared}: expected an absolute path below /, as all nodes see it"
        )
    found = with_options(load_space(space), args, space)
    if is_uri(found.data):
        checked(str(found.data))
    columns = [("--text", args.text), ("--label", args.label)]
    return Run(
        name,
        checked(args.shared) if in_store else args.shared.rstrip("/"),
        found,
        tuple(word for option, value in columns if value for word in (option, value)),
    )
