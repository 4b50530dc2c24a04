"""`python -m atomiclm.compare PATH ...`: what became of runs, as a table with mean and spread over seeds."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from atomiclm.study.render import print_terminal, to_csv, to_json_text, to_markdown
from atomiclm.study.runs import read_runs
from atomiclm.study.table import MEASURED, compare_runs

BROKEN = ("failed", "diverged", "torn")

EXIT_CODES = """\
Exit codes: 0 nothing is broken (runs may still be running or interrupted), 1 a run failed, diverged or is torn,
2 the arguments are wrong or the runs cannot be compared."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m atomiclm.compare",
        description="Compare runs: one row a variant (runs that differ only in the seed), best mean first; "
        "runs that did not finish are listed before it.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="a folder of runs (outputs/gqa_ratio) or one run")
    command.add_argument(
        "--metric",
        default=MEASURED[0],
        help=f"figure of summary.json to sort by, smallest first, and to show first (default {MEASURED[0]})",
    )
    command.add_argument("--format", choices=("terminal", "markdown", "csv", "json"), default="terminal")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        comparison = compare_runs(read_runs(arguments.paths), arguments.metric)
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    if arguments.format == "terminal":
        print_terminal(comparison, Console(highlight=False))
    elif arguments.format == "markdown":
        print(to_markdown(comparison), end="")
    elif arguments.format == "json":
        print(to_json_text(comparison), end="")
    else:
        print(to_csv(comparison), end="")
        for run in comparison.unfinished:  # a CSV has no room for them, and they must not vanish
            print(f"not in the table: {run.state} {run.folder.path} {run.error}".rstrip(), file=sys.stderr)
    return int(any(run.state in BROKEN for run in comparison.unfinished))


if __name__ == "__main__":
    sys.exit(main())
