"""What every command does with arguments that cannot be used: one line, the nearest name."""

from __future__ import annotations

import pytest

from lstmcls.cli import BadInput, Parser, nearest, run


def parser() -> Parser:
    whole = Parser(prog="it")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("make")
    make.add_argument("what")
    make.add_argument("--colour", choices=("red", "green"))
    commands.add_parser("list")
    return whole


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("make it --color red", ("unrecognized arguments: --color", "did you mean '--colour'?")),
        ("make it --colour gren", ("invalid choice: 'gren'", "did you mean 'green'?")),
        ("lst", ("invalid choice: 'lst'", "did you mean 'list'?")),
        ("make", ("arguments are required: what", "it make --help tells more")),
        ("make it now", ("unrecognized arguments: now", "it --help tells more")),
    ],
)
def test_arguments_that_do_not_fit(words: str, says: tuple[str, str]) -> None:
    with pytest.raises(BadInput) as fault:
        parser().parse_args(words.split())
    (message,) = fault.value.messages
    assert says[0] in message
    assert message.endswith(says[1])


def test_a_message_may_quote_anything(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> int:
        raise BadInput("a.csv: no column (columns: \x1b[31m\x00é)")

    with pytest.raises(SystemExit) as ended:
        run(failing)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: a.csv: no column (columns: �[31m�é)\n"


def test_initials_are_near() -> None:
    assert nearest("learning_rate", ["lr", "layers"]) == "; did you mean 'lr'?"
    assert nearest("nothing", ["lr"]) == ""
