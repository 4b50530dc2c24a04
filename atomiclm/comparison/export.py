"""A comparison as text for a README or another program: Markdown, CSV with a line an arm or a line a run, JSON."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from atomiclm.atomic_io import to_json
from atomiclm.cli import UserError
from atomiclm.comparison import tables
from atomiclm.comparison.factor_tables import arm_fields, verdict_blocks
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.comparison.runs import numbers_of
from atomiclm.comparison.tables import Field
from atomiclm.comparison.wording import COSTS
from atomiclm.tracking.run_result import RunResult

_MEASURED = ("validation/bits_per_byte", "validation/loss")


def to_markdown(comparison: Comparison) -> str:
    """What is missing, the table of arms, what was predicted, the notes."""
    lines = []
    if comparison.study.question:
        lines += [f"**{_markdown_text(comparison.study.question)}**", ""]
    if comparison.unfinished:
        lines += ["Not in the table:", ""]
        for run in comparison.unfinished:
            lines.append(f"- {_markdown_text('  '.join(part for part in tables.about(run) if part))}")
            if run.command:
                lines.append(f"  `{run.command}`")
        lines += [f"- all of them: `{comparison.command}`"] if comparison.command else []
        lines.append("")
    if not any(arm.runs for arm in comparison.arms):
        return "\n".join([*lines, "No finished run: nothing to compare yet.", ""])
    if comparison.factors:
        for said in verdict_blocks(comparison, comparison.factors):
            lines += [_markdown_text(said), ""] if isinstance(said, str) else [*_markdown_table(said), ""]
        lines += [*_markdown_table(arm_fields(comparison, comparison.factors)), ""]
    names = tables.names(comparison)
    lines += [*_markdown_table([names, *tables.quality(comparison), *tables.costs(comparison)]), ""]
    if many := tables.many_settings(comparison):
        lines += [*_markdown_table([names, *many]), ""]
    for block in filter(None, tables.statements(comparison)):
        lines += [*(f"{_markdown_text(line)}  " for line in block), ""]
    return "\n".join(lines)


def to_csv(comparison: Comparison) -> str:
    """One line an arm, full names and unrounded numbers; an empty field where there is no number."""
    measured = list(dict.fromkeys((comparison.metric, *_MEASURED)))
    rows = []
    for arm in comparison.arms:
        levels = _levels(comparison, arm)
        row: dict[str, Any] = {"arm": arm.name, **levels, **arm.values}
        row |= {"seeds": len(arm.runs), "diverged": len(arm.diverged), "planned": arm.planned}
        for name in measured:
            spread = arm.figures.get(name)
            row |= {name: spread.mean if spread else None, f"{name} sd": spread.deviation if spread else None}
        row["half_width"] = arm.figures[comparison.metric].half_width
        contrast = arm.contrast
        for name in ("mean", "low", "high", "p", "p_holm", "p_equivalence", "correlation", "seeds_needed"):
            row["difference" if name == "mean" else name] = getattr(contrast, name) if contrast else None
        row |= {"verdict": arm.verdict, "expected": arm.expected, "outcome": arm.outcome}
        row |= {name: _whole(arm.figures[name].mean) for name in COSTS if name not in measured}
        rows.append(row)
    return csv_text(rows)


def _levels(comparison: Comparison, arm: Arm) -> dict[str, str]:
    """The arm's level by factor; one that is named as a column is gets another heading."""
    levels = comparison.factors.levels_of(arm.name) if comparison.factors else {}
    taken = ("arm", "seed", "run", "state", "seeds", "diverged", "planned", "verdict", "expected", "outcome")
    return {f"factor {name}" if name in taken else name: level for name, level in levels.items()}


def to_csv_of_runs(comparison: Comparison) -> str:
    """One line a run, every number of its summary: what a study commits as `results.csv`.

    A run that did not end has its state, and no figures but those of how far it came.
    """
    rows = []
    for arm in comparison.arms:
        for run in (*arm.runs, *arm.diverged):
            row = {"arm": arm.name, "seed": run.seed, "run": run.folder.run_id, "state": run.state}
            levels = _levels(comparison, arm)
            rows.append({**row, **levels, **arm.values, **_numbers(run)})
    known = {row["run"] for row in rows}
    for missing in comparison.unfinished:
        if missing.run not in known:
            rows.append({"arm": missing.arm, "seed": missing.seed, "run": missing.run, "state": missing.state})
    return csv_text(rows)


def to_csv_of_effects(comparison: Comparison) -> str:
    """One line an interaction of two factors, a simple effect where there is one, and a main effect."""
    report = comparison.factors
    if report is None:
        raise UserError("--format: effects takes a sweep over at least two factors with figures; give csv or runs")
    rows: list[dict[str, Any]] = []
    for one in report.interactions:
        tested = ("statistic", "numerator", "denominator", "p", "p_holm", "note")
        row = {"kind": "interaction", "factor": one.factors[0], "with": one.factors[1], "level": "", "against": ""}
        rows.append(row | {name: getattr(one, name) for name in tested})
        rows += [{"kind": "simple effect", **asdict(effect)} for effect in one.effects]
    rows += [{"kind": "main effect", **asdict(effect)} for effect in report.effects]
    return csv_text(rows)


def seed_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """What the figure of arms draws: the mean of each, its interval, and the figure of each seed."""
    rows = []
    for arm in comparison.arms:
        if arm.runs:
            spread = arm.figures[comparison.metric]
            row = {"arm": arm.name, "mean": spread.mean, "half_width": spread.half_width, "verdict": arm.verdict}
            rows.append(row | {f"seed {run.seed}": run.summary[comparison.metric] for run in arm.runs})
    return rows


def to_json_text(comparison: Comparison) -> str:
    """Everything: each figure of each run, and its folder; a number that is none is null."""
    return to_json(_plain(comparison), indent=2).decode() + "\n"


def _plain(value: Any) -> Any:
    """Containers of containers; a run as its folder, state, seed and figures."""
    if isinstance(value, RunResult):
        numbers = {name: _plain(number) for name, number in _numbers(value).items()}
        return {"run": str(value.folder.path), "state": value.state, "seed": value.seed, "figures": numbers}
    if is_dataclass(value) and not isinstance(value, type):
        plain = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {**plain, "verdict": value.verdict} if hasattr(value, "verdict") else plain
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(run: RunResult) -> dict[str, float]:
    return {name: _whole(number) for name, number in numbers_of(run).items()}


def _whole(value: float) -> float | int:
    """Counts as the whole numbers they are; a mean made them floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        is_there = {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}
        writer.writerow(is_there)
    return stream.getvalue()


def _markdown_table(columns: list[Field]) -> list[str]:
    lines = ["| " + " | ".join(_markdown_text(column.heading) for column in columns) + " |"]
    lines.append("|" + "".join(" ---: |" if column.is_number else " --- |" for column in columns))
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines.append("| " + " | ".join(_markdown_text(cell) for cell in cells) + " |")
    return lines


def _markdown_text(text: str) -> str:
    """`text` inside a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
