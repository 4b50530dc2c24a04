"""A comparison in Markdown, for a README or an issue."""

from atomiclm.comparison.comparison import Comparison
from atomiclm.comparison.grouping import MOST_NAMED
from atomiclm.comparison.report import (
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


def to_markdown(comparison: Comparison) -> str:
    """What is missing, the table of arms, what was predicted, the notes."""
    lines = []
    if comparison.study.question:
        lines += [f"**{_text(comparison.study.question)}**", ""]
    if comparison.unfinished:
        lines += ["Not in the table:", ""]
        for run in comparison.unfinished:
            lines.append(f"- {_text('  '.join(part for part in about(run) if part))}")
            if run.command:
                lines.append(f"  `{run.command}`")
        lines += [f"- all of them: `{comparison.command}`"] if comparison.command else []
        lines.append("")
    if not any(arm.runs for arm in comparison.arms):
        return "\n".join([*lines, "No finished run: nothing to compare yet.", ""])
    names = Field("arm", [arm.name for arm in comparison.arms], is_number=False)
    lines += [*_table([names, *quality(comparison), *costs(comparison)]), ""]
    if len(comparison.columns) > MOST_NAMED:
        lines += [*_table([names, *settings(comparison)]), ""]
    for block in (prediction_lines, cost_lines, notes, closing):
        found = [f"{_text(line)}  " for line in block(comparison)]
        lines += [*found, ""] if found else []
    return "\n".join(lines)


def _table(columns: list[Field]) -> list[str]:
    lines = ["| " + " | ".join(_text(column.heading) for column in columns) + " |"]
    lines.append("|" + "".join(" ---: |" if column.is_number else " --- |" for column in columns))
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines.append("| " + " | ".join(_text(cell) for cell in cells) + " |")
    return lines


def _text(text: str) -> str:
    """`text` inside a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
