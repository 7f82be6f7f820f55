"""`python -m tune.report`: RUN/report.html again."""

from __future__ import annotations

from pathlib import Path

from lstmcls.cli import OK, Parser, run
from tune.report.document import write_report
from tune.run_folder import existing_run


def main() -> int:
    parser = Parser(
        prog="python -m tune.report",
        description="Draw RUN/report.html: one page about a search, finished or not.",
        epilog="example:\n  python -m tune.report results/full-20260101-120000",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a search")
    print(f"report: {write_report(existing_run(parser.parse_args().run))}")
    return OK


if __name__ == "__main__":
    run(main)
