"""`atomiclm compare PATH ...`: what became of a study's runs, and what they say, with error bars."""

import argparse
import sys
from collections.abc import Sequence
from errno import EISDIR, ENOENT, ENOTDIR
from pathlib import Path
from typing import get_args

from rich.console import Console

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError, command, command_parser, format_error, say_if_slow
from atomiclm.comparison.analysis import compare_runs
from atomiclm.comparison.export import (
    csv_text,
    to_csv,
    to_csv_of_effects,
    to_csv_of_runs,
    to_json_text,
    to_markdown,
)
from atomiclm.comparison.results import Comparison, FigureKind
from atomiclm.comparison.runs import read_plan, read_runs
from atomiclm.comparison.terminal import print_factors, print_terminal

BROKEN = ("failed", "diverged", "torn")

EXAMPLES = """\
examples:
  atomiclm compare outputs/gqa_ratio
  atomiclm compare outputs/gqa_ratio --html page.html --figure arms.svg
  atomiclm compare outputs/gqa_ratio --format json

Exit codes: 0 nothing is broken (runs may still be missing, running or interrupted), 1 a run failed, diverged or is
torn, 2 the arguments are wrong or the runs cannot be compared."""


_TEXTS = {
    "markdown": to_markdown,
    "csv": to_csv,
    "runs": to_csv_of_runs,
    "effects": to_csv_of_effects,
    "json": to_json_text,
}


def parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "compare",
        "Compare the arms of a study with its baseline, paired by seed: means and differences with\n"
        "their intervals, and a verdict. What is missing or failed comes first, with the command that\n"
        "finishes it.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="a folder of runs (outputs/gqa_ratio) or one run")
    add(
        "--format",
        choices=("terminal", *_TEXTS),
        default="terminal",
        help="csv: one line per arm; runs: one line per run, every figure, as CSV; effects: one line per effect or "
        "interaction of a sweep over several factors, as CSV (default terminal)",
    )
    add("--details", action="store_true", help="of a sweep over several factors also every arm against the baseline")
    add("--html", metavar="FILE", type=Path, help="also write one self-contained page")
    add(
        "--figure",
        metavar="FILE",
        type=Path,
        help="also write a picture, .svg, .png or .pdf, and beside it its numbers as .csv",
    )
    add(
        "--figure-kind",
        choices=get_args(FigureKind),
        help="of the picture: arms with their intervals; of a sweep over several factors also their effects (the "
        "default there), a heatmap, their interactions, learning curves by factor, or quality against cost",
    )
    add("--wandb", action="store_true", help="also write verdict and difference into the W&B summary of each run")
    add("-q", "--quiet", action="store_true", help="print results and errors, not what is being done")
    add("--metric", help="figure of summary.json that decides (default: the study's, else validation/bits_per_byte)")
    add(
        "--baseline",
        metavar="ARM",
        help="the arm that others are held against: its name, or key=value (default: the study's, else the first)",
    )
    add("--margin", type=float, help="smallest difference that matters; below it arms are called equivalent")
    add("--alpha", type=float, default=0.05, help="chance of error; 0.05 makes intervals of 95 %%")
    return parser


@command("compare")
def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    with say_if_slow(f"reading {' '.join(arguments.paths)}", quiet=arguments.quiet):
        comparison = compare_runs(
            read_runs(arguments.paths),
            read_plan(arguments.paths),
            metric=arguments.metric,
            margin=arguments.margin,
            alpha=arguments.alpha,
            baseline=arguments.baseline,
        )
    files = [str(file) for file in (arguments.html, arguments.figure) if file]
    with say_if_slow(f"drawing {' and '.join(files)}", quiet=arguments.quiet or not files):
        _write_files(comparison, arguments.html, arguments.figure, arguments.figure_kind)
    if arguments.format == "terminal":
        console = Console(highlight=False)
        if comparison.factors and not arguments.details:
            print_factors(comparison, comparison.factors, console)
        else:
            print_terminal(comparison, console)
    else:
        print(_TEXTS[arguments.format](comparison), end="")
    if arguments.format == "csv":
        for run in comparison.unfinished:  # a line an arm has no room for them, and they must not vanish
            print(f"not in the table: {run.state} {run.run} {run.error}".rstrip(), file=sys.stderr)
    if arguments.wandb:
        from atomiclm.sync import send_verdicts

        sys.stdout.flush()
        print(send_verdicts(comparison, arguments.quiet), file=sys.stderr)
    return int(any(run.state in BROKEN for run in comparison.unfinished))


def _write_files(comparison: Comparison, html: Path | None, figure: Path | None, kind: FigureKind | None) -> None:
    try:
        if html is not None:
            from atomiclm.comparison.page import write_page  # a second to import

            write_page(comparison, html)
        if figure is not None:
            from atomiclm.comparison.charts import save
            from atomiclm.comparison.factor_charts import draw_figure

            drawn, rows = draw_figure(comparison, kind)
            save(drawn, figure)
            write_atomic(figure.with_suffix(".csv"), csv_text(rows).encode())
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR, EISDIR):
            raise UserError(f"{format_error(error)}; give a file in a folder that is there") from error
        raise


if __name__ == "__main__":
    sys.exit(main())
