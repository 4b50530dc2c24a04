"""A comparison in a terminal: what is missing, the table of arms, what was predicted, what to know."""

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atomiclm.comparison import tables
from atomiclm.comparison.factor_tables import arm_fields, keys_line, verdict_blocks
from atomiclm.comparison.results import Comparison, FactorReport
from atomiclm.comparison.tables import Field, under_trained

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
    if many := tables.many_settings(comparison):
        console.print()
        console.print(_settings(comparison, many, console.width))
    console.print()
    for at, lines in enumerate(tables.statements(comparison)):
        for line in lines:
            console.print(Text(line, style="dim" if at else ""))


def print_factors(comparison: Comparison, report: FactorReport, console: Console) -> None:
    """Print a sweep over several factors: its arms, a line each, best first; then which factors mattered."""
    states = Counter(run.state for run in comparison.unfinished)
    ended = sum(len(arm.runs) for arm in comparison.arms)
    counts = [f"{ended} of {ended + states.total()} runs", *(f"{count} {state}" for state, count in states.items())]
    console.print(Text(f"{comparison.name}: {', '.join(counts)}; {comparison.direction} is better", style="bold"))
    console.print(_table(arm_fields(comparison, report), room=console.width))
    if waiting := sum(not arm.runs and not arm.diverged for arm in comparison.arms):
        console.print(Text(f"arms without a finished run: {waiting}", style="dim"))
    console.print()
    style = ""
    for block in verdict_blocks(comparison, report):
        if isinstance(block, str):
            console.print(Text(block, style=style))
        else:
            console.print(_table(block, room=console.width))
            style = "dim"
    for line in (keys_line(report), under_trained(comparison)):
        if line:
            console.print(Text(line, style="dim"))
    if states and comparison.command:
        console.print(Text("to go on: ").append(comparison.command, style="dim"), soft_wrap=True)
    console.print(Text("--details: every arm against the baseline, costs, anchors, what is missing", style="dim"))


def _table(fields: Sequence[Field], name_width: int | None = None, bold: int | None = None, room: int = 0) -> Table:
    """A table whose texts may fold where the terminal is narrow, and whose numbers are never cut.

    Args:
        name_width: of the first column; None as wide as it takes.
        bold: a row.
        room: the width there is; where all words fit into it, texts fold between words only.
    """
    words = [_width(field) if field.is_number else max(map(len, _words(field)), default=0) for field in fields]
    all_fit = sum(_GAP + width for width in words) <= room + _GAP
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for at, field in enumerate(fields):
        is_name = at == 0 and name_width is not None
        table.add_column(
            field.heading,
            justify="right" if field.is_number else "left",
            no_wrap=field.is_number or (all_fit and not any(" " in cell for cell in field.cells)),
            overflow="fold",
            style="cyan" if is_name else None,
            width=name_width if is_name else None,
        )
    for index, row in enumerate(zip(*(field.cells for field in fields), strict=True)):
        cells = [Text(cell, style=VERDICTS.get(cell, "")) for cell in row]
        table.add_row(*cells, style="bold" if index == bold else None)
    return table


def _print_unfinished(comparison: Comparison, console: Console) -> None:
    runs = comparison.unfinished
    console.print(Text(f"Not in the table: {len(runs)}", style="bold"))
    for run in runs[:MOST_UNFINISHED]:
        state, name, progress, error = tables.about(run)
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
    names = tables.names(comparison)
    name_width = min(_width(names), max(12, width // 3))
    kinds = tables.quality(comparison), tables.costs(comparison)
    parts = _packed([*kinds[0], *kinds[1]], width - name_width)
    if len(parts) > 1:
        parts = [part for kind in kinds for part in _packed(kind, width - name_width)]
    bold = next((at for at, name in enumerate(names.cells) if name == comparison.baseline), None)
    return [_table([names, *part], name_width, bold) for part in parts]


def _packed(columns: Sequence[Field], room: int) -> list[list[Field]]:
    """The columns in as few lists as have room."""
    parts: list[list[Field]] = [[]]
    for column in columns:
        if parts[-1] and sum(_GAP + _width(other) for other in (*parts[-1], column)) > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _words(column: Field) -> list[str]:
    return [word for text in (column.heading, *column.cells) for word in text.split()]


def _width(column: Field) -> int:
    return max(len(line) for cell in (column.heading, *column.cells) for line in cell.split("\n"))


def _settings(comparison: Comparison, columns: Sequence[Field], width: int) -> Table:
    """The differing settings of many: one a row where the arms have room as columns, else one arm a row."""
    keys = [column.key for column in comparison.columns]
    by_arm = list(zip(*(column.cells for column in columns), strict=True))
    fields = [Field("setting", keys, is_number=False)]
    fields += [Field(arm.name, cells, is_number=False) for arm, cells in zip(comparison.arms, by_arm, strict=True)]
    if sum(_GAP + _width(field) for field in fields) <= width + _GAP:
        return _table(fields)
    words = [
        " ".join(
            f"{key.removesuffix('._target_')}={value}" for key, value in zip(keys, own, strict=True) if value != "-"
        )
        for own in by_arm
    ]
    names = tables.names(comparison)
    return _table([names, Field("settings", words, is_number=False)], min(_width(names), max(12, width // 3)))
