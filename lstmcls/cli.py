"""What every command shares: one line and status 2 for bad input, the nearest valid name.

Exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class BadInput(ValueError):
    """The user's input cannot be used; every message is one line that says what to change."""

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


class RunFailed(RuntimeError):
    """The input was fine, the work failed all the same; the message says why and what to do."""


class Parser(argparse.ArgumentParser):
    """Options whose faults are one line as well; help that keeps its lines as they are written.

    Raises:
        BadInput: from `parse_args`, where argparse would print its usage and exit.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        near = ""
        if unknown := re.match(r"unrecognized arguments: (-[\w-]*)", message):
            near = nearest(unknown[1], self._all_options())
        elif choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            near = nearest(choice[1], re.findall(r"[^', ]+", choice[2]))
        raise BadInput(f"{message}{near or f'; {self.prog} --help tells more'}")

    def _all_options(self) -> set[str]:
        """Those of subcommands too: what they do not know is told by the whole."""
        options = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    options |= parser._all_options()
        return options


def nearest(name: str, choices: Iterable[str], likeness: float = 0.5) -> str:
    """`; did you mean 'x'?` for the closest of `choices`, or an empty string.

    A choice that is `name`'s initials comes first: lr for learning_rate.
    """
    known = list(choices)
    initials = "".join(word[:1] for word in str(name).split("_"))
    close = [c for c in known if c == initials and len(c) > 1]
    close += difflib.get_close_matches(str(name), known, n=1, cutoff=likeness)
    return f"; did you mean '{close[0]}'?" if close else ""


def parse_in_any_order(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """The arguments, options also between positional ones; what follows `--` is no option."""
    given = sys.argv[1:] if argv is None else argv
    if "--" in given:  # which argparse's other way takes for an argument
        return parser.parse_args(given)
    return parser.parse_intermixed_args(given)


def run(main: Callable[[], int]) -> None:
    """Call `main` and exit with its status, turning expected faults into clear lines."""
    _print_anything()
    try:
        _require_readable_names()
        status = main()
    except BadInput as fault:
        for message in fault.messages:  # which may quote what somebody's file holds
            line = "".join(char if char.isprintable() else "\ufffd" for char in message)
            print(f"error: {line}", file=sys.stderr)
        status = BAD_INPUT
    except RunFailed as fault:
        print(f"failed: {fault}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        status = OK
    sys.exit(status)


def _print_anything() -> None:
    """Have a character that the terminal's encoding lacks printed as its code: \\u5317."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _require_readable_names() -> None:
    """Refuse a locale in which pyarrow and tokenizers, whose names are UTF-8, find other files.

    Raises:
        BadInput: an argument or the working directory is not ASCII, and the locale is not UTF-8.
    """
    if (encoding := sys.getfilesystemencoding()) == "utf-8":
        return
    for word in (*sys.argv[1:], os.getcwd()):
        if not word.isascii():
            meant = os.fsencode(word).decode("utf-8", "replace")
            raise BadInput(
                f"{meant}: cannot be read in this locale, whose encoding is {encoding}; set "
                "PYTHONUTF8=1, or a UTF-8 locale such as LC_ALL=C.UTF-8"
            )
