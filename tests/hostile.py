"""The tests where a machine is not as one expects: `make test-hostile`.

Every situation runs a whole search through the command line (tests/e2e/test_search.py), and those
of the other tests on which it could bear. What this machine does not let one do is skipped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEARCH = "tests/e2e/test_search.py"
COMMANDS = ("tests/lstmcls", "tests/tune", "tests/e2e/test_bad_input.py", "tests/test_docs.py")
SMALL_SHM = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'


@dataclass
class Run:
    """How pytest is started."""

    root: Path = ROOT
    prefix: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


class Skipped(Exception):
    """This machine does not have it."""


def variables(**environment: str) -> Callable[[Run, ExitStack], None]:
    return lambda run, _: run.environment.update(environment)


def odd_path(run: Run, stack: ExitStack) -> None:
    """The checkout, temporary files and so every run's folder below a path that is no ASCII."""
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="a b 北京 ")))
    run.root = place / "the checkout"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "build")

    def left_out(folder: str, names: list[str]) -> set[str]:
        if Path(folder) == ROOT / "results":
            return set(names) - {"README.md"}
        return ignored(folder, names)

    shutil.copytree(ROOT, run.root, ignore=left_out)
    temporary = place / "temporary 京"
    temporary.mkdir()
    run.environment["TMPDIR"] = str(temporary)


def small_shm(run: Run, _: ExitStack) -> None:
    run.prefix = ["unshare", "--mount", "bash", "-c", SMALL_SHM, "small"]
    try:
        tried = subprocess.run([*run.prefix, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        raise Skipped("there is no unshare") from None
    if tried.returncode:
        raise Skipped("mounting a tmpfs needs root")


def one_core(run: Run, _: ExitStack) -> None:
    if shutil.which("taskset") is None:
        raise Skipped("there is no taskset")
    run.prefix = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]


# By name: what makes it so, and the tests besides the search.
SITUATIONS: dict[str, tuple[Callable[[Run, ExitStack], None], tuple[str, ...]]] = {
    "c-locale": (variables(LC_ALL="C", LANG="C"), COMMANDS),
    "latin-1": (variables(PYTHONIOENCODING="latin-1"), COMMANDS),
    "no-home": (variables(HOME="/proc/nonexistent"), COMMANDS),
    "odd-path": (odd_path, (*COMMANDS, "tests/test_architecture.py", "tests/benchmarks")),
    "timezone": (variables(TZ="Asia/Kathmandu"), ("tests/tune",)),
    "small-shm": (small_shm, ("tests/e2e/test_shared_data.py", "tests/tune/test_trial.py")),
    "one-core": (one_core, ("tests/tune/test_resources.py", "tests/lstmcls/test_model.py")),
}


def tested(name: str) -> int:
    """The status of pytest in that situation; 0 where it is skipped."""
    make, tests = SITUATIONS[name]
    run = Run()
    with ExitStack() as stack:
        try:
            make(run, stack)
        except Skipped as why:
            print(f"{name}: skipped, {why}", flush=True)
            return 0
        print(f"{name}:", flush=True)
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SEARCH, *tests]
        environment = {**os.environ, "PYTHONPATH": str(run.root), **run.environment}
        return subprocess.run(
            [*run.prefix, *pytest], cwd=run.root, env=environment, check=False
        ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = ", ".join(SITUATIONS)
    parser.add_argument("situations", nargs="*", metavar="NAME", help=f"{names} (default: all)")
    chosen = parser.parse_args().situations or list(SITUATIONS)
    if unknown := set(chosen) - SITUATIONS.keys():
        parser.error(f"no situation {', '.join(sorted(unknown))}; there are {names}")
    failed = [name for name in chosen if tested(name)]
    print(f"failed: {', '.join(failed)}" if failed else "all as usual")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
