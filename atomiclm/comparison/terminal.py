"""A comparison in a terminal: what is missing, the table of arms, what was predicted, what to know."""

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atomiclm.comparison.arms import MOST_NAMED
from atomiclm.comparison.factor_tables import arm_fields, verdict_blocks
from atomiclm.comparison.results import Comparison, FactorReport
from atomiclm.comparison.tables import (
    Field,
    about,
    closing,
    cost_lines,
    costs,
    notes,
    prediction_lines,
    quality,
    settings,
)

STATES = {
    "failed": "bold red",
    "diverged": "bold red",
    "torn": "bold red",
    "running": "cyan",
    "interrupted": "yellow",
    "missing": "yellow",
}
VERDICTS = {"better": "bold green", "worse": "bold red", "equivalent": "cyan", "inconclusive": "yellow"}
MOST_UNFINISHED = 12
"""Runs that are listed one by one; the study's own command finishes the rest as well."""

_GAP = 2
"""Characters between columns: one of padding, one of the box."""


def print_terminal(comparison: Comparison, console: Console) -> None:
    """Print the comparison. Numbers are never cut: columns that find no room go to a further table below."""
    if comparison.study.question:
        console.print(Text(f"{comparison.name}: {comparison.study.question}", style="bold"))
    if comparison.unfinished:
        _print_unfinished(comparison, console)
    if not any(arm.runs for arm in comparison.arms):
        console.print(f"No finished run among {len(comparison.unfinished)}: nothing to compare yet.")
        return
    for table in _tables(comparison, console.width):
        console.print()
        console.print(table)
    if len(comparison.columns) > MOST_NAMED:
        console.print()
        console.print(_settings(comparison, console.width))
    console.print()
    for line in prediction_lines(comparison):
        console.print(Text(line))
    for line in (*cost_lines(comparison), *notes(comparison), *closing(comparison)):
        console.print(Text(line, style="dim"))


def print_factors(comparison: Comparison, report: FactorReport, console: Console) -> None:
    """Print a sweep over several factors: its arms, a line each, best first; then which factors mattered."""
    states = Counter(run.state for run in comparison.unfinished)
    ended = sum(len(arm.runs) for arm in comparison.arms)
    counts = [f"{ended} of {ended + states.total()} runs", *(f"{count} {state}" for state, count in states.items())]
    console.print(Text(f"{comparison.name}: {', '.join(counts)}; {comparison.direction} is better", style="bold"))
    console.print(_plain_table(arm_fields(comparison, report), console.width))
    if waiting := sum(not arm.runs and not arm.diverged for arm in comparison.arms):
        console.print(Text(f"{waiting} arms have no finished run", style="dim"))
    console.print()
    style = ""
    for block in verdict_blocks(comparison, report):
        if isinstance(block, str):
            console.print(Text(block, style=style))
        else:
            console.print(_plain_table(block, console.width))
            style = "dim"
    if states and comparison.command:
        console.print(Text("to go on: ").append(comparison.command, style="dim"), soft_wrap=True)
    console.print(Text("--details: every arm against the baseline, costs, anchors, what is missing", style="dim"))


def _plain_table(fields: Sequence[Field], width: int) -> Table:
    """A table whose words may fold where the terminal is narrow, and whose numbers are never cut."""
    table = _empty()
    for field in fields:
        table.add_column(
            field.heading, justify="right" if field.is_number else "left", no_wrap=field.is_number, overflow="fold"
        )
    for row in zip(*(field.cells for field in fields), strict=True):
        table.add_row(*(Text(cell, style=VERDICTS.get(cell, "")) for cell in row))
    return table


def _print_unfinished(comparison: Comparison, console: Console) -> None:
    runs = comparison.unfinished
    console.print(Text(f"Not in the table: {len(runs)}", style="bold"))
    for run in runs[:MOST_UNFINISHED]:
        state, name, progress, error = about(run)
        text = Text("  ").append(f"{state:<11} ", style=STATES.get(state, "")).append(name)
        console.print(text.append(f"  {progress}", style="dim") if progress else text)
        if error:
            console.print(Text(f"    {error}", style="red"))
        # A command is to be copied: it is not wrapped, and stands alone on its line.
        if run.command:
            console.print(Text(f"    {run.command}", style="dim"), soft_wrap=True)
    if len(runs) > MOST_UNFINISHED:
        console.print(Text(f"  and {len(runs) - MOST_UNFINISHED} more"))
    if comparison.command:
        console.print(Text("  all of them: ").append(comparison.command, style="dim"), soft_wrap=True)


def _tables(comparison: Comparison, width: int) -> list[Table]:
    """One table, or quality and costs apart, or as many as it takes for no number to be cut."""
    names = Field("arm", [arm.name for arm in comparison.arms], is_number=False)
    room = width - _width_of_names(names, width)
    parts = _packed([*quality(comparison), *costs(comparison)], room)
    if len(parts) > 1:
        parts = [*_packed(quality(comparison), room), *_packed(costs(comparison), room)]
    return [_table(comparison, [names, *part], width) for part in parts]


def _packed(columns: Sequence[Field], room: int) -> list[list[Field]]:
    """The columns in as few lists as have room."""
    parts: list[list[Field]] = [[]]
    for column in columns:
        if parts[-1] and sum(_GAP + _width(other) for other in (*parts[-1], column)) > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _width_of_names(names: Field, width: int) -> int:
    """All of them where there is room, else folded to a third of the terminal."""
    return min(_width(names), max(12, width // 3))


def _width(column: Field) -> int:
    return max(len(line) for cell in (column.heading, *column.cells) for line in cell.split("\n"))


def _empty() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")


def _table(comparison: Comparison, columns: Sequence[Field], width: int) -> Table:
    table = _empty()
    for column in columns:
        if column is columns[0]:
            table.add_column("arm", overflow="fold", style="cyan", width=_width_of_names(column, width))
        else:
            table.add_column(column.heading, justify="right" if column.is_number else "left", no_wrap=True)
    for index, arm in enumerate(comparison.arms):
        cells = [Text(column.cells[index], style=VERDICTS.get(column.cells[index], "")) for column in columns]
        table.add_row(*cells, style="bold" if arm.name == comparison.baseline else None)
    return table


def _settings(comparison: Comparison, width: int) -> Table:
    """The differing settings of many: one a row where the arms have room as columns, else one arm a row."""
    columns = settings(comparison)
    table = _empty()
    names = [arm.name for arm in comparison.arms]
    arms = [Field(name, [column.cells[index] for column in columns]) for index, name in enumerate(names)]
    keys = Field("setting", [column.key for column in comparison.columns], is_number=False)
    if columns and sum(_GAP + _width(field) for field in (keys, *arms)) <= width + _GAP:
        table.add_column("setting", style="cyan", overflow="fold")
        for arm in arms:
            table.add_column(arm.heading)
        for index, key in enumerate(keys.cells):
            table.add_row(key, *(Text(arm.cells[index]) for arm in arms))
        return table
    table.add_column("arm", style="cyan", overflow="fold")
    table.add_column("settings", overflow="fold")
    for index, name in enumerate(names):
        given = [(key, column.cells[index]) for key, column in zip(keys.cells, columns, strict=False)]
        words = [f"{key.removesuffix('._target_')}={value}" for key, value in given if value != "-"]
        table.add_row(Text(name), Text(" ".join(words)))
    return table
